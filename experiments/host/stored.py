"""Samples of plans as a store holds them: every field is checked where it enters.

A sample is taken only if this version would measure the same under its key, so no plan counts
twice and no network that is predicted is fitted on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from cost_models.errors import shown
from cost_models.samples import Fingerprint, Json, Sample, SampleError, canonical
from experiments.host.measure import BACKEND, KIND, MODE, STEPS, UNIT, nearest, wanted

FASTEST = 0.1
"""Share of the median below which no step is believed: all steps do the same arithmetic, and the
fastest of the committed ones took 0.38 of its plan's median."""
LONGEST_NS = 3_600_000_000_000
"""An hour; the longest committed step took 0.3 s."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The measured steps of one plan.

    Attributes
    ----------
    makespans_ns
        Of each step, nanoseconds.
    kinds
        Letters of the modes, and misses (``0`` or ``1`` a subgraph), that steps had.
    kind
        Of each step, its place in ``kinds``.
    kept
        Steps whose rows were kept.
    equal
        Whether the numbers were those of the numeric executor, bit for bit; None if not compared.
    """

    makespans_ns: tuple[int, ...]
    kinds: tuple[tuple[str, str], ...]
    kind: tuple[int, ...]
    kept: tuple[int, ...]
    equal: bool | None


def all_wanted() -> dict[str, Mapping[str, Json]]:
    """Configurations of all plans of the study, by key."""
    return dict([*wanted(predicted=True), *wanted(predicted=False)])


def check_machine(samples: Iterable[Sample], fingerprints: Iterable[Fingerprint]) -> None:
    """Verify that samples are of one machine, and of the host backend.

    Raises
    ------
    SampleError
        They are not; the message says what differs.
    """
    used = {sample.fingerprint for sample in samples}
    found = list({one.id: one for one in fingerprints if one.id in used}.values())
    for one in found:
        if one.backend != BACKEND:
            raise SampleError(
                f"fingerprint.backend is {shown(one.backend)}; allowed: {BACKEND}; give a file "
                "that validate --measure wrote"
            )
    if len(found) > 1:
        what = "; ".join(found[1].differences(found[0]))
        raise SampleError(
            f"samples are of {len(found)} machines ({what}); allowed: one; measure each into a "
            "file of its own"
        )


def check_plans(samples: Iterable[Sample]) -> None:
    """Verify that each sample is one of a plan that is wanted.

    Raises
    ------
    SampleError
        Names sample, field, value and what is allowed.
    """
    known = all_wanted()
    for sample in samples:
        if sample.key not in known:
            raise SampleError(
                f"sample {shown(sample.key)}: key: no plan of this study; allowed: {len(known)} "
                f"keys such as {next(iter(known))!r}; measure into another file"
            )
        _check_config(sample, known[sample.key])
        steps_of(sample)


def _check_config(sample: Sample, config: Mapping[str, Json]) -> None:
    for name in (*config, *(name for name in sample.config if name not in config)):
        if name not in sample.config:
            raise _wrong(sample, f"config.{name}", "nothing", canonical({name: config[name]}))
        if name not in config:
            raise _wrong(
                sample, f"config.{shown(name)}", shown(sample.config[name]), "no such field"
            )
        if canonical({name: sample.config[name]}) != canonical({name: config[name]}):
            value = shown(sample.config[name])
            raise _wrong(sample, f"config.{name}", value, f"{config[name]!r} under this key")


def steps_of(sample: Sample) -> Steps:
    """Read what a sample says of its steps.

    Raises
    ------
    SampleError
        Names sample, field, value and what is allowed.
    """
    for name, value, only in (("kind", sample.kind, KIND), ("unit", sample.unit, UNIT)):
        if value != only:
            raise _wrong(sample, name, shown(value), only)
    predicted = sample.config.get("use") == "predict"
    names = ("makespans_ns", "kinds", "kind", "kept", *(("equal",) if predicted else ()))
    for name in (*names, *sample.conditions):
        if name not in sample.conditions:
            raise _wrong(sample, f"conditions.{name}", "nothing", f"all of {', '.join(names)}")
        if name not in names:
            value = shown(sample.conditions[name])
            raise _wrong(sample, f"conditions.{shown(name)}", value, f"{', '.join(names)} only")
    makespans, kinds = _makespans(sample), _kinds(sample)
    kind = _kind(sample, len(kinds))
    return Steps(makespans, kinds, kind, _kept(sample, makespans), _equal(sample))


def _makespans(sample: Sample) -> tuple[int, ...]:
    name = "conditions.makespans_ns"
    found = _integers(sample, "makespans_ns", f"{STEPS} integers")
    least = FASTEST * median(found)
    for step, value in enumerate(found):
        if not max(1, least) <= value <= LONGEST_NS:
            raise _wrong(
                sample,
                f"{name}[{step}]",
                shown(value),
                f"{least:.0f} ({FASTEST:g} of the median), at least 1, to {LONGEST_NS}",
            )
    return found


def _kinds(sample: Sample) -> tuple[tuple[str, str], ...]:
    found = sample.conditions["kinds"]
    allowed = f"1 to {STEPS} different pairs of letters ({', '.join(MODE)}) and misses (0, 1)"
    if not isinstance(found, list) or not 1 <= len(found) <= STEPS:
        raise _wrong(sample, "conditions.kinds", shown(found), allowed)
    pairs = []
    for place, pair in enumerate(found):
        match pair:
            case [str(modes), str(misses)] if set(modes) <= MODE.keys() and set(misses) <= {*"01"}:
                pairs.append((modes, misses))
            case _:
                raise _wrong(sample, f"conditions.kinds[{place}]", shown(pair), allowed)
    if len(set(pairs)) < len(pairs):
        raise _wrong(sample, "conditions.kinds", shown(found), allowed)
    return tuple(pairs)


def _kind(sample: Sample, kinds: int) -> tuple[int, ...]:
    allowed = f"{STEPS} integers, each of 0 .. {kinds - 1} (places in kinds) at least once"
    found = _integers(sample, "kind", allowed)
    if set(found) != set(range(kinds)):
        raise _wrong(sample, "conditions.kind", shown(list(found)), allowed)
    return found


def _kept(sample: Sample, makespans: Sequence[int]) -> tuple[int, ...]:
    found, allowed = sample.conditions["kept"], nearest(makespans)
    if canonical({"kept": found}) != canonical({"kept": allowed}):
        what = f"{allowed}, the steps whose makespans are nearest to the median"
        raise _wrong(sample, "conditions.kept", shown(found), what)
    return tuple(allowed)


def _equal(sample: Sample) -> bool | None:
    found = sample.conditions.get("equal")
    if "equal" in sample.conditions and not isinstance(found, bool):
        raise _wrong(sample, "conditions.equal", shown(found), "true or false")
    return found if isinstance(found, bool) else None


def _integers(sample: Sample, name: str, allowed: str) -> tuple[int, ...]:
    """One integer for each step."""
    found: Any = sample.conditions[name]
    if not isinstance(found, list) or len(found) != STEPS:
        raise _wrong(sample, f"conditions.{name}", shown(found), allowed)
    for step, value in enumerate(found):
        if type(value) is not int:
            raise _wrong(sample, f"conditions.{name}[{step}]", shown(value), allowed)
    return tuple(found)


def _wrong(sample: Sample, name: str, value: str, allowed: str) -> SampleError:
    return SampleError(
        f"sample {shown(sample.key)}: {name} is {value}; allowed: {allowed}; measure it again"
    )
