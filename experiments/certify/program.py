"""A linear program whose optimum no plan beats, and a bound from it in exact integers.

All coefficients are integers. A solver works in floating point; what it returns is only a hint.
:meth:`Program.safe_bound` takes its multipliers, rounds them to integers over a power of two, and
evaluates the Lagrangian in integer arithmetic: every variable lies in a box, so that any
multipliers that are not negative give a valid bound (Neumaier and Shcherbina, "Safe bounds in
linear and mixed-integer linear programming", 2004).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array

F64 = NDArray[np.float64]
Term = tuple[int, int]
"""A variable and its integer coefficient."""

HEADROOM = 1 << 61
"""Sums of products stay below this, so that int64 never wraps."""


@dataclass(slots=True, eq=False)
class Program:
    """Minimise ``cost @ x`` where ``0 <= x <= box`` and each row is at least its bound.

    A row that must be equal is entered twice, once with all signs turned.
    """

    box: list[int] = field(default_factory=list)
    cost: list[int] = field(default_factory=list)
    least: list[int] = field(default_factory=list)
    _columns: list[int] = field(default_factory=list)
    _values: list[int] = field(default_factory=list)
    _starts: list[int] = field(default_factory=lambda: [0])

    def variable(self, box: int, cost: int = 0) -> int:
        """Add a variable between 0 and ``box``; return its index."""
        self.box.append(box)
        self.cost.append(cost)
        return len(self.box) - 1

    def at_least(self, terms: Iterable[Term], least: int) -> int:
        """Add the row ``sum of terms >= least``; return its index."""
        for column, value in terms:
            self._columns.append(column)
            self._values.append(value)
        self._starts.append(len(self._columns))
        self.least.append(least)
        return len(self.least) - 1

    def equal(self, terms: Iterable[Term], value: int) -> None:
        """Add the row ``sum of terms == value``."""
        terms = list(terms)
        self.at_least(terms, value)
        self.at_least([(column, -factor) for column, factor in terms], -value)

    @property
    def rows(self) -> csr_array:
        """The matrix of the rows, int64."""
        shape = (len(self.least), len(self.box))
        content = (np.array(self._values, np.int64), self._columns, self._starts)
        return csr_array(content, shape=shape)

    def solve(self) -> Solution:
        """Solve in floating point.

        Raises
        ------
        ArithmeticError
            The solver found no optimum, which a bounded program with a plan in it has.
        """
        rows = self.rows
        scale = 1.0 / np.maximum(1.0, abs(rows).max(axis=1).toarray().ravel())
        box = np.array(self.box, np.float64)
        wide = np.maximum(1.0, box)
        scaled = rows.astype(np.float64).multiply(scale[:, None]).multiply(wide[None, :])
        # What linprog takes and its stubs do not know: a sparse matrix, bounds as an array.
        matrix: Any = -csr_array(scaled)
        bounds: Any = np.stack([np.zeros(len(box)), np.where(box < wide, box, 1.0)], axis=1)
        unit = max(1.0, float(np.max(wide * np.abs(self.cost))))
        found = linprog(
            wide * np.array(self.cost, np.float64) / unit,
            A_ub=matrix,
            b_ub=-scale * np.array(self.least, np.float64),
            bounds=bounds,
            method="highs-ds",
        )
        if not found.success:
            raise ArithmeticError(f"linear program: {found.message}")
        multipliers = -np.asarray(found.ineqlin.marginals) * scale * unit
        return Solution(np.asarray(found.x) * wide, np.maximum(0.0, multipliers))

    def safe_bound(self, multipliers: F64) -> int:
        """Return what these multipliers prove, in exact integers, rounded up.

        Raises
        ------
        ArithmeticError
            Numbers are so large that int64 would not hold the sums.
        """
        rows, least = self.rows, np.array(self.least, np.int64)
        cost, box = np.array(self.cost, np.int64), np.array(self.box, np.int64)
        largest = float((abs(rows).T @ multipliers).max(initial=0.0)) + float(abs(cost).max())
        bits = int(np.log2(HEADROOM / max(1.0, largest)))
        if bits < 1:
            raise ArithmeticError("coefficients of the linear program are too large for int64")
        exact = np.floor(multipliers * float(1 << bits)).astype(np.int64)
        reduced = (cost << bits) - rows.T @ exact
        value = sum(int(m) * int(v) for m, v in zip(exact, least, strict=True) if m)
        value += sum(int(r) * int(b) for r, b in zip(reduced, box, strict=True) if r < 0)
        return -(-value >> bits)


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A point near the optimum and the multipliers of the rows, in floating point."""

    point: F64
    multipliers: F64
