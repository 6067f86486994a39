"""The calibration bundle: what was fitted, on what, and how well it predicts; frozen JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cost_models.errors import one_line
from cost_models.fitting.errors import CalibrationError
from cost_models.reading import read_bytes

SCHEMA: Final = 1
MAX_BUNDLE_BYTES = 4_194_304
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Count = Annotated[int, Field(strict=True, ge=0)]


class Part(BaseModel):
    """A table of a bundle: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FittedCoefficient(Part):
    """A coefficient with its 90 % jackknife range; none where the rows pushed it to a bound.

    ``rows`` is how many rows it was fitted on.
    """

    name: str
    unit: str
    meaning: str
    value: Positive
    low: Positive | None
    high: Positive | None
    at_bound: bool
    rows: Count


class PredictionInterval(Part):
    """A measurement lies in ``predicted * low .. predicted * high``; see ``conformal``."""

    kind: Literal["conformal", "range"]
    low: Positive
    high: Positive
    groups: Count
    level: Finite | None


class Validation(Part):
    """Errors of rows that were predicted by fits without their group; ``by`` names the groups."""

    by: str
    groups: Count
    rows: Count
    median: Finite
    p90: Finite
    worst: Finite
    worst_row: str
    signed_median: Finite
    target: Finite | None
    interval: PredictionInterval
    not_predicted: tuple[str, ...]


class FittedRow(Part):
    """A row that took part in the fit; ``held_out`` is its prediction by the fit without it."""

    name: str
    group: str
    measured: Positive
    fitted: Positive
    held_out: Positive | None


class ExcludedRow(Part):
    """A row that did not take part, why, and what the law says of it."""

    name: str
    measured: Positive
    predicted: Positive | None
    reason: str


class Bundle(Part):
    """Result of one calibration. ``validations[0]`` is the one that the target speaks of."""

    schema_version: Literal[1] = SCHEMA
    name: str
    title: str
    unit: str
    table: str
    table_sha256: str
    sources: tuple[str, ...]
    coefficients: tuple[FittedCoefficient, ...]
    validations: tuple[Validation, ...] = Field(min_length=1)
    rows: tuple[FittedRow, ...]
    excluded: tuple[ExcludedRow, ...]

    @property
    def met(self) -> bool | None:
        """Whether the target of the first validation is met; None without a target."""
        first = self.validations[0]
        return None if first.target is None else first.median <= first.target

    def to_json(self) -> str:
        """Return canonical JSON: the same bundle gives the same bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "bundle") -> Self:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        CalibrationError
            On one line: not JSON, a missing or unknown field, or a value that is not allowed.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as cause:
            reason = " ".join(str(cause).split())
            raise CalibrationError(f"{name}: is not JSON ({reason}); calibrate again") from None
        try:
            return cls.model_validate_json(json.dumps(content))
        except ValidationError as cause:
            raise CalibrationError(one_line(name, cls, cause)) from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a bundle from a file; raises :class:`CalibrationError` as :meth:`from_json`."""
        raw = read_bytes(path, MAX_BUNDLE_BYTES, CalibrationError)
        try:
            return cls.from_json(raw.decode("utf-8"), path.name)
        except UnicodeDecodeError:
            raise CalibrationError(f"{path.name}: is not UTF-8 text; calibrate again") from None
