"""Depthwise separable networks: MobileNet v1 and v2."""

from __future__ import annotations

from sim.model import INPUT, ModelBuilder
from sim.zoo.registry import ModelInfo, Published, torchvision

_V1 = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
"""Width and stride of each separable block (arXiv 1704.04861, table 1)."""

_V2 = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
"""Expansion, width, repeats, first stride (arXiv 1801.04381, table 2)."""


def _conv(
    b: ModelBuilder, x: str, width: int, k: int, name: str, *, stride: int = 1, depthwise: bool
) -> str:
    groups = 0 if depthwise else 1
    x = b.conv(x, width, k, stride=stride, pad=k // 2, groups=groups, name=name)
    return b.batch_norm(x, name=f"{name}/bn")


def _head(b: ModelBuilder, x: str, classes: int) -> str:
    x = b.flatten(b.global_avg_pool(x, name="avgpool"), name="flatten")
    return b.linear(b.dropout(x, name="dropout"), classes, bias=True, name="fc")


def _mobilenet_v1(b: ModelBuilder, classes: int) -> str:
    x = b.relu(_conv(b, INPUT, 32, 3, "conv0", stride=2, depthwise=False), name="conv0/relu")
    for i, (width, stride) in enumerate(_V1, 1):
        at = f"block{i}"
        channels = b.shape(x)[1]
        x = _conv(b, x, channels, 3, f"{at}/dw", stride=stride, depthwise=True)
        x = b.relu(x, name=f"{at}/dw/relu")
        x = _conv(b, x, width, 1, f"{at}/pw", depthwise=False)
        x = b.relu(x, name=f"{at}/pw/relu")
    return _head(b, x, classes)


def _inverted(b: ModelBuilder, x: str, expand: int, width: int, stride: int, at: str) -> str:
    channels = b.shape(x)[1]
    hidden = expand * channels
    y = x
    if expand != 1:
        y = b.relu6(_conv(b, y, hidden, 1, f"{at}/expand", depthwise=False), f"{at}/expand/relu")
    y = _conv(b, y, hidden, 3, f"{at}/dw", stride=stride, depthwise=True)
    y = b.relu6(y, name=f"{at}/dw/relu")
    y = _conv(b, y, width, 1, f"{at}/project", depthwise=False)
    return b.sum([x, y], name=f"{at}/add") if stride == 1 and channels == width else y


def _mobilenet_v2(b: ModelBuilder, classes: int) -> str:
    x = b.relu6(_conv(b, INPUT, 32, 3, "conv0", stride=2, depthwise=False), name="conv0/relu")
    for stage, (expand, width, repeats, first_stride) in enumerate(_V2, 1):
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            x = _inverted(b, x, expand, width, stride, f"block{stage}-{index}")
    x = b.relu6(_conv(b, x, 1280, 1, "conv_last", depthwise=False), name="conv_last/relu")
    return _head(b, x, classes)


_V1_TABLE = "tensorflow/models research/slim/nets/mobilenet_v1.md, MobileNet_v1_1.0_224"

ENTRIES = (
    ModelInfo(
        "mobilenet-v1",
        "MobileNet v1, width 1.0, for ImageNet",
        *(3, 224, 1000, "Howard et al. 2017 (arXiv 1704.04861), table 1"),
        params=Published(4_231_976, 1, "Keras Applications MobileNet, trainable parameters"),
        macs=Published(569_000_000, 1_000_000, _V1_TABLE),
        wiring=_mobilenet_v1,
    ),
    ModelInfo(
        "mobilenet-v2",
        "MobileNet v2, width 1.0, for ImageNet",
        *(3, 224, 1000, "torchvision/models/mobilenetv2.py (mobilenet_v2)"),
        *torchvision(3_504_872, 301),
        wiring=_mobilenet_v2,
    ),
)
