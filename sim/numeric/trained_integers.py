"""Trained tensors of INT8 layers, and how they take a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.int8.update import (
    DECAY_UNIT,
    MOMENTUM_UNIT,
    WideWeight,
    wide_start,
    wide_weight,
)
from kernels.profiles import NumericProfile, TensorRole, UpdateRule, rule_of
from kernels.quantised import QTensor, quantise_exactly
from sim.numeric.trained import Arrays, Hyper, Place, Trained, UpdateContext
from sim.numeric.values import Accumulator, Floats, Value


@dataclass(slots=True, eq=False)
class WideTrained(Trained):
    """Wide integer weights with a velocity: the ``sandbox`` profile."""

    wide: WideWeight
    hyper: Hyper
    saturated: int = 0

    @property
    def value(self) -> Value:
        """The working INT8 weights."""
        return self.wide.working

    def update(self, gradient: Value, at: UpdateContext) -> None:
        """SGD with momentum and decay in integers."""
        assert isinstance(gradient, QTensor | Accumulator)
        sums = gradient.sums if isinstance(gradient, Accumulator) else gradient.mantissa
        self.saturated += at.arithmetic.wide_update(
            self.wide, sums, gradient.exponent, rate_q24=at.rate_q24,
            momentum_q16=round(self.hyper.momentum * MOMENTUM_UNIT),
            decay_q32=round(self.hyper.weight_decay * DECAY_UNIT),
            threads=at.threads,
        )  # fmt: skip

    def arrays(self) -> Arrays:
        """Master, velocity and exponent."""
        exponent = np.array(self.wide.exponent, np.int64)
        saturated = np.array(self.saturated, np.int64)
        return {
            "master": self.wide.master,
            "velocity": self.wide.velocity,
            "exponent": exponent,
            "saturated": saturated,
        }

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over master and velocity; the INT8 weights follow."""
        master, velocity = (np.array(arrays[name], np.int32) for name in ("master", "velocity"))
        self.wide = wide_weight(master, velocity, int(arrays["exponent"]))
        self.saturated = int(arrays["saturated"])

    def move(self, place: Place) -> None:
        """Master, velocity and INT8 weights."""
        wide, working = self.wide, self.wide.working
        moved = QTensor(place(working.mantissa), working.exponent)
        self.wide = WideWeight(place(wide.master), place(wide.velocity), wide.exponent, moved)

    def scalars(self) -> list[int]:
        """Exponent of the INT8 weights, and the count of saturated values."""
        return [self.wide.working.exponent, self.saturated]

    def set_scalars(self, values: Sequence[int]) -> None:
        """Take over :meth:`scalars`."""
        exponent, self.saturated = values
        self.wide.working = QTensor(self.wide.working.int8, exponent)

    def floats(self) -> Floats:
        """The master as float32."""
        return self.wide.dequantise().astype(np.float32)

    def load_floats(self, values: Floats) -> None:
        """Start again from these weights; a master of other size gets an exponent of its own."""
        self.wide = wide_start(values)


@dataclass(slots=True, eq=False)
class NitiTrained(Trained):
    """INT8 weights whose exponent stays: NITI and Mandheling."""

    tensor: QTensor
    profile: NumericProfile
    kind: str
    """Of the operator, on which the bits of a gradient depend."""

    @property
    def value(self) -> Value:
        """The weights."""
        return self.tensor

    def update(self, gradient: Value, at: UpdateContext) -> None:
        """Subtract the gradient's mantissa: its bits are the learning rate."""
        if isinstance(gradient, Accumulator):  # of a bias: nothing rescaled it before
            rule = rule_of(self.profile, TensorRole.GRADIENT, self.kind, at.epoch)
            kernel = at.arithmetic.rescale
            gradient = kernel(gradient.sums, 0, rule, threads=at.threads).tensor
        assert isinstance(gradient, QTensor)
        wrap = self.profile.update is UpdateRule.INT8_WRAP
        update = at.arithmetic.niti_update
        update(self.tensor.int8, gradient.int8, wrap=wrap, threads=at.threads)

    def arrays(self) -> Arrays:
        """Mantissa and exponent."""
        exponent = np.array(self.tensor.exponent, np.int64)
        return {"mantissa": self.tensor.mantissa, "exponent": exponent}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over mantissa and exponent."""
        self.tensor = QTensor(np.array(arrays["mantissa"], np.int8), int(arrays["exponent"]))

    def move(self, place: Place) -> None:
        """Mantissa."""
        self.tensor = QTensor(place(self.tensor.mantissa), self.tensor.exponent)

    def floats(self) -> Floats:
        """The weights as float32."""
        return self.tensor.dequantise().astype(np.float32)

    def load_floats(self, values: Floats) -> None:
        """Quantise these weights, keeping their scale; INT8 ones come back as they were."""
        self.tensor = quantise_exactly(values)
