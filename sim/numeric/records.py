"""What rescaling met in real tensors, step by step: a trace that the simulator replays.

For each rescaled tensor of a step: the shift that its largest accumulator asked for (*true*), the
shift that was used, whether it was scanned for, and how many values saturated (clipped) or were
lost (a non-zero accumulator that became 0). The trace of a run is a JSON file; its true shifts
make a :class:`sim.state.RecordedShifts`, so any other plan can be simulated on them, open-loop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.files import write_atomic
from sim.state import RecordedShifts

SCHEMA = 1
FIELDS = ("true", "used", "scanned", "saturated", "lost", "values")


class TraceError(ValueError):
    """A file is no rescale trace; the message names it, the field and what is allowed."""


@dataclass(frozen=True, slots=True)
class ShiftRecord:
    """One rescaled tensor in one step.

    Attributes
    ----------
    true, used
        Shift that its largest magnitude asked for, and the one applied.
    scanned
        Whether a scan of the accumulator found it.
    saturated, lost
        Values clipped, and non-zero accumulators that became 0.
    values
        Values in the tensor.
    """

    true: int
    used: int
    scanned: bool
    saturated: int
    lost: int
    values: int

    def joined(self, other: ShiftRecord) -> ShiftRecord:
        """Both micro-batches of one tensor together: counts add, the larger true shift holds."""
        return ShiftRecord(
            max(self.true, other.true),
            self.used,
            self.scanned,
            self.saturated + other.saturated,
            self.lost + other.lost,
            self.values + other.values,
        )


@dataclass(slots=True)
class RescaleTrace:
    """Records of a run: per subject one row per step, in the order of :data:`FIELDS`."""

    model: str
    plan: str
    profile: str
    rows: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)

    def append(self, records: Mapping[str, ShiftRecord]) -> None:
        """Add one step."""
        for subject, record in records.items():
            row = tuple(int(getattr(record, name)) for name in FIELDS)
            self.rows.setdefault(subject, []).append(row)

    def shifts(self) -> RecordedShifts:
        """True shifts of every tensor, for :func:`sim.simulate`."""
        return RecordedShifts({s: tuple(row[0] for row in rows) for s, rows in self.rows.items()})

    def totals(self, first_step: int = 0) -> dict[str, float]:
        """Sums over all tensors from ``first_step`` on, and shares in 0 .. 1.

        ``stale``: the used shift was not the true one; ``saturated_share`` and ``lost_share``
        are of all values.
        """
        rows = [row for rows in self.rows.values() for row in rows[first_step:]]
        count, values = max(1, len(rows)), max(1, sum(row[5] for row in rows))
        sums = {
            "tensors": len(rows),
            "scans": sum(row[2] for row in rows),
            "stale": sum(row[0] != row[1] for row in rows),
            "saturated": sum(row[3] for row in rows),
            "lost": sum(row[4] for row in rows),
        }
        return {
            **sums,
            "skipped_share": 1 - sums["scans"] / count,
            "saturated_share": sums["saturated"] / values,
            "lost_share": sums["lost"] / values,
        }

    def save(self, path: Path) -> None:
        """Write the trace as JSON, whole or not at all."""
        content = {
            "schema": SCHEMA,
            "model": self.model,
            "plan": self.plan,
            "profile": self.profile,
            "fields": FIELDS,
            "rows": self.rows,
        }
        write_atomic(path, json.dumps(content, separators=(",", ":"), sort_keys=True))


MOST = 1 << 63
"""Values are below: a session counts in int64."""
RECORD = "record one with mandheling train --trace"


def load_trace(path: Path) -> RescaleTrace:
    """Read a trace that :meth:`RescaleTrace.save` wrote.

    Raises
    ------
    TraceError
        The file cannot be read, is no JSON, has another schema, or a row that is not right.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TraceError(f"{path}: no rescale trace can be read ({error}); {RECORD}") from error
    known = {"schema", "model", "plan", "profile", "fields", "rows"}
    if not isinstance(content, dict) or content.keys() != known or content["schema"] != SCHEMA:
        raise TraceError(f"{path}: is no rescale trace of schema {SCHEMA}; {RECORD}")
    if content["fields"] != list(FIELDS):
        raise TraceError(f"{path}: fields are {content['fields']!r:.60}; allowed: {list(FIELDS)}")
    for name in ("model", "plan", "profile"):
        if not isinstance(content[name], str):
            raise TraceError(f"{path}: {name} is {content[name]!r:.60}; allowed: a name; {RECORD}")
    rows = {
        subject: [_row(path, subject, row) for row in rows]
        for subject, rows in _mapping(path, content["rows"]).items()
    }
    return RescaleTrace(content["model"], content["plan"], content["profile"], rows)


def _mapping(path: Path, rows: Any) -> dict[str, list[Any]]:
    if not isinstance(rows, dict) or not all(isinstance(value, list) for value in rows.values()):
        raise TraceError(f"{path}: rows must map each tensor to a list of rows")
    return rows


def _row(path: Path, subject: str, row: Any) -> tuple[int, ...]:
    right = isinstance(row, list) and len(row) == len(FIELDS)
    if not right or not all(type(value) is int and -MOST <= value < MOST for value in row):
        raise TraceError(
            f"{path}: a row of {subject!r:.60} is {row!r:.80}; allowed: {len(FIELDS)} ints of "
            f"64 bits; {RECORD}"
        )
    return tuple(row)
