"""How well a law predicts rows that it has not seen: one group is left out at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cost_models.fitting.law import Law, fit, unidentified
from cost_models.fitting.table import FloatArray, Table


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Predictions of rows by fits that left out the whole group of each.

    Attributes
    ----------
    groups
        Group of each row.
    predicted
        In the unit of the table; NaN where the other groups do not identify a coefficient.
    folds
        Coefficients of each fit that was possible, shape ``(fits, coefficients)``.
    missing
        Group -> the coefficients that cannot be identified without it.
    """

    groups: NDArray[np.str_]
    predicted: FloatArray
    folds: FloatArray
    missing: dict[str, tuple[str, ...]]


def leave_one_group_out(law: Law, table: Table, by: str) -> HeldOut:
    """Predict each group of rows that share the label or number ``by`` from all others.

    Nothing of a group takes part in the fit that predicts it. A group without which the rest does
    not identify a coefficient is not predicted, and is named in ``missing``.
    """
    groups = group_of(table, by)
    predicted = np.full(len(table), np.nan)
    folds: list[FloatArray] = []
    missing: dict[str, tuple[str, ...]] = {}
    for group in dict.fromkeys(groups.tolist()):
        held = groups == group
        rest = table.take(~held)
        lost = unidentified(law, rest)
        if lost:
            missing[group] = lost
            continue
        theta = fit(law, rest)
        folds.append(theta)
        predicted[held] = law.predict(theta, table.take(held))
    shape = (len(folds), len(law.coefficients))
    return HeldOut(groups, predicted, np.array(folds).reshape(shape), missing)


def group_of(table: Table, by: str) -> NDArray[np.str_]:
    """Return the group of each row: a label, or a number written in full."""
    if by in table.labels:
        return table.labels[by]
    return np.array([f"{number:g}" for number in table.numbers[by]], dtype=np.str_)


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative errors of predictions: ``predicted / measured - 1``; ``worst`` keeps its sign."""

    median: float
    p90: float
    worst: float
    worst_row: str
    signed_median: float
    rows: int


def errors_of(names: NDArray[np.str_], predicted: FloatArray, measured: FloatArray) -> Errors:
    """Summarise the predicted rows; those without a prediction (NaN) do not count.

    Examples
    --------
    >>> import numpy as np
    >>> names = np.array(["a", "b", "c"])
    >>> errors_of(names, np.array([110.0, 80.0, np.nan]), np.full(3, 100.0)).worst_row
    'b'
    """
    known = np.isfinite(predicted)
    signed = predicted[known] / measured[known] - 1
    size = np.abs(signed)
    worst = int(np.argmax(size))
    return Errors(
        median=float(np.median(size)),
        p90=float(np.percentile(size, 90)),
        worst=float(signed[worst]),
        worst_row=str(names[known][worst]),
        signed_median=float(np.median(signed)),
        rows=int(known.sum()),
    )


def jackknife_factor(folds: FloatArray) -> FloatArray:
    """Return the factor of the 90 % interval of each coefficient, ``value / f .. value * f``.

    Delete-a-group jackknife in logarithms: ``se^2 = (G - 1) / G sum (log t_g - mean)^2``
    (Efron and Tibshirani 1993, chapter 11), times the 95 % quantile of Student's t with G - 1
    degrees of freedom. A diagnostic: predictions have intervals of their own.
    """
    count = len(folds)
    if count < 2:
        return np.full(folds.shape[1], np.nan)
    from scipy.stats import t

    logs = np.log(folds)
    variance = (count - 1) / count * ((logs - logs.mean(axis=0)) ** 2).sum(axis=0)
    return np.asarray(np.exp(np.sqrt(variance) * t.ppf(0.95, count - 1)))
