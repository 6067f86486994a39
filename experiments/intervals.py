"""Confidence intervals of means over few trainings."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import stdev


def student_95(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t with so many degrees of freedom, 1 or more.

    >>> round(student_95(2), 3)
    4.303
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of two or more values, in their unit."""
    return student_95(len(values) - 1) * stdev(values) / sqrt(len(values))
