"""From a table and a law to a calibration bundle: fit, leave groups out, keep every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cost_models.bundle import (
    SCHEMA,
    BlockInterval,
    Bundle,
    ExcludedRow,
    FittedCoefficient,
    FittedOn,
    FittedRow,
    PredictionInterval,
    Validation,
)
from cost_models.errors import CalibrationError
from cost_models.fitting.conformal import interval_of
from cost_models.fitting.crossval import (
    HeldOut,
    errors_of,
    group_of,
    jackknife_factor,
    leave_one_group_out,
)
from cost_models.fitting.law import Law, at_bound, fit, sensitivities
from cost_models.fitting.table import FloatArray, Table

DIGITS = 6
"""Significant digits of a bundle: far finer than any measurement, and coarser than the last bits
in which math libraries differ."""
NO_SPREAD = 1e-6
"""A coefficient that no fold moved rests on rows that were never left out: no interval."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Leave out one value of the column ``by`` at a time; ``target`` of the median error."""

    by: str
    target: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """One set of coefficients and what it predicts, within the rows of ``keep``."""

    prefix: str
    theta: FloatArray
    table: Table
    rows: Sequence[int]


def calibrate(
    law: Law,
    table: Table,
    groupings: Sequence[Grouping],
    *,
    file: str,
    fitted_on: Sequence[FittedOn],
    excluded: Mapping[str, str] | None = None,
) -> Bundle:
    """Fit ``law`` to ``table`` and validate it on groups that a fit has not seen.

    Parameters
    ----------
    groupings
        Ways of leaving out; the first carries the target and the interval of the coefficients.
    file
        Name of the file that the table was read from.
    fitted_on
        What the rows were measured on, for all of them or by block.
    excluded
        Row name -> why it takes no part in any fit; it is predicted and shown apart.

    Raises
    ------
    CalibrationError
        The rows do not identify a coefficient, or an excluded row does not exist.
    """
    reasons = dict(excluded or {})
    unknown = sorted(set(reasons) - set(table.names.tolist()))
    if unknown:
        raise CalibrationError(f"{file}: row {unknown[0]!r} is to be excluded and does not exist")
    used = table.take(~np.isin(table.names, list(reasons)))
    blocks = _blocks(law, used)
    validations: list[Validation] = []
    coefficients: list[FittedCoefficient] = []
    rows: tuple[FittedRow, ...] = ()
    for grouping in groupings:
        held = [leave_one_group_out(law, block.table, grouping.by) for block in blocks]
        predicted = _fitted_rows(law, used, blocks, grouping.by, held)
        if not validations:
            rows = predicted
            for block, one in zip(blocks, held, strict=True):
                coefficients += _coefficients(law, block, one)
        missing = [
            f"{block.prefix}{group}: without it {', '.join(lost)} cannot be identified"
            for block, one in zip(blocks, held, strict=True)
            for group, lost in one.missing.items()
        ]
        if all(row.held_out is None for row in predicted):
            raise CalibrationError(
                f"{law.name}: no row can be predicted without its {grouping.by}; measure more of "
                "them"
            )
        validations.append(validation_of(predicted, grouping, missing))
    if not file.isprintable():
        raise CalibrationError(f"{file!a}: give the file a name of printable characters")
    return Bundle(
        schema_version=SCHEMA,
        name=law.name,
        title=law.title,
        unit=law.unit,
        table=file,
        table_sha256=table.sha256,
        sources=tuple(sorted(set(used.sources.tolist()))),
        fitted_on=tuple(fitted_on),
        coefficients=tuple(coefficients),
        validations=tuple(validations),
        rows=rows,
        excluded=_excluded_rows(law, table, blocks, reasons),
    )


def _blocks(law: Law, table: Table) -> list[_Block]:
    if law.block is None:
        return [_Block("", fit(law, table), table, range(len(table)))]
    labels = table.labels[law.block]
    blocks = []
    for value in dict.fromkeys(labels.tolist()):
        part = table.take(labels == value)
        try:
            theta = fit(law, part)
        except CalibrationError as cause:
            raise CalibrationError(f"{law.block} {value!r}: {cause}") from None
        blocks.append(_Block(f"{value}.", theta, part, np.flatnonzero(labels == value).tolist()))
    return blocks


