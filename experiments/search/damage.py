"""What a rescale rule does to the values of a recorded tensor.

A rule that scans is replayed open-loop on true shifts that were recorded in real training; what
an error of some bits does to a tensor's values was counted in runs of stale rules. Of rules that
never scan (``hindsight``, ``delayed:K``) the damage itself was counted, in runs of their own
(:mod:`experiments.search.recorded`). So it is an estimate fitted to those trainings. A rule of a
plug-in is replayed, whether it scans or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from experiments.search.recorded import FOLLOWING_RULES, SETTLED, Met, TensorRecord, recordings
from sim.rescaling import Delayed, parse_rule

FEWEST = 8
"""Tensor-steps that a shift error must have been met in for its own counts to be used."""

Parts = tuple[float, float]
"""Shares of a tensor's values that are saturated, and lost beyond what a true shift loses."""


def shift_errors(rule: str, shifts: Sequence[int]) -> dict[int, int]:
    """Replay a rule on true shifts, open-loop; count used minus true over the settled steps.

    Examples
    --------
    >>> shift_errors("hindsight", [7] * SETTLED + [7, 8, 8, 6])
    {0: 2, -1: 1, 2: 1}
    """
    follows, found = parse_rule(rule), Counter[int]()
    state = follows.start()
    for step, true in enumerate(shifts):
        if step >= SETTLED:
            found[0 if follows.mode(state) == "dynamic" else state.used - true] += 1
        state = follows.next(state, true)
    return dict(found)


def damage(record: TensorRecord, error: int, alike: Sequence[TensorRecord]) -> Parts:
    """Return what a shift error of so many bits does to a recorded tensor's values.

    An error that it met in fewer than :data:`FEWEST` steps takes the counts of all tensors
    ``alike``; one that none of them met, those of the next smaller error.
    """
    for bits in range(abs(error), 0, -1):
        signed = bits if error > 0 else -bits
        for group in ((record,), alike):
            steps = sum(each.met.get(signed, (0, 0, 0))[0] for each in group)
            if steps >= FEWEST:
                return mean_damage(group, signed, steps)
    return 0.0, 0.0


def mean_damage(group: Sequence[TensorRecord], error: int, steps: int) -> Parts:
    """Return the mean damage over the ``steps`` in which tensors met a shift error."""
    saturated = lost = 0.0
    for record in group:
        met, clipped, gone = record.met.get(error, (0, 0, 0))
        true_steps, _, true_gone = record.met.get(0, (0, 0, 0))
        saturated += clipped / record.values
        if error > 0 and true_steps:
            lost += gone / record.values - met * true_gone / record.values / true_steps
    return saturated / steps, max(0.0, lost / steps)


def met_damage(values: int, met: Met) -> Parts:
    """Return the mean damage over all steps that were counted of one tensor."""
    record = TensorRecord("", "", "", (), values, met, {})
    saturated = lost = 0.0
    for error, (steps, _, _) in met.items():
        clipped, gone = mean_damage((record,), error, steps) if error else (0.0, 0.0)
        saturated, lost = saturated + steps * clipped, lost + steps * gone
    whole = max(1, sum(steps for steps, _, _ in met.values()))
    return saturated / whole, lost / whole


@lru_cache(maxsize=4096)
def recorded_risk(rule: str, recording: int, subject: str) -> Parts:
    """Return the expected damage of a rule to a tensor of the recording of that number.

    ``delayed`` with another length than the recorded one takes that one's.
    """
    one = recordings()[recording]
    record = one.tensors[subject]
    parsed = parse_rule(rule)
    if isinstance(parsed, Delayed):
        hindsight, delayed = FOLLOWING_RULES
        known = record.followed[hindsight if parsed.length == 1 else delayed]
        return met_damage(record.values, known)
    alike = [t for t in one.tensors.values() if t.role == record.role]
    saturated = lost = 0.0
    found = shift_errors(rule, record.shifts)
    for error, steps in found.items():
        clipped, gone = damage(record, error, alike)
        saturated, lost = saturated + steps * clipped, lost + steps * gone
    whole = max(1, sum(found.values()))
    return saturated / whole, lost / whole
