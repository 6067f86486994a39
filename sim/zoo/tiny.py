"""Networks for microcontrollers: ResNet8 and DS-CNN of MLPerf Tiny, without batch norm.

Training there sees one sample at a time, of which batch norm has no statistics worth the name; its
scale and shift are a convolution's weights and bias here.
"""

from __future__ import annotations

from sim.model import INPUT, ModelBuilder
from sim.zoo.registry import ModelInfo, Published


def _conv(b: ModelBuilder, x: str, width: int, k: int, name: str, stride: int = 1) -> str:
    return b.conv(x, width, k, stride=stride, pad=k // 2, bias=True, name=name)


def _resnet8(b: ModelBuilder, classes: int) -> str:
    x = b.relu(_conv(b, INPUT, 16, 3, "conv1"), name="conv1/relu")
    for stage, width in enumerate((16, 32, 64), 1):
        stride = 1 if stage == 1 else 2
        at = f"stack{stage}"
        y = b.relu(_conv(b, x, width, 3, f"{at}/conv1", stride), name=f"{at}/conv1/relu")
        y = _conv(b, y, width, 3, f"{at}/conv2")
        if stride != 1:
            x = _conv(b, x, width, 1, f"{at}/shortcut", stride)
        x = b.relu(b.sum([x, y], name=f"{at}/add"), name=f"{at}/relu")
    x = b.flatten(b.global_avg_pool(x, name="avgpool"), name="flatten")
    return b.linear(x, classes, bias=True, name="fc")


def _ds_cnn(b: ModelBuilder, classes: int) -> str:
    x = b.conv(INPUT, 64, (10, 4), stride=2, pad=(5, 1), bias=True, name="conv0")
    x = b.relu(x, name="conv0/relu")
    for i in range(1, 5):
        x = b.conv(x, 64, 3, pad=1, groups=0, bias=True, name=f"block{i}/dw")
        x = b.relu(x, name=f"block{i}/dw/relu")
        x = b.relu(_conv(b, x, 64, 1, f"block{i}/pw"), name=f"block{i}/pw/relu")
    x = b.flatten(b.global_avg_pool(x, name="avgpool"), name="flatten")
    return b.linear(x, classes, bias=True, name="fc")


_TINY = "mlcommons/tiny benchmark/training"

ENTRIES = (
    ModelInfo(
        "resnet8",
        "ResNet8 of MLPerf Tiny for 32x32 images, without batch norm",
        *(3, 32, 10, f"{_TINY}/image_classification/keras_model.py"),
        params=Published(77_706, 1, "78,666 less 960 of batch norm, four for each of 240 channels"),
        macs=Published(12_500_000, 10_000, "MLPerf Tiny image classification, per inference"),
        wiring=_resnet8,
    ),
    ModelInfo(
        "ds-cnn",
        "DS-CNN of MLPerf Tiny for keyword spotting: 49 frames of 10 features, without batch norm",
        *(1, 49, 12, f"{_TINY}/keyword_spotting/keras_model.py"),
        params=Published(
            22_604, 1, "24,908 less 2,304 of batch norm, four for each of 576 channels"
        ),
        macs=Published(2_660_000, 10_000, "MLPerf Tiny keyword spotting, per inference"),
        wiring=_ds_cnn,
        columns=10,
    ),
)
