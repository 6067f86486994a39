"""Rescale rules: when to scan for the true shift, and which shift to use in between.

A rule is pure: ``mode`` says what this step does, ``next`` makes the state for the next step from
the true shift (or what of it the rule was allowed to see). The same rules run on drawn shifts
here and on real tensors in a numeric executor.

* ``every``: scan in each step (dynamic rescaling, NITI; what Mandheling calls the overhead).
* ``fixed:N``: scan in each N-th step.
* ``adaptive:LOW:HIGH``: Mandheling's self-adaptive rescaling. The period starts at LOW, doubles
  up to HIGH while scans find the shift unchanged, and falls back to LOW when it moved.
  (The paper gives the idea; these two thresholds are ours, and can be searched.)
* ``hindsight``: always the shift of the step before; max|acc| is collected while storing
  (in-hindsight range estimation, Fournarakis and Nagel, 2021).
* ``delayed:K``: the largest of the last K shifts, collected the same way (delayed scaling with an
  amax history, NVIDIA Transformer Engine).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from cost_models.cost import Rescaling

RULE_PATTERNS = ("every", "fixed:N", "adaptive:LOW:HIGH", "hindsight", "delayed:K")
UNKNOWN = -128
"""Shift in use before the first scan."""


class RescaleState(NamedTuple):
    """What a rule remembers of one tensor; a named tuple, since each step makes many.

    ``used`` is the shift in force; ``period`` and ``since`` count steps; ``history`` holds shifts,
    newest last.
    """

    used: int = UNKNOWN
    period: int = 1
    since: int = 0
    history: tuple[int, ...] = ()


class RescaleRule(ABC):
    """Decides, for one tensor, when to scan and which shift holds in between."""

    def start(self) -> RescaleState:
        """State before the first step."""
        return RescaleState()

    @abstractmethod
    def mode(self, state: RescaleState) -> Rescaling:
        """What the coming step does. With no shift known yet, this must be ``dynamic``."""

    @abstractmethod
    def next(self, state: RescaleState, true_shift: int) -> RescaleState:
        """State after a step whose true shift was ``true_shift``.

        A rule may use ``true_shift`` only if its mode saw it (``dynamic`` or ``inline``).
        """


@dataclass(frozen=True, slots=True)
class Every(RescaleRule):
    """Scan in each step."""

    def mode(self, state: RescaleState) -> Rescaling:
        """Always dynamic."""
        return "dynamic"

    def next(self, state: RescaleState, true_shift: int) -> RescaleState:
        """Use what the scan found."""
        return RescaleState(true_shift)


@dataclass(frozen=True, slots=True)
class Adaptive(RescaleRule):
    """Scan after a period that doubles while the shift is stable and falls back when it moved.

    ``low == high`` is a fixed period.
    """

    low: int
    high: int

    def start(self) -> RescaleState:
        """Scan in the first step."""
        return RescaleState(period=self.low)

    def mode(self, state: RescaleState) -> Rescaling:
        """Dynamic when nothing is known or the period is over."""
        due = state.used == UNKNOWN or state.since + 1 >= state.period
        return "dynamic" if due else "fused"

    def next(self, state: RescaleState, true_shift: int) -> RescaleState:
        """Count the step, or set the next period from what the scan found."""
        if self.mode(state) != "dynamic":
            return RescaleState(state.used, state.period, state.since + 1)
        moved = state.used != true_shift
        period = self.low if moved else min(self.high, state.period * 2)
        return RescaleState(true_shift, period, 0)


@dataclass(frozen=True, slots=True)
class Delayed(RescaleRule):
    """The largest of the last ``length`` shifts; ``length == 1`` is in-hindsight."""

    length: int

    def mode(self, state: RescaleState) -> Rescaling:
        """Inline once a shift is known."""
        return "dynamic" if state.used == UNKNOWN else "inline"

    def next(self, state: RescaleState, true_shift: int) -> RescaleState:
        """Remember the shift that was seen."""
        history = (*state.history, true_shift)[-self.length :]
        return RescaleState(max(history), history=history)


@lru_cache(maxsize=256)
def parse_rule(text: str) -> RescaleRule:
    """Read a rule from its name and parameters.

    Raises
    ------
    ValueError
        It is no rule, or a parameter is not a whole number of 1 or more.

    >>> parse_rule("adaptive:2:64")
    Adaptive(low=2, high=64)
    """
    name, *parts = text.split(":")
    if not all(p.isascii() and p.isdigit() and 0 < int(p) < 2**31 for p in parts):
        raise ValueError(f"rescale rule {text!r}: parameters are whole numbers of 1 or more")
    numbers = [int(p) for p in parts]
    match name, numbers:
        case "every", []:
            return Every()
        case "fixed", [n]:
            return Adaptive(n, n)
        case "adaptive", [low, high] if low <= high:
            return Adaptive(low, high)
        case "hindsight", []:
            return Delayed(1)
        case "delayed", [k]:
            return Delayed(k)
    raise ValueError(f"rescale rule {text!r}: choose one of {', '.join(RULE_PATTERNS)}")
