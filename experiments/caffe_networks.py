"""AlexNet, GoogLeNet and ResNet-50 as Caffe defined them, which ncnn's benchmark runs.

The zoo has torchvision's versions: an AlexNet in one tower, a GoogLeNet whose 5x5 branch has 3x3
kernels, a ResNet-50 with its strides in the 3x3 convolutions. Times of ncnn are of the networks
here. Local response normalisation is left out: it has no MACs, and no operator in this house.

Source: Tencent/ncnn benchmark/alexnet.param, googlenet.param, resnet50.param.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sim.model import INPUT, ForwardModel, ModelBuilder
from sim.zoo.inception import GOOGLENET

CLASSES: Final = 1000
STAGES: Final = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""ResNet-50: width, blocks, stride of the first block."""


def _alexnet(b: ModelBuilder) -> str:
    x = b.max_pool(b.conv(INPUT, 96, 11, stride=4), 3, 2)
    x = b.max_pool(b.conv(x, 256, 5, pad=2, groups=2), 3, 2)
    x = b.conv(x, 384, 3, pad=1)
    x = b.conv(x, 384, 3, pad=1, groups=2)
    x = b.max_pool(b.conv(x, 256, 3, pad=1, groups=2), 3, 2)
    return b.linear(b.linear(b.linear(b.flatten(x), 4096), 4096), CLASSES)


def _googlenet(b: ModelBuilder) -> str:
    x = b.max_pool(b.conv(INPUT, 64, 7, stride=2, pad=3), 3, 2, ceil_mode=True)
    x = b.max_pool(b.conv(b.conv(x, 64, 1), 192, 3, pad=1), 3, 2, ceil_mode=True)
    for name, (one, reduce3, three, reduce5, five, projection) in GOOGLENET.items():
        branches = (
            b.conv(x, one, 1),
            b.conv(b.conv(x, reduce3, 1), three, 3, pad=1),
            b.conv(b.conv(x, reduce5, 1), five, 5, pad=2),
            b.conv(b.max_pool(x, 3, 1, pad=1), projection, 1),
        )
        x = b.concat(branches)
        if name in ("3b", "4e"):
            x = b.max_pool(x, 3, 2, ceil_mode=True)
    return b.linear(b.flatten(b.global_avg_pool(x)), CLASSES)


def _resnet50(b: ModelBuilder) -> str:
    x = b.max_pool(b.conv(INPUT, 64, 7, stride=2, pad=3), 3, 2, ceil_mode=True)
    for width, blocks, first in STAGES:
        for index in range(blocks):
            stride = 1 if index else first
            y = b.conv(b.conv(x, width, 1, stride=stride), width, 3, pad=1)
            y = b.conv(y, 4 * width, 1)
            x = b.sum([x if index else b.conv(x, 4 * width, 1, stride=stride), y])
    return b.linear(b.flatten(b.global_avg_pool(x)), CLASSES)


WIRINGS: Final[Mapping[str, tuple[int, Callable[[ModelBuilder], str]]]] = {
    "alexnet": (227, _alexnet),
    "googlenet": (224, _googlenet),
    "resnet50": (224, _resnet50),
}
"""Image size and layers, by the zoo's name of the network."""


def caffe_model(name: str) -> ForwardModel:
    """Return Caffe's version of a network at batch 1; KeyError where ncnn runs the zoo's.

    Examples
    --------
    >>> caffe_model("alexnet").macs
    724406816
    """
    image, wiring = WIRINGS[name]
    builder = ModelBuilder(name, (1, 3, image, image), "Tencent/ncnn benchmark")
    return builder.build(wiring(builder))
