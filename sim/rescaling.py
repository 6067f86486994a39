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

Rules of other distributions join by the entry points ``mandheling.rescale_rules``, as these do
(:mod:`sim.plugins`): an entry names what makes a rule from whole numbers, and its parameters'
names make the pattern that messages show. :func:`sim.policies.conformance.check_rule` tries one.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from cost_models.cost import Rescaling
from sim.plugins import PluginError, Plugins, described

UNKNOWN = -128
"""Shift in use before the first scan."""


class RescaleState(NamedTuple):
    """What a rule remembers of one tensor; a named tuple, since each step makes many.

    ``used`` is the shift in force; ``period`` and ``since`` count steps; ``history`` holds shifts,
    newest last. A rule may keep other whole numbers in the last three: nobody else reads them.
    Snapshots of training runs hold all four.
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


RuleMaker = Callable[..., RescaleRule]
"""Makes a rule of whole numbers of 1 or more, given by position; ValueError refuses them."""


def every() -> RescaleRule:
    """Scan in each step."""
    return Every()


def fixed(n: int) -> RescaleRule:
    """Scan in each n-th step."""
    return Adaptive(n, n)


def adaptive(low: int, high: int) -> RescaleRule:
    """Scan after ``low`` to ``high`` steps, the more rarely the longer the shift is stable."""
    if low > high:
        raise ValueError("LOW must not exceed HIGH")
    return Adaptive(low, high)


def hindsight() -> RescaleRule:
    """Use the shift of the step before."""
    return Delayed(1)


def delayed(k: int) -> RescaleRule:
    """Use the largest of the last k shifts."""
    return Delayed(k)


def _accept(name: str, given: object) -> RuleMaker:
    if not callable(given):
        raise TypeError(f"{given!r} makes no rules; name a function or class that makes one")
    if ":" in name or not name.strip() or name != name.strip():
        raise ValueError(f"a rule's name has no colon and no blanks around it; rename {name!r}")
    pattern(name, given)  # refuses what takes anything but numbers by position
    return given


RULES: Plugins[RuleMaker] = Plugins("mandheling.rescale_rules", "rescale rule", _accept)
"""What makes each rule, by the name before the first colon."""


def pattern(name: str, maker: RuleMaker) -> str:
    """Return how a rule is written, by the names of its maker's parameters.

    >>> pattern("adaptive", adaptive)
    'adaptive:LOW:HIGH'
    """
    words = [name]
    for parameter in inspect.signature(maker).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise TypeError(f"its parameter {parameter} cannot be given by position; change it")
        if parameter.default is parameter.empty:
            words.append(parameter.name.upper())
    return ":".join(words)


def rule_patterns() -> tuple[str, ...]:
    """Return how each rule is written; those that cannot be used are left out."""
    return _patterns(tuple(RULES))


@lru_cache(maxsize=16)
def _patterns(names: tuple[str, ...]) -> tuple[str, ...]:
    """Remembered, since lowering asks for every tensor."""
    return tuple(pattern(name, maker) for name, maker in RULES.usable().items() if name in names)


def parse_rule(text: str) -> RescaleRule:
    """Read a rule from its name and parameters.

    Raises
    ------
    ValueError
        It is no rule, or a parameter is not a whole number of 1 or more.
    PluginError
        A plug-in brings the rule, and cannot be used.

    >>> parse_rule("adaptive:2:64")
    Adaptive(low=2, high=64)
    """
    name, *parts = text.split(":")
    if not all(p.isascii() and p.isdigit() and len(p) < 11 and 0 < int(p) < 2**31 for p in parts):
        raise ValueError(f"rescale rule {text!r}: parameters are whole numbers of 1 or more")
    maker = RULES.get(name)
    if maker is None:
        raise ValueError(f"rescale rule {text!r}: choose one of {', '.join(rule_patterns())}")
    return _made(maker, text)


@lru_cache(maxsize=256)
def _made(maker: RuleMaker, text: str) -> RescaleRule:
    name, *parts = text.split(":")
    numbers = [int(p) for p in parts]
    try:
        inspect.signature(maker).bind(*numbers)
    except TypeError:
        raise ValueError(
            f"rescale rule {text!r}: write it as {pattern(name, maker)}; choose one of "
            f"{', '.join(rule_patterns())}"
        ) from None
    try:
        rule = maker(*numbers)
        hash(rule)
    except Exception as error:
        raise ValueError(
            f"rescale rule {text!r} is refused by {RULES.origin(name)}: {described(error)}; "
            f"choose one of {', '.join(rule_patterns())}"
        ) from error
    if not isinstance(rule, RescaleRule):
        raise PluginError(
            f"rescale rule {text!r} of {RULES.origin(name)} is {rule!r}, which is no RescaleRule; "
            "make a subclass of sim.rescaling.RescaleRule"
        )
    return rule
