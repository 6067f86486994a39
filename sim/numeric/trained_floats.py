"""Trained tensors of layers in FP32 and in 16-bit floats, and how they take a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.fp16 import elementwise as half
from kernels.fp16.formats import HalfFormat, round_to
from kernels.fp32.blockwise import blockwise_update, dequantise_blocks, quantise_blocks
from kernels.fp32.update import sgd_update
from kernels.int8.update import RATE_UNIT
from sim.numeric.trained import Arrays, Hyper, Place, Trained, UpdateContext
from sim.numeric.values import Floats, Value, as_floats


@dataclass(slots=True, eq=False)
class FloatTrained(Trained):
    """FP32 weights with a velocity."""

    weight: Floats
    velocity: Floats
    hyper: Hyper

    @property
    def value(self) -> Value:
        """The weights."""
        return self.weight

    def update(self, gradient: Value, at: UpdateContext) -> None:
        """SGD with momentum and decay, as PyTorch's."""
        sgd_update(
            self.weight, as_floats(gradient), self.velocity, rate=at.rate_q24 / RATE_UNIT,
            momentum=self.hyper.momentum, weight_decay=self.hyper.weight_decay,
            threads=at.threads,
        )  # fmt: skip

    def arrays(self) -> Arrays:
        """Weights and velocity."""
        return {"weight": self.weight, "velocity": self.velocity}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over weights and velocity."""
        self.weight[...] = arrays["weight"]
        self.velocity[...] = arrays["velocity"]

    def move(self, place: Place) -> None:
        """Weights and velocity."""
        self.weight, self.velocity = place(self.weight), place(self.velocity)

    def floats(self) -> Floats:
        """A copy of the weights."""
        return self.weight.copy()

    def load_floats(self, values: Floats) -> None:
        """Start again from these weights."""
        self.weight[...] = values
        self.velocity[...] = 0


@dataclass(slots=True, eq=False)
class BlockwiseTrained(Trained):
    """FP32 weights with a velocity in 8 bits."""

    weight: Floats
    codes: NDArray[np.uint8]
    scales: Floats
    hyper: Hyper

    @classmethod
    def start(cls, values: Floats, hyper: Hyper) -> BlockwiseTrained:
        """Begin at these weights, at rest."""
        return cls(values, *quantise_blocks(np.zeros_like(values)), hyper)

    @property
    def value(self) -> Value:
        """The weights."""
        return self.weight

    @property
    def velocity(self) -> Floats:
        """The velocity as float32, of the shape of the weights."""
        return dequantise_blocks(self.codes, self.scales).reshape(self.weight.shape)

    def update(self, gradient: Value, at: UpdateContext) -> None:
        """SGD with momentum and decay, the velocity narrowed after each step."""
        blockwise_update(
            self.weight, as_floats(gradient), self.codes, self.scales,
            rate=at.rate_q24 / RATE_UNIT, momentum=self.hyper.momentum,
            weight_decay=self.hyper.weight_decay, threads=at.threads,
        )  # fmt: skip

    def arrays(self) -> Arrays:
        """Weights, and codes and scales of the velocity."""
        return {"weight": self.weight, "codes": self.codes, "scales": self.scales}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over weights and velocity."""
        for name, array in self.arrays().items():
            array[...] = arrays[name]

    def move(self, place: Place) -> None:
        """Weights, codes and scales."""
        self.weight = place(self.weight)
        self.codes, self.scales = place(self.codes), place(self.scales)

    def floats(self) -> Floats:
        """A copy of the weights."""
        return self.weight.copy()

    def load_floats(self, values: Floats) -> None:
        """Start again from these weights."""
        self.weight[...] = values
        self.codes[...], self.scales[...] = quantise_blocks(np.zeros_like(self.weight))


@dataclass(slots=True, eq=False)
class HalfTrained(FloatTrained):
    """Weights and velocity in 16-bit floats, without a wide copy: small steps are lost."""

    form: HalfFormat

    def update(self, gradient: Value, at: UpdateContext) -> None:
        """SGD with momentum and decay, every step rounded to the format."""
        self._step(gradient, at, None)

    def _step(self, gradient: Value, at: UpdateContext, lost: Floats | None) -> None:
        half.sgd_update(
            self.weight, as_floats(gradient), self.velocity, self.form,
            rate=at.rate_q24 / RATE_UNIT, momentum=self.hyper.momentum,
            weight_decay=self.hyper.weight_decay, lost=lost,
        )  # fmt: skip

    def load_floats(self, values: Floats) -> None:
        """Start again from these weights, rounded to the format."""
        FloatTrained.load_floats(self, round_to(values, self.form))


@dataclass(slots=True, eq=False)
class CompensatedTrained(HalfTrained):
    """Weights in 16-bit floats and what rounding took from them, which later steps give back."""

    lost: Floats

    def update(self, gradient: Value, at: UpdateContext) -> None:
        """SGD with momentum and decay; sums of weights and steps by Kahan's summation."""
        self._step(gradient, at, self.lost)

    def arrays(self) -> Arrays:
        """Weights, velocity and what was lost."""
        return {**HalfTrained.arrays(self), "lost": self.lost}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over all three."""
        HalfTrained.load(self, arrays)
        self.lost[...] = arrays["lost"]

    def move(self, place: Place) -> None:
        """All three."""
        HalfTrained.move(self, place)
        self.lost = place(self.lost)

    def load_floats(self, values: Floats) -> None:
        """Start again from these weights, rounded to the format, with nothing lost."""
        HalfTrained.load_floats(self, values)
        self.lost[...] = 0
