"""Tables of measured numbers: strict reading of CSV, and the columns that a law fits.

A table has a row per measurement. ``value`` in ``unit`` is what was measured, ``source`` says
where it was published, ``conditions`` under which it holds and ``mark`` how it was checked. The
other columns say what the measurement is of, as numbers or as labels.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cost_models.errors import CalibrationError, shown
from cost_models.reading import read_bytes

FloatArray = NDArray[np.float64]
MAX_TABLE_BYTES = 4_194_304
"""Tables are a few hundred KiB; a larger file is a mistake and is refused."""
COMMON: Final = ("value", "unit", "conditions", "source", "mark")
MARKS: Final = ("verified-from-text", "derived", "quoted-secondhand")


@dataclass(frozen=True, slots=True)
class Schema:
    """Columns of a table: ``unit`` of the value, labels with what is allowed, and numbers.

    Attributes
    ----------
    unit
        The one unit of ``value``.
    labels
        Column -> allowed words; an empty tuple allows any word.
    numbers
        Column -> smallest and largest value.
    """

    unit: str
    labels: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Header of the file, in any order there."""
        return ("name", *self.labels, *self.numbers, *COMMON)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Measurements as columns; ``values`` are positive, in ``unit``.

    ``sha256`` is the digest of the file that they were read from.
    """

    unit: str
    names: NDArray[np.str_]
    values: FloatArray
    sources: NDArray[np.str_]
    labels: Mapping[str, NDArray[np.str_]]
    numbers: Mapping[str, FloatArray]
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.values)

    def take(self, keep: NDArray[np.bool_]) -> Table:
        """Return the rows for which ``keep`` is true."""
        return replace(
            self,
            names=self.names[keep],
            values=self.values[keep],
            sources=self.sources[keep],
            labels={name: column[keep] for name, column in self.labels.items()},
            numbers={name: column[keep] for name, column in self.numbers.items()},
        )

    def with_numbers(self, columns: Mapping[str, FloatArray]) -> Table:
        """Return the table with further columns of numbers, as a model of the rows gives them."""
        return replace(self, numbers={**self.numbers, **columns})


def read_table(path: Path, schema: Schema) -> Table:
    """Read and validate a table of measured numbers.

    Raises
    ------
    CalibrationError
        On one line with file, line, field, value and what is allowed: an unreadable file, a
        column that is missing or unknown, a truncated line, a wrong unit, a number that is not
        finite or out of range, a word that is not allowed, or a name that appears twice.
    """
    raw = read_bytes(path, MAX_TABLE_BYTES, CalibrationError)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CalibrationError(f"{path}: is not UTF-8 text; save it as UTF-8 CSV") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[dict[str, str]] = []
    try:
        header = next(reader, [])
        _check_header(path.name, header, schema)
        for cells in reader:
            where = f"{path.name}: line {reader.line_num}"
            if len(cells) != len(header):
                raise CalibrationError(
                    f"{where}: has {len(cells)} of {len(header)} fields; the line is truncated or "
                    "has a stray comma: complete it or remove it"
                )
            row = dict(zip(header, cells, strict=True))
            _check_row(where, row, schema)
            rows.append(row)
    except csv.Error as cause:
        raise CalibrationError(
            f"{path.name}: line {reader.line_num}: is not CSV ({cause}); correct the quotes"
        ) from None
    _check_names(path.name, [row["name"] for row in rows])
    return Table(
        unit=schema.unit,
        names=np.array([row["name"] for row in rows], dtype=np.str_),
        values=np.array([float(row["value"]) for row in rows]),
        sources=np.array([row["source"] for row in rows], dtype=np.str_),
        labels={k: np.array([row[k] for row in rows], dtype=np.str_) for k in schema.labels},
        numbers={k: np.array([float(row[k]) for row in rows]) for k in schema.numbers},
        sha256=hashlib.sha256(raw).hexdigest(),
    )


def _check_header(file: str, header: list[str], schema: Schema) -> None:
    allowed = schema.columns
    for column in header:
        if column not in allowed or header.count(column) > 1:
            why = "appears twice" if column in allowed else "is unknown"
            raise CalibrationError(
                f"{file}: line 1: column {shown(column)} {why}; allowed once each: "
                f"{', '.join(allowed)}; remove it or correct its spelling"
            )
    missing = [column for column in allowed if column not in header]
    if missing:
        raise CalibrationError(
            f"{file}: line 1: column {shown(missing[0])} is missing; needed: {', '.join(allowed)}; "
            "add it"
        )


def _check_row(where: str, row: Mapping[str, str], schema: Schema) -> None:
    if row["unit"] != schema.unit:
        raise CalibrationError(
            f"{where}: unit: {shown(row['unit'])} is not allowed; allowed: {schema.unit!r}; convert"
        )
    if row["mark"] not in MARKS:
        raise CalibrationError(
            f"{where}: mark: {shown(row['mark'])} is not allowed; allowed: {', '.join(MARKS)}"
        )
    for column in ("name", "source"):
        if not row[column].strip() or not row[column].isprintable():
            raise CalibrationError(
                f"{where}: {column}: {shown(row[column])} is not allowed; give printable text"
            )
    for column, words in schema.labels.items():
        if not row[column] or (words and row[column] not in words):
            allowed = ", ".join(words) if words else "any word"
            raise CalibrationError(
                f"{where}: {column}: {shown(row[column])} is not allowed; allowed: {allowed}"
            )
    _check_number(where, "value", row["value"], 1e-9, 1e12)
    for column, (low, high) in schema.numbers.items():
        _check_number(where, column, row[column], low, high)


def _check_number(where: str, column: str, text: str, low: float, high: float) -> None:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:  # false for NaN
        raise CalibrationError(
            f"{where}: {column}: {shown(text)} is not allowed; give a number from {low:g} to "
            f"{high:g}"
        )


def _check_names(file: str, names: list[str]) -> None:
    if not names:
        raise CalibrationError(f"{file}: has no rows; add measurements below the header")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise CalibrationError(f"{file}: name: {shown(name)} appears twice; keep one")
        seen.add(name)
