"""Laws: a value as a function of a few physical coefficients, and their robust fit.

Coefficients are positive and fitted in logarithms; a residual is ``log(predicted / measured)``.
So a row of 3 ms counts as much as one of 3 s: absolute residuals would let large kernels decide
and leave a fixed cost, the thing that decides between CPU and DSP, off by a factor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from cost_models.errors import CalibrationError
from cost_models.fitting.table import FloatArray, Table

NOISE = 0.05
"""Log residual from which a row counts as an outlier (``f_scale`` of soft_l1): the repeatability
of phone measurements under locked clocks is a few percent."""
TINY_SENSITIVITY = 1e-6
"""Change of log(value) per log(coefficient) below which a coefficient has no influence."""
RANK_TOLERANCE = 1e-6
"""Smallest singular value of the scaled design, as a share of the largest."""
AT_BOUND = 1.01
"""Factor within which a coefficient counts as driven to its bound."""


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A positive number to be fitted between ``low`` and ``high`` from ``start`` on, in ``unit``.

    ``needs`` says what to measure where the rows do not identify it.
    """

    name: str
    unit: str
    start: float
    low: float
    high: float
    meaning: str
    needs: str


Predict = Callable[[FloatArray, Table], FloatArray]


@dataclass(frozen=True, slots=True)
class Law:
    """``predict(coefficients, rows)`` gives positive values in ``unit``.

    Attributes
    ----------
    block
        Label whose values have coefficients of their own; None: one set for all rows.
    """

    name: str
    title: str
    unit: str
    coefficients: tuple[Coefficient, ...]
    predict: Predict
    block: str | None = None

    @property
    def start(self) -> FloatArray:
        """Where a fit begins."""
        return np.array([c.start for c in self.coefficients])


def sensitivities(law: Law, theta: FloatArray, table: Table) -> FloatArray:
    """Return d log(value) / d log(coefficient), shape ``(rows, coefficients)``."""
    step = 1e-5
    columns = []
    for index in range(len(theta)):
        up, down = theta.copy(), theta.copy()
        up[index] *= np.exp(step)
        down[index] *= np.exp(-step)
        ratio = np.log(law.predict(up, table)) - np.log(law.predict(down, table))
        columns.append(ratio / (2 * step))
    return np.stack(columns, axis=1)


def unidentified(law: Law, table: Table) -> tuple[str, ...]:
    """Return names of the coefficients that the rows cannot tell, by the design at the start.

    A coefficient without influence on any row; where columns depend on each other, those that
    take part in the dependence; all of them where there are fewer rows than coefficients.
    """
    names = [c.name for c in law.coefficients]
    design = sensitivities(law, law.start, table) if len(table) else np.zeros((0, len(names)))
    if len(table):
        norms = np.abs(design).max(axis=0)
        idle = tuple(n for n, norm in zip(names, norms, strict=True) if norm < TINY_SENSITIVITY)
        if idle:
            return idle
        design = design / np.linalg.norm(design, axis=0)
    if len(table) < len(names):
        return tuple(names)
    _, singular, right = np.linalg.svd(design)
    if singular[-1] > RANK_TOLERANCE * singular[0]:
        return ()
    weights = np.abs(right[-1])
    return tuple(n for n, w in zip(names, weights, strict=True) if w > 0.1 * weights.max())


def check_identified(law: Law, table: Table) -> None:
    """Refuse rows that do not identify every coefficient.

    Raises
    ------
    CalibrationError
        Which coefficient cannot be identified, and what to measure.
    """
    names = unidentified(law, table)
    if names:
        needs = "; ".join(dict.fromkeys(c.needs for c in law.coefficients if c.name in names))
        raise CalibrationError(
            f"{law.name}: {len(table)} rows do not identify {', '.join(names)}; measure {needs}"
        )


def fit(law: Law, table: Table) -> FloatArray:
    """Return the coefficients that minimise the soft-L1 loss of the log residuals.

    ``scipy.optimize.least_squares(loss="soft_l1")``: quadratic up to :data:`NOISE`, linear beyond,
    so that a row measured under another load does not decide.

    Raises
    ------
    CalibrationError
        See :func:`check_identified`.

    Examples
    --------
    >>> import numpy as np
    >>> from cost_models.fitting.laws import DSP_NETWORKS
    >>> macs = np.array([0.3e9, 1.0e9, 4.0e9, 9.0e9])
    >>> empty = np.array(["a", "b", "c", "d"])
    >>> rows = Table("ms", empty, 3.0 + 2.0 * macs / 1e9, empty, {}, {"macs": macs})
    >>> fit(DSP_NETWORKS, rows).round(3).tolist()
    [3.0, 500.0]
    """
    check_identified(law, table)
    measured = np.log(table.values)
    low = np.log([c.low for c in law.coefficients])
    high = np.log([c.high for c in law.coefficients])

    def residuals(logs: FloatArray) -> FloatArray:
        return np.asarray(np.log(law.predict(np.exp(logs), table)) - measured, dtype=np.float64)

    found = least_squares(
        residuals,
        np.log(law.start),
        bounds=(low, high),
        loss="soft_l1",
        f_scale=NOISE,
        x_scale="jac",
        xtol=1e-9,
        ftol=1e-9,
        max_nfev=200,
    )
    return np.exp(np.asarray(found.x, dtype=np.float64))


def at_bound(coefficient: Coefficient, value: float) -> bool:
    """Whether the rows pushed a coefficient to the end of its range, which they do not identify."""
    return value < coefficient.low * AT_BOUND or value > coefficient.high / AT_BOUND
