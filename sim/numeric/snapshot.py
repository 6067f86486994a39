"""A training session as arrays and plain JSON, and back: the state between two steps, bit for bit.

A restored session goes on as the one that was captured would have: the same parameters, shifts in
force, periods, prepared subgraphs, temperature and counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.numeric.session import MeasuredShifts, TrainingSession
from sim.rescaling import RescaleState
from sim.state import ManagerState, Observation, StepState

Arrays = dict[str, NDArray[Any]]

COUNTERS: dict[str, tuple[type, ...]] = {
    "step": (int,),
    "temperature_mc": (int, type(None)),
    "throttled": (bool,),
    "scans": (int,),
    "stale_saturating": (int,),
    "stale_coarse": (int,),
}
"""Fields of a state that are kept as they are, with the types that they have."""
FIXED = ("seed", "scenario")
"""Fields of a state that its session was made with; a snapshot of others is refused."""
IDLE = ("manager",)
"""Fields that no training session changes: a run-time manager is for inference."""
KEPT = {*COUNTERS, *FIXED, "shifts", "rescale", "true_shift", "prepared"}


class SnapshotError(ValueError):
    """A snapshot does not belong to this session, or is damaged; the message says where."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What a session is between two steps.

    Attributes
    ----------
    arrays
        Parameters by name, as :meth:`sim.numeric.parameters.Parameters.arrays` gives them. They
        are not copied: write them out, or copy them, before the session goes on.
    meta
        All else, made of what JSON knows.
    """

    arrays: Arrays
    meta: dict[str, Any]


def capture(session: TrainingSession) -> Snapshot:
    """Return the state of a session between two steps."""
    state, seen = session.state, session.seen
    assert isinstance(state.shifts, MeasuredShifts)
    assert state.manager == ManagerState(), "a training session has no run-time manager"
    meta = {
        **{name: getattr(state, name) for name in COUNTERS},
        "seed": state.seed,
        "scenario": state.scenario.name,
        "shifts": dict(state.shifts.found),
        "rescale": {s: [*r[:3], list(r.history)] for s, r in state.rescale.items()},
        "true_shift": dict(state.true_shift),
        "prepared": [list(visit) for visit in state.prepared],
        "seen": None if seen is None else [seen.makespan_ns, seen.energy_pj],
        "parameters_sha256": session.executor.parameters.sha256(),
    }
    return Snapshot(session.executor.parameters.arrays(), meta)


def restore(session: TrainingSession, snapshot: Snapshot) -> None:
    """Set a session of the same graph, plan, device and seed to a captured state.

    Raises
    ------
    SnapshotError
        The snapshot is of another seed, scenario or plan, lacks a field, holds a value of the
        wrong kind, or its parameters are not those that were captured. The session is then left
        in no useful state: make a new one.
    """
    meta = snapshot.meta
    wanted = {*KEPT, "seen", "parameters_sha256"}
    if meta.keys() != wanted:
        raise SnapshotError(f"snapshot: fields {sorted(meta.keys() ^ wanted)} are missing or new")
    for name, own in (("seed", session.state.seed), ("scenario", session.state.scenario.name)):
        if meta[name] != own:
            raise SnapshotError(
                f"snapshot: {name} is {meta[name]!r}; this session's is {own!r}; make one with it"
            )
    try:
        state, seen = _state(session.state, meta), _observation(meta["seen"])
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, SnapshotError):
            raise
        raise SnapshotError(f"snapshot: a value is not of its kind ({error})") from error
    session.executor.parameters.load(snapshot.arrays)
    found = session.executor.parameters.sha256()
    if found != meta["parameters_sha256"]:
        raise SnapshotError(
            f"snapshot: sha256 of the parameters is {found}, of those captured it was "
            f"{meta['parameters_sha256']}; the arrays are damaged"
        )
    session.state, session.seen = state, seen


def _state(start: StepState, meta: Mapping[str, Any]) -> StepState:
    unknown = {field.name for field in fields(StepState)} - {*KEPT, *IDLE}
    assert not unknown, f"a snapshot would lose {sorted(unknown)}"
    if meta["rescale"].keys() != start.rescale.keys():
        other = sorted(meta["rescale"].keys() ^ start.rescale.keys())
        raise SnapshotError(
            f"snapshot: tensors {other[:3]} are rescaled in one of snapshot and plan, not in "
            "both; restore it with the plan that it was captured under"
        )
    for name, types in COUNTERS.items():
        if type(meta[name]) not in types:
            raise TypeError(f"{name} is {meta[name]!r}")
    return replace(
        start,
        **{name: meta[name] for name in COUNTERS},
        shifts=MeasuredShifts(_integers(meta["shifts"])),
        rescale={s: _rescale(*meta["rescale"][s]) for s in start.rescale},
        true_shift=_integers(meta["true_shift"]),
        prepared=tuple((str(key), _integer(size)) for key, size in meta["prepared"]),
    )


def _observation(seen: object) -> Observation | None:
    if seen is None:
        return None
    if not isinstance(seen, list) or len(seen) != 2:
        raise TypeError(f"seen is {seen!r}")
    return Observation(_integer(seen[0]), _integer(seen[1]))


def _rescale(used: object, period: object, since: object, history: list[object]) -> RescaleState:
    return RescaleState(
        _integer(used), _integer(period), _integer(since), tuple(map(_integer, history))
    )


def _integers(values: Mapping[str, object]) -> dict[str, int]:
    return {name: _integer(value) for name, value in values.items()}


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no integer")
    return value


def copied(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return copies of all arrays, to keep while the session goes on."""
    return {name: np.array(array) for name, array in arrays.items()}
