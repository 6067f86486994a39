"""Networks without branches: LeNet, VGG, VGG-small, AlexNet."""

from __future__ import annotations

from functools import partial

from sim.model import INPUT, ModelBuilder
from sim.zoo.registry import PYTORCH_CIFAR, ModelInfo, Published, check_map, torchvision

_VGG = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg13": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}
"""Configurations A, B, D and E of Simonyan and Zisserman (arXiv 1409.1556, table 1)."""

_VGG_SMALL = {
    "vgg-small-7": ((128, 128), (256, 256), (512, 512)),
    "vgg-small-8": ((128, 128, 128), (256, 256), (512, 512)),
    "vgg-small-9": ((128, 128, 128), (256, 256, 256), (512, 512)),
}

_NITI_VGG = "wangmaolin/niti vgg.py (VGG_cifar, no bias, no batch norm)"
_NITI_SMALL = "wangmaolin/niti ti_vgg.py (TiVGG_cifar, no bias)"
_NEURALFUSE = "NeuralFuse (arXiv 2306.16869), table 7, CIFAR-10"
_BY_HAND = "worked out by hand from the widths in the source; no table is published"


def _lenet(b: ModelBuilder, classes: int) -> str:
    x = b.max_pool(b.relu(b.conv(INPUT, 20, 5)), 2, 2)
    x = b.max_pool(b.relu(b.conv(x, 50, 5)), 2, 2)
    x = b.relu(b.linear(b.flatten(x), 500))
    return b.linear(x, classes)


def _stacks(b: ModelBuilder, stacks: tuple[tuple[int, ...], ...], bias: bool = False) -> str:
    """3x3 convolutions with ReLU, a 2x2 pooling after each stack; names as in the VGG paper."""
    x = INPUT
    for i, stack in enumerate(stacks, 1):
        for j, width in enumerate(stack, 1):
            x = b.conv(x, width, 3, pad=1, bias=bias, name=f"conv{i}_{j}")
            x = b.relu(x, name=f"relu{i}_{j}")
        x = b.max_pool(x, 2, 2, name=f"pool{i}")
    return x


def _vgg_cifar(stacks: tuple[tuple[int, ...], ...], b: ModelBuilder, classes: int) -> str:
    return b.linear(b.flatten(_stacks(b, stacks)), classes, name="fc")


def _vgg_small(stacks: tuple[tuple[int, ...], ...], b: ModelBuilder, classes: int) -> str:
    x = b.dropout(b.flatten(_stacks(b, stacks)), name="dropout")
    return b.linear(x, classes, name="fc")


def _pooled_to(b: ModelBuilder, x: str, rows: int) -> str:
    """Torchvision's adaptive average pooling, where it is a plain one; none if not needed."""
    window = check_map(b, x, rows) // rows
    return x if window == 1 else b.avg_pool(x, window, window, name="avgpool")


def _vgg_imagenet(stacks: tuple[tuple[int, ...], ...], b: ModelBuilder, classes: int) -> str:
    x = b.flatten(_pooled_to(b, _stacks(b, stacks, bias=True), 7))
    for i in (6, 7):
        x = b.relu(b.linear(x, 4096, bias=True, name=f"fc{i}"), name=f"relu{i}")
        x = b.dropout(x, name=f"dropout{i}")
    return b.linear(x, classes, bias=True, name="fc8")


def _alexnet(b: ModelBuilder, classes: int) -> str:
    x = b.max_pool(b.relu(b.conv(INPUT, 64, 11, stride=4, pad=2, bias=True)), 3, 2)
    x = b.max_pool(b.relu(b.conv(x, 192, 5, pad=2, bias=True)), 3, 2)
    for width in (384, 256, 256):
        x = b.relu(b.conv(x, width, 3, pad=1, bias=True))
    x = b.flatten(_pooled_to(b, b.max_pool(x, 3, 2), 6))
    for _ in range(2):
        x = b.relu(b.linear(b.dropout(x), 4096, bias=True))
    return b.linear(x, classes, bias=True)


def _with_norm(macs: int, step: int) -> Published:
    return Published(macs, step, f"{_NEURALFUSE}; with batch norm")


def _vgg_entry(
    name: str, params: int, macs: Published, params_source: str = _NEURALFUSE
) -> ModelInfo:
    return ModelInfo(
        name,
        f"{name.upper()} for 32x32 images with one linear layer",
        *(3, 32, 10, _NITI_VGG),
        params=Published(params, 1, f"{params_source}; with batch norm and biases"),
        macs=macs,
        wiring=partial(_vgg_cifar, _VGG[name]),
    )


def _small_entry(name: str, params: int, macs: int) -> ModelInfo:
    return ModelInfo(
        name,
        f"{name.upper()} for 32x32 images: the networks of NITI's CIFAR-10 results",
        *(3, 32, 10, _NITI_SMALL),
        params=Published(params, 1, _BY_HAND),
        macs=Published(macs, 1, _BY_HAND),
        wiring=partial(_vgg_small, _VGG_SMALL[name]),
    )


_CAFFE = "Caffe's LeNet with its 580 biases, as torchsummary counts it"
_PRUNING = "4586K operations, two per MAC: the LeNet-5 baseline of pruning papers (second-hand)"
_ALEXNET = torchvision(61_100_840, 714)
_VGG16 = torchvision(138_357_544, 15_470)

ENTRIES = (
    ModelInfo(
        "lenet",
        "LeNet 20-50-500 for 28x28 digits",
        *(1, 28, 10, "wangmaolin/niti ti_lenet.py (TiLenet, no bias)"),
        params=Published(431_080, 1, _CAFFE),
        macs=Published(2_293_000, 500, _PRUNING),
        wiring=_lenet,
    ),
    _vgg_entry("vgg11", 9_231_114, _with_norm(153_500_000, 100_000)),
    _vgg_entry(
        "vgg13",
        9_416_010,
        Published(229_020_000, 10_000, f"{PYTORCH_CIFAR}; with batch norm"),
        PYTORCH_CIFAR,
    ),
    _vgg_entry("vgg16", 14_728_266, _with_norm(314_430_000, 10_000)),
    _vgg_entry("vgg19", 20_040_522, _with_norm(399_470_000, 10_000)),
    ModelInfo(
        "vgg16-imagenet",
        "VGG16 for ImageNet",
        *(3, 224, 1000, "torchvision/models/vgg.py (vgg16)"),
        *_VGG16,
        wiring=partial(_vgg_imagenet, _VGG["vgg16"]),
    ),
    _small_entry("vgg-small-7", 4_656_512, 607_600_640),
    _small_entry("vgg-small-8", 4_803_968, 758_595_584),
    _small_entry("vgg-small-9", 5_393_792, 909_590_528),
    ModelInfo(
        "alexnet",
        "AlexNet (one-tower variant) for ImageNet",
        *(3, 224, 1000, "torchvision/models/alexnet.py (alexnet)"),
        *_ALEXNET,
        wiring=_alexnet,
    ),
)
