"""When to train in more bits: MuPPET's rule on the diversity of gradients.

Rajagopal et al., *Multi-Precision Policy Enforced Training* (ICML 2020, arXiv 2006.09049;
repository ICIdsl/muppet). While quantised gradients of successive epochs point ever more the same
way, training goes on as it is. Every few epochs the diversity of each layer's gradients is taken,
``sum ||g||^2 / ||sum g||^2`` over the epochs since, and its mean over layers is compared with the
largest so far. Each time it falls short by more than a threshold that tightens with the epochs
counts, and after a few of these training goes on in the next precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp, isfinite
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from sim.policies.base import PolicyError

Floats = NDArray[np.float32]


class GradientSums:
    """Sums of gradients and of their squared lengths, by tensor, over epochs."""

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._squares: dict[str, float] = {}
        self.epochs = 0

    def add(self, gradients: Mapping[str, Floats]) -> None:
        """Add one gradient of each tensor: that of an epoch's last batch.

        Raises
        ------
        PolicyError
            Other tensors than before, or a gradient that is not finite.
        """
        if self.epochs and gradients.keys() != self._sums.keys():
            odd = sorted(gradients.keys() ^ self._sums.keys())
            raise PolicyError(f"gradients: {odd[0]} is in only some epochs; begin anew")
        for name, gradient in gradients.items():
            wide = gradient.astype(np.float64)
            square = float((wide * wide).sum())
            if not isfinite(square):
                raise PolicyError(f"gradients: {name} is not finite; take a smaller rate")
            self._sums[name] = self._sums.get(name, 0.0) + wide
            self._squares[name] = self._squares.get(name, 0.0) + square
        self.epochs += 1

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """The sums by tensor and, under ``name:square``, the squared lengths: all there is to keep.

        With :attr:`epochs` they make the same sums again, see :meth:`of`.
        """
        squares = {f"{name}:square": np.array(value) for name, value in self._squares.items()}
        return {**self._sums, **squares}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float64]], epochs: int) -> GradientSums:
        """Return the sums that :meth:`arrays` gave after so many epochs."""
        made = cls()
        made.epochs = epochs
        for name, array in arrays.items():
            if name.endswith(":square"):
                made._squares[name.removesuffix(":square")] = float(array)
            else:
                made._sums[name] = array
        return made

    def diversity(self) -> float:
        """Mean over tensors of ``sum ||g||^2 / ||sum g||^2``; tensors without any are left out.

        1 / epochs where all gradients are equal, 1 where they are orthogonal, more where they
        cancel.

        Raises
        ------
        PolicyError
            No gradient was added, or those of every tensor cancel exactly.
        """
        found = []
        for name, total in self._sums.items():
            length = float((total * total).sum())
            if length > 0:
                found.append(self._squares[name] / length)
        if not found:
            raise PolicyError("gradients: none was added that is not 0; add one for each epoch")
        return fmean(found)


@dataclass(frozen=True, slots=True)
class SwitchState:
    """What the rule remembers: its level, the largest diversity there, how often it fell short."""

    level: int = 0
    largest: float = 0.0
    violations: int = 0


@dataclass(frozen=True, slots=True)
class PrecisionSwitching:
    """MuPPET's rule; the numbers are those of the released configurations.

    Attributes
    ----------
    levels
        Precisions from the least to FP32. MuPPET has 8, 12, 14 and 16 bits and FP32; here are
        ``int8`` and ``fp32``.
    resolution
        Epochs over which gradients are summed, 2 or more: the diversity of one gradient is 1.
    patience
        Times that the diversity may fall short before the next level is taken.
    alpha, beta
        The threshold of epoch ``e`` is ``1 + alpha exp(-beta e)``.

    Examples
    --------
    >>> rule, state = PrecisionSwitching(patience=1), SwitchState()
    >>> for epoch, diversity in ((3, 2.0), (6, 0.5)):
    ...     state = rule.after(state, diversity, epoch)
    >>> rule.levels[state.level]
    'fp32'
    """

    levels: tuple[str, ...] = ("int8", "fp32")
    resolution: int = 3
    patience: int = 2
    alpha: float = 1.5
    beta: float = 0.1

    def __post_init__(self) -> None:
        if not self.levels:
            raise PolicyError("levels is empty; name at least one precision")
        for name, least in (("resolution", 2), ("patience", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise PolicyError(f"{name} = {value!r}; allowed: a whole number of {least} or more")
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if not isfinite(value) or value < 0:
                raise PolicyError(f"{name} = {value!r}; allowed: a number of 0 or more")

    def threshold(self, epoch: int) -> float:
        """Most that the largest diversity may exceed the present one by, as a ratio."""
        return 1 + self.alpha * exp(-self.beta * epoch)

    def after(self, state: SwitchState, diversity: float, epoch: int) -> SwitchState:
        """Return the state after the diversity up to ``epoch`` (epochs done) was taken.

        Raises
        ------
        PolicyError
            A diversity that is no positive number.
        """
        if not isfinite(diversity) or diversity <= 0:
            raise PolicyError(f"diversity = {diversity!r}; allowed: a positive number")
        if state.level == len(self.levels) - 1:
            return state
        if diversity >= state.largest:
            return replace(state, largest=diversity)
        if state.largest / diversity <= self.threshold(epoch):
            return state
        if state.violations + 1 < self.patience:
            return replace(state, violations=state.violations + 1)
        return SwitchState(level=state.level + 1)
