"""A figure of a benchmark: what was measured, in which unit, and the bound it should keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; ``bound`` is None where nothing is promised."""

    name: str
    value: float
    unit: str
    bound: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure keeps its bound."""
        if self.bound is None:
            return True
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def table(figures: Sequence[Figure]) -> str:
    """Figures one per line, with bounds and whether they were kept."""
    lines = []
    for figure in figures:
        line = f"{figure.name:32s} {figure.value:12.2f} {figure.unit:2s}"
        if figure.bound is not None:
            sense = ">=" if figure.at_least else "<="
            line += f"  {sense} {figure.bound:g} {figure.unit}"
            line += "  kept" if figure.met else "  MISSED"
        lines.append(line.rstrip())
    return "\n".join(lines)
