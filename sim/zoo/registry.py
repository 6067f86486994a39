"""What a zoo entry is: how to build it, and what its makers published about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sim.model import ForwardModel, ModelBuilder, ModelError

Wiring = Callable[[ModelBuilder, int], str]
"""Adds all layers for a number of classes, reading ``"input"``; returns the last layer."""


@dataclass(frozen=True, slots=True)
class Published:
    """A published count and how finely it was printed.

    ``step`` is the unit of the last printed digit: 0.714 GFLOPS has a step of 1,000,000.
    """

    value: int
    step: int
    source: str

    def agrees(self, count: int, tolerance: float = 0.005) -> bool:
        """Whether ``count`` is within ``tolerance`` of it, or within its last printed digit."""
        return abs(count - self.value) <= max(tolerance * self.value, self.step)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A zoo entry.

    Attributes
    ----------
    name, description
        What it is called and what it is.
    channels, image
        Default input: ``(n, channels, image, image)``.
    classes
        Default width of the logits.
    source
        Where the architecture is defined.
    params, macs
        Published parameters, and multiply-accumulates of one forward sample.
    columns
        Columns of the input where they are not as many as its rows, such as features by time.
    """

    name: str
    description: str
    channels: int
    image: int
    classes: int
    source: str
    params: Published
    macs: Published
    wiring: Wiring
    columns: int | None = None

    def build(self, batch: int, image: int, classes: int) -> ForwardModel:
        """The model at these sizes."""
        shape = (batch, self.channels, image, self.columns or image)
        builder = ModelBuilder(self.name, shape, self.source)
        return builder.build(self.wiring(builder, classes))


PYTORCH_CIFAR = "README of a fork of kuangliu/pytorch-cifar, counted by thop"
TORCHVISION = "torchvision model table (pytorch.org/vision/stable/models, weights meta)"


def torchvision(params: int, mega_macs: int) -> tuple[Published, Published]:
    """``num_params`` and ``_ops`` of a torchvision weights entry.

    ``_ops`` is given in GFLOPS to three decimals (two in the documentation's table) and counts
    one multiply-accumulate of a convolution or linear layer as one; biases are not counted.
    """
    ops = Published(mega_macs * 10**6, 10**6, TORCHVISION)
    return Published(params, 1, TORCHVISION), ops


def check_map(builder: ModelBuilder, source: str, least: int) -> int:
    """Rows of a square map that pooling to ``least`` rows must divide; refuse any other."""
    rows = builder.shape(source)[2]
    if rows % least:
        raise ModelError(
            f"image: the last map has {rows} rows; the classifier needs a multiple of {least}; "
            f"take the default image size or a multiple of it"
        )
    return rows
