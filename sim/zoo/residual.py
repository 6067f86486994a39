"""Residual networks: ResNet and wide ResNet, for CIFAR and for ImageNet."""

from __future__ import annotations

from functools import partial

from sim.model import INPUT, ModelBuilder
from sim.zoo.registry import PYTORCH_CIFAR, ModelInfo, Published, torchvision

_WIDTHS = (64, 128, 256, 512)
_LAYERS_18, _LAYERS_34, _LAYERS_50 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3)


def _conv_bn(b: ModelBuilder, x: str, width: int, k: int, stride: int, name: str) -> str:
    x = b.conv(x, width, k, stride=stride, pad=k // 2, name=name)
    return b.batch_norm(x, name=f"{name}/bn")


def _conv_bn_relu(b: ModelBuilder, x: str, width: int, k: int, stride: int, name: str) -> str:
    return b.relu(_conv_bn(b, x, width, k, stride, name), name=f"{name}/relu")


def _join(b: ModelBuilder, x: str, y: str, stride: int, name: str) -> str:
    """ReLU of the branch ``y`` plus ``x``, which is projected where its shape differs."""
    width = b.shape(y)[1]
    if stride != 1 or b.shape(x)[1] != width:
        x = _conv_bn(b, x, width, 1, stride, f"{name}/down")
    return b.relu(b.sum([y, x], name=f"{name}/add"), name=f"{name}/relu")


def _basic(b: ModelBuilder, x: str, width: int, stride: int, name: str) -> str:
    y = _conv_bn_relu(b, x, width, 3, stride, f"{name}/conv1")
    y = _conv_bn(b, y, width, 3, 1, f"{name}/conv2")
    return _join(b, x, y, stride, name)


def _bottleneck(factor: int, b: ModelBuilder, x: str, width: int, stride: int, name: str) -> str:
    """1x1, 3x3 (with the stride, as torchvision has it), 1x1 to four times ``width``."""
    y = _conv_bn_relu(b, x, factor * width, 1, 1, f"{name}/conv1")
    y = _conv_bn_relu(b, y, factor * width, 3, stride, f"{name}/conv2")
    y = _conv_bn(b, y, 4 * width, 1, 1, f"{name}/conv3")
    return _join(b, x, y, stride, name)


def _stages(b: ModelBuilder, x: str, counts: tuple[int, ...], classes: int, bottleneck: int) -> str:
    """Four stages and the classifier; ``bottleneck`` is its width factor, 0 for basic blocks."""
    block = partial(_bottleneck, bottleneck) if bottleneck else _basic
    for stage, (width, count) in enumerate(zip(_WIDTHS, counts, strict=True), 1):
        for index in range(count):
            stride = 2 if stage > 1 and index == 0 else 1
            x = block(b, x, width, stride, f"layer{stage}-{index}")
    x = b.flatten(b.global_avg_pool(x, name="avgpool"), name="flatten")
    return b.linear(x, classes, bias=True, name="fc")


def _cifar(counts: tuple[int, ...], b: ModelBuilder, classes: int) -> str:
    stem = _conv_bn_relu(b, INPUT, 64, 3, 1, "conv1")
    return _stages(b, stem, counts, classes, 0)


def _imagenet(counts: tuple[int, ...], bottleneck: int, b: ModelBuilder, classes: int) -> str:
    stem = _conv_bn_relu(b, INPUT, 64, 7, 2, "conv1")
    stem = b.max_pool(stem, 3, 2, pad=1, name="maxpool")
    return _stages(b, stem, counts, classes, bottleneck)


def _cifar_entry(name: str, counts: tuple[int, ...], params: int, macs: Published) -> ModelInfo:
    source = "kuangliu/pytorch-cifar models/resnet.py"
    return ModelInfo(
        name,
        f"{name} for 32x32 images: 3x3 stem of stride 1, no max-pooling",
        *(3, 32, 10, source),
        params=Published(params, 1, PYTORCH_CIFAR),
        macs=macs,
        wiring=partial(_cifar, counts),
    )


def _imagenet_entry(
    name: str, function: str, counts: tuple[int, ...], bottleneck: int, params: int, macs: int
) -> ModelInfo:
    return ModelInfo(
        name,
        f"{function} for ImageNet",
        *(3, 224, 1000, f"torchvision/models/resnet.py ({function})"),
        *torchvision(params, macs),
        wiring=partial(_imagenet, counts, bottleneck),
    )


_MACS_18 = Published(
    557_140_000, 10_000, "NeuralFuse (arXiv 2306.16869), table 7, CIFAR-10; with batch norm"
)
_MACS_34 = Published(1_160_000_000, 10_000_000, "da2so/DA2Lite model_zoo/README.md, CIFAR-10")

ENTRIES = (
    _cifar_entry("resnet18", _LAYERS_18, 11_173_962, _MACS_18),
    _cifar_entry("resnet34", _LAYERS_34, 21_282_122, _MACS_34),
    _imagenet_entry("resnet18-imagenet", "resnet18", _LAYERS_18, 0, 11_689_512, 1_814),
    _imagenet_entry("resnet34-imagenet", "resnet34", _LAYERS_34, 0, 21_797_672, 3_664),
    _imagenet_entry("resnet50", "resnet50", _LAYERS_50, 1, 25_557_032, 4_089),
    _imagenet_entry("wideresnet50", "wide_resnet50_2", _LAYERS_50, 2, 68_883_240, 11_398),
)
