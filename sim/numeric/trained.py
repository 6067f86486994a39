"""One trained tensor in the form that its precision keeps, and how it takes a step.

An FP32 layer has float weights with a velocity, in 32 bits unless the plan says 8; one in 16-bit
floats has both in its format; an INT8 layer of NITI's kind has INT8 weights and nothing else; one
of the sandbox has wide integers with a velocity, whose INT8 form is made anew after each update.

A velocity is trained with under every plan. Simulated memory and time count it for FP32 layers
alone, and only where the plan's ``optimiser_state`` says so (:mod:`sim.aspects.optimiser`); that of
the other forms, and wide integer weights, they never count.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.fp16 import elementwise as half
from kernels.fp16.formats import FORMATS, HalfFormat, round_to
from kernels.fp32.blockwise import blockwise_update, dequantise_blocks, quantise_blocks
from kernels.fp32.update import sgd_update
from kernels.int8.update import (
    DECAY_UNIT,
    MOMENTUM_UNIT,
    RATE_UNIT,
    WideWeight,
    wide_start,
    wide_weight,
)
from kernels.profiles import NumericProfile, TensorRole, UpdateRule, rule_of
from kernels.quantised import QTensor, quantise_exactly, quantise_weight
from kernels.update import STATE_BITS
from sim.numeric.arithmetic import PLAIN, Arithmetic
from sim.numeric.values import Accumulator, Floats, Value, as_floats

Arrays = dict[str, NDArray[Any]]
Place = Callable[[NDArray[Any]], NDArray[Any]]
"""Copies an array into other memory and returns it there, with its dtype and shape."""


class ParameterError(ValueError):
    """Parameters that do not fit the network, or values that no optimiser takes."""


@dataclass(frozen=True, slots=True)
class Hyper:
    """Momentum and weight decay of SGD, for FP32 layers and wide integer ones."""

    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        for name, most in (("momentum", 1.0), ("weight_decay", 2.0**-8)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < most:
                raise ParameterError(f"{name} is {value!r}; allowed: 0 or more, below {most:g}")


@dataclass(frozen=True, slots=True)
class UpdateContext:
    """What an update is told: the learning rate in units of ``2^-24``, epoch, threads, kernels."""

    rate_q24: int
    epoch: int
    threads: int | None
    arithmetic: Arithmetic = PLAIN


class Trained(ABC):
    """One trained tensor in the form that its precision keeps."""

    @property
    @abstractmethod
    def value(self) -> Value:
        """What kernels read."""

    @abstractmethod
    def update(self, gradient: Value, at: UpdateContext) -> None:
        """Take one step along a gradient."""

    @abstractmethod
    def arrays(self) -> Arrays:
        """All that a checkpoint needs, by short names; not copies."""

    @abstractmethod
    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`arrays` gave."""

    @abstractmethod
    def move(self, place: Place) -> None:
        """Keep every array in the memory that ``place`` puts it into."""

    def scalars(self) -> list[int]:
        """What an update changes beside arrays."""
        return []

    def set_scalars(self, values: Sequence[int]) -> None:
        """Take over :meth:`scalars` of a process that shares the arrays and updated them."""
        assert not values, f"{type(self).__name__} has no scalars"

    @abstractmethod
    def floats(self) -> Floats:
        """The weights as float32."""

    @abstractmethod
    def load_floats(self, values: Floats) -> None:
        """Start again from float weights, at rest."""


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
        half.sgd_update(
            self.weight, as_floats(gradient), self.velocity, self.form,
            rate=at.rate_q24 / RATE_UNIT, momentum=self.hyper.momentum,
            weight_decay=self.hyper.weight_decay,
        )  # fmt: skip

    def load_floats(self, values: Floats) -> None:
        """Start again from these weights, rounded to the format."""
        FloatTrained.load_floats(self, round_to(values, self.form))


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


def floats_of(arrays: Arrays) -> Floats:
    """The weights as float32 from what :meth:`Trained.arrays` gave, in whatever form.

    Raises
    ------
    ParameterError
        Arrays that none of the forms has.
    """
    if "weight" in arrays:
        return np.array(arrays["weight"], np.float32)
    for name in ("master", "mantissa"):
        if name in arrays:
            scaled = np.ldexp(arrays[name].astype(np.float64), int(arrays["exponent"]))
            return scaled.astype(np.float32)
    raise ParameterError(f"arrays are {', '.join(arrays)}; allowed: those of a trained tensor")


def start_trained(
    values: Floats,
    dtype: str,
    kind: str,
    profile: NumericProfile,
    hyper: Hyper,
    state_bits: int = 32,
) -> Trained:
    """Begin to train float values of an operator kind in the form that its precision keeps.

    ``state_bits`` are those of an FP32 layer's velocity, 8 or 32; 32 where there is no choice.

    Raises
    ------
    ParameterError
        A data type that nothing trains in, or a velocity that it cannot have.
    """
    allowed_bits = STATE_BITS if dtype == "fp32" else (32,)
    if state_bits not in allowed_bits:
        raise ParameterError(
            f"state_bits is {state_bits!r}; allowed with dtype {dtype!r}: "
            f"{' or '.join(map(str, allowed_bits))}"
        )
    if dtype == "fp32" and state_bits == 8:
        return BlockwiseTrained.start(values, hyper)
    if dtype == "fp32":
        return FloatTrained(values, np.zeros_like(values), hyper)
    if dtype in FORMATS:
        form = FORMATS[dtype]
        return HalfTrained(round_to(values, form), np.zeros_like(values), hyper, form)
    if dtype != "int8":
        allowed = ", ".join(("fp32", *FORMATS, "int8"))
        raise ParameterError(f"dtype is {dtype!r}; allowed: {allowed}")
    if profile.update is UpdateRule.WIDE:
        return WideTrained(wide_start(values), hyper)
    return NitiTrained(quantise_weight(values), profile, kind)