def _coefficients(law: Law, block: _Block, held: HeldOut) -> list[FittedCoefficient]:
    factors = jackknife_factor(held.folds)
    touched = (np.abs(sensitivities(law, law.start, block.table)) > 1e-6).sum(axis=0)
    found = []
    for index, each in enumerate(law.coefficients):
        value, factor = float(block.theta[index]), float(factors[index])
        stuck = at_bound(each, value)
        known = not stuck and np.isfinite(factor) and factor > 1 + NO_SPREAD
        found.append(
            FittedCoefficient(
                name=block.prefix + each.name,
                unit=each.unit,
                meaning=each.meaning,
                value=_rounded(value),
                low=_rounded(value / factor) if known else None,
                high=_rounded(value * factor) if known else None,
                at_bound=stuck,
                rows=int(touched[index]),
            )
        )
    return found


def validation_of(
    rows: Sequence[FittedRow], grouping: Grouping, not_predicted: Sequence[str]
) -> Validation:
    """Summarise the held-out errors of rows, all together and by block.

    Groups are values of ``grouping.by``: one that several blocks have (a buffer size in two
    set-ups, a network in several roles) counts once, since its rows share what is odd about it.
    """
    known = [row for row in rows if row.held_out is not None]
    names = np.array([row.name for row in known], dtype=np.str_)
    predicted = np.array([row.held_out for row in known], dtype=np.float64)
    errors = errors_of(names, predicted, np.array([row.measured for row in known]))
    blocks = dict.fromkeys(row.block for row in known)
    interval = _interval(known)
    return Validation(
        by=grouping.by,
        groups=interval.groups,
        rows=errors.rows,
        median=_rounded(errors.median),
        p90=_rounded(errors.p90),
        worst=_rounded(errors.worst),
        worst_row=errors.worst_row,
        signed_median=_rounded(errors.signed_median),
        target=grouping.target,
        interval=interval,
        blocks=tuple(
            BlockInterval(block=name, interval=_interval([r for r in known if r.block == name]))
            for name in blocks
        ),
        not_predicted=tuple(not_predicted),
    )


def _interval(rows: Sequence[FittedRow]) -> PredictionInterval:
    found = interval_of(
        np.array([row.group for row in rows], dtype=np.str_),
        np.array([row.held_out for row in rows], dtype=np.float64),
        np.array([row.measured for row in rows]),
    )
    return PredictionInterval(
        kind=found.kind,
        low=_rounded(found.low),
        high=_rounded(found.high),
        groups=found.groups,
        level=found.level,
    )


def _fitted_rows(
    law: Law, table: Table, blocks: Sequence[_Block], by: str, held: Sequence[HeldOut]
) -> tuple[FittedRow, ...]:
    fitted, held_out = (np.full(len(table), np.nan) for _ in range(2))
    names = [""] * len(table)
    for block, one in zip(blocks, held, strict=True):
        fitted[block.rows] = law.predict(block.theta, block.table)
        held_out[block.rows] = one.predicted
        for row in block.rows:
            names[row] = block.prefix.removesuffix(".")
    groups = group_of(table, by)
    return tuple(
        FittedRow(
            name=str(table.names[i]),
            block=names[i],
            group=str(groups[i]),
            measured=float(table.values[i]),
            fitted=_rounded(float(fitted[i])),
            held_out=_rounded(float(held_out[i])) if np.isfinite(held_out[i]) else None,
        )
        for i in range(len(table))
    )


def _excluded_rows(
    law: Law, table: Table, blocks: Sequence[_Block], reasons: Mapping[str, str]
) -> tuple[ExcludedRow, ...]:
    rows = []
    for name, reason in reasons.items():
        one = table.take(table.names == name)
        predicted = float(law.predict(blocks[0].theta, one)[0]) if law.block is None else None
        rows.append(
            ExcludedRow(
                name=name,
                measured=float(one.values[0]),
                predicted=None if predicted is None else _rounded(predicted),
                reason=reason,
            )
        )
    return tuple(rows)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
