"""A conformance check for rescale rules: what every rule must keep to, tried on yours.

Call :func:`check_rule` in a test of your own, with the rule as plans name it::

    from sim.policies.rule_conformance import check_rule

    def test_my_rule():
        check_rule("my-rule:3")
"""

from __future__ import annotations

from typing import get_args

from cost_models.cost import Rescaling
from cost_models.device import load_device
from sim.checks import ConservationError, check
from sim.plan import PlanError
from sim.plugins import described
from sim.policies.build import decide
from sim.policies.conformance import DEVICES, STEPS, PolicyConformanceError, default_graphs
from sim.policies.numeric import AllInt8, OneRule
from sim.rescaling import UNKNOWN, RescaleRule, RescaleState, parse_rule
from sim.run import simulate
from sim.state import SyntheticShifts

TENSORS, TRIED_STEPS = 4, 600
"""Drawn shifts that a rule is tried on: tensors, and steps of each."""
MOST_HISTORY = 4096
"""Numbers that a state may hold: snapshots keep them for every tensor."""
MODES = tuple(mode for mode in get_args(Rescaling) if mode != "none")


class RuleConformanceError(PolicyConformanceError):
    """A rescale rule breaks a promise; the message names rule, step and promise."""


def check_rule(text: str) -> None:
    """Verify that a rescale rule may be used by anyone, for any tensor.

    1. The text makes a :class:`~sim.rescaling.RescaleRule`, and an equal one when it is read again.
    2. With no shift known it scans: its first step is ``dynamic``.
    3. Its modes are ``dynamic``, ``fused`` or ``inline``; its states are
       :class:`~sim.rescaling.RescaleState` with whole numbers and a bounded history.
    4. After a ``fused`` step it does not depend on the true shift, which nobody saw.
    5. It is deterministic and keeps nothing outside of its states.
    6. Plans that use it can be lowered, and their timelines pass all conservation checks.

    Parameters
    ----------
    text
        The rule as plans name it: ``adaptive:4:64``, ``my-rule:3``.

    Raises
    ------
    RuleConformanceError
        The first promise that is broken, where, and by which value.

    Examples
    --------
    >>> check_rule("adaptive:4:64")
    """
    try:
        rule = parse_rule(text)
        same = rule == parse_rule(text)
    except Exception as error:
        raise RuleConformanceError(f"rescale rule {text!r}: {described(error)}") from error
    trial = _Trial(text, rule)
    if not same:
        raise trial.fail("read twice, it does not equal itself; make it a frozen dataclass")
    first = [trial.follow(tensor) for tensor in range(TENSORS)]
    for tensor, states in enumerate(first):
        again = trial.follow(tensor)
        for step, (one, two) in enumerate(zip(states, again, strict=True)):
            if one != two:
                raise trial.fail(
                    f"step {step}: it is not deterministic: followed again after other tensors, "
                    f"its state went from {one} to {two}; keep what it remembers in the state"
                )
    _check_plans(text, trial)


class _Trial:
    """One rule on drawn shifts, each call of it guarded."""

    def __init__(self, text: str, rule: RescaleRule) -> None:
        self.text, self.rule = text, rule

    def fail(self, what: str) -> RuleConformanceError:
        return RuleConformanceError(f"rescale rule {self.text!r}: {what}")

    def follow(self, tensor: int) -> list[RescaleState]:
        """Return the states of one tensor, each checked."""
        shifts, true = SyntheticShifts(), 0
        state = self.checked(self.guarded("start", -1), -1)
        states = [state]
        for step in range(TRIED_STEPS):
            mode = self.guarded("mode", step, state)
            if mode not in MODES:
                raise self.fail(f"step {step}: mode is {mode!r}; allowed: {', '.join(MODES)}")
            if state.used == UNKNOWN and mode != "dynamic":
                raise self.fail(
                    f"step {step}: no shift is known, and mode is {mode!r}; it must be 'dynamic'"
                )
            true = shifts.shift(0, step, f"tensor{tensor}", true)
            after = self.checked(self.guarded("next", step, state, true), step)
            if self.guarded("next", step, state, true) != after:
                raise self.fail(f"step {step}: it is not deterministic: next differs when repeated")
            blind = self.guarded("next", step, state, true + 1) if mode == "fused" else after
            if blind != after:
                raise self.fail(
                    f"step {step}: a fused step sees no true shift, and next used it: "
                    f"{after} for {true}, {blind} for {true + 1}"
                )
            state = after
            states.append(state)
        return states

    def guarded(self, method: str, step: int, *given: object) -> object:
        try:
            return getattr(self.rule, method)(*given)
        except Exception as error:  # a rule is anybody's code
            raise self.fail(f"step {step}: {method} raised {described(error)}") from error

    def checked(self, state: object, step: int) -> RescaleState:
        if not isinstance(state, RescaleState):
            raise self.fail(f"step {step}: the state is {state!r}; return a RescaleState")
        numbers = (state.used, state.period, state.since, *state.history)
        if not isinstance(state.history, tuple) or not all(type(n) is int for n in numbers):
            raise self.fail(f"step {step}: {state} must hold whole numbers, the history a tuple")
        if not all(-(2**31) <= n < 2**31 for n in numbers) or len(state.history) > MOST_HISTORY:
            raise self.fail(
                f"step {step}: the state holds numbers beyond 32 bits or more than {MOST_HISTORY} "
                "of them; keep less"
            )
        if state.used != UNKNOWN and not 0 <= state.used < 32:
            raise self.fail(f"step {step}: the shift in use is {state.used}; allowed: 0 to 31")
        return state


def _check_plans(text: str, trial: _Trial) -> None:
    for graph in default_graphs():
        for device in map(load_device, DEVICES):
            where = f"{graph.name} on {device.name}"
            try:
                plan = decide("rule", graph, device, [AllInt8(), OneRule(text)])
                for timeline in simulate(graph, plan, device, steps=STEPS).timelines:
                    check(timeline)
            except (PlanError, ConservationError) as error:
                raise trial.fail(f"its plan cannot be run ({where}): {error}") from error
