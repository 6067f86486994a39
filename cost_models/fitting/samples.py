"""From samples that a backend took to a table that a law fits: medians of raw repetitions."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from pydantic import ValidationError

from cost_models.bundle import FittedOn
from cost_models.errors import CalibrationError, one_line, shown
from cost_models.fitting.table import Schema, Table
from cost_models.samples import Fingerprint, Sample, StoreContent, canonical

SCALES: Final[Mapping[tuple[str, str], float]] = {
    ("ns", "ns"): 1.0,
    ("ns", "us"): 1e-3,
    ("ns", "ms"): 1e-6,
    ("mw", "mW"): 1.0,
    ("packets", "packets"): 1.0,
}
"""Unit of a sample, unit of a law -> factor."""
LEAST_REPETITIONS: Final = 3
"""Repetitions below which a median of times says nothing; counts of packets do not scatter."""
EXACT_UNITS: Final = ("packets",)


def convertible(unit: str, law: str) -> bool:
    """Whether a law in unit ``law`` can be fitted to samples in ``unit``."""
    return (unit, law) in SCALES


def samples_of(content: StoreContent, kind: str, file: str) -> tuple[Sample, ...]:
    """Return the samples of a kind.

    Raises
    ------
    CalibrationError
        There are none; the message names the kinds that there are.
    """
    found = tuple(sample for sample in content.samples if sample.kind == kind)
    if not found:
        kinds = sorted({sample.kind for sample in content.samples}) or ["none"]
        raise CalibrationError(
            f"{file}: has no samples of kind {kind!r}; kinds in it: {', '.join(kinds)}; take some"
        )
    return found


def table_of(samples: Sequence[Sample], schema: Schema, file: str) -> Table:
    """Return samples as a table: a row each, named by its key, its value the median.

    Parameters
    ----------
    samples
        Of one kind; their ``config`` has the labels and numbers of the schema.
    file
        Name of the store, for messages.

    Raises
    ------
    CalibrationError
        Names store, key and field: a unit that does not convert, too few repetitions, a median of
        0, or a label or number that is missing or not allowed.

    Examples
    --------
    >>> one = Sample("a", "copy", "ns", (3100, 3000, 3500), {"bytes": 4096})
    >>> table_of([one], Schema("us", {}, {"bytes": (1, 1e9)}), "store").values.tolist()
    [3.1]
    """
    values = []
    for sample in samples:
        check_raw(sample, schema.unit, file)
        scale = SCALES[sample.unit, schema.unit]
        values.append(sample.median * scale)
    labels = {
        name: np.array([_label(file, sample, name, words) for sample in samples], dtype=np.str_)
        for name, words in schema.labels.items()
    }
    numbers = {
        name: np.array([_number(file, sample, name, *limits) for sample in samples])
        for name, limits in schema.numbers.items()
    }
    text = "\n".join(canonical(sample.document()) for sample in samples)
    return Table(
        unit=schema.unit,
        names=np.array([sample.key for sample in samples], dtype=np.str_),
        values=np.array(values),
        sources=np.array([f"{file}, fingerprint {s.fingerprint}" for s in samples], dtype=np.str_),
        labels=labels,
        numbers=numbers,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
    )


def check_raw(sample: Sample, law: str, file: str) -> None:
    """Refuse a sample that no law in unit ``law`` can be fitted to.

    Raises
    ------
    CalibrationError
        Names store, key and field: a unit that does not convert, too few repetitions, or a median
        of 0.
    """
    where = f"{file}: {sample.key}"
    if not sample.key.isprintable():
        raise CalibrationError(f"{file}: key {sample.key!a}: use printable characters only")
    if not convertible(sample.unit, law):
        allowed = [unit for unit, of in SCALES if of == law]
        raise CalibrationError(
            f"{where}: unit: {shown(sample.unit)} is not allowed; allowed: {allowed}; measure in "
            "one of these"
        )
    count = len(sample.raw)
    if count < LEAST_REPETITIONS and sample.unit not in EXACT_UNITS:
        raise CalibrationError(
            f"{where}: raw: {count} of {LEAST_REPETITIONS} repetitions or more; sample it again"
        )
    if not sample.median > 0:
        why = "sample it again" if sample.unit in EXACT_UNITS else "the clock is too coarse for it"
        raise CalibrationError(f"{where}: raw: has median 0; {why}")


def fitted_on(content: StoreContent, samples: Sequence[Sample], file: str) -> FittedOn:
    """Return what samples were measured on.

    Raises
    ------
    CalibrationError
        They are of several machines, whose coefficients would be of neither, or a fact has
        characters that do not print.
    """
    used = {sample.fingerprint for sample in samples}
    found: list[Fingerprint] = [one for one in content.fingerprints if one.id in used]
    if len(used) > 1:
        what = "; ".join(found[0].differences(found[1]))
        raise CalibrationError(
            f"{file}: the samples are of {len(used)} machines ({what}); fit one at a time"
        )
    try:
        return FittedOn(facts={"backend": found[0].backend, **found[0].facts})
    except ValidationError as cause:
        raise CalibrationError(one_line(f"{file}: fingerprint", FittedOn, cause)) from None


def _given(file: str, sample: Sample, field: str) -> object:
    if field not in sample.config:
        known = ", ".join(sample.config) or "nothing"
        raise CalibrationError(
            f"{file}: {sample.key}: config.{field}: is missing; it has {known}; sample with it"
        )
    return sample.config[field]


def _label(file: str, sample: Sample, field: str, words: tuple[str, ...]) -> str:
    value = _given(file, sample, field)
    if not isinstance(value, str) or not value or (words and value not in words):
        allowed = ", ".join(words) if words else "any word"
        raise CalibrationError(
            f"{file}: {sample.key}: config.{field}: {shown(value)} is not allowed; "
            f"allowed: {allowed}"
        )
    return value


def _number(file: str, sample: Sample, field: str, low: float, high: float) -> float:
    value = _given(file, sample, field)
    number = value if isinstance(value, int | float) else math.nan
    if isinstance(value, bool) or not low <= number <= high:  # false for NaN
        raise CalibrationError(
            f"{file}: {sample.key}: config.{field}: {shown(value)} is not allowed; give a number "
            f"from {low:g} to {high:g}"
        )
    return float(number)
