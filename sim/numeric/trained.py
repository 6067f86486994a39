"""One trained tensor: what every form of it offers, whatever its precision keeps.

An FP32 layer has float weights with a velocity, in 32 bits unless the plan says 8; one in 16-bit
floats has both in its format, and what rounding took from its weights where the plan says so
(:mod:`sim.numeric.trained_floats`). An INT8 layer of NITI's kind has
INT8 weights and nothing else; one of the sandbox has wide integers with a velocity, whose INT8 form
is made anew after each update (:mod:`sim.numeric.trained_integers`).

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

from sim.numeric.arithmetic import PLAIN, Arithmetic
from sim.numeric.values import Floats, Value

Arrays = dict[str, NDArray[Any]]
Place = Callable[[NDArray[Any]], NDArray[Any]]
"""Copies an array into other memory and returns it there, with its dtype and shape."""


class ParameterError(ValueError):
    """Parameters that do not fit the network, or values that no optimiser takes."""


@dataclass(frozen=True, slots=True)
class Hyper:
    """Momentum and weight decay of SGD, for layers in floats and wide integer ones."""

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
