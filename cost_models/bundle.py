"""The calibration bundle: what was fitted, on what, and how well it predicts; frozen JSON.

Bundles that come with the sandbox lie in ``cost_models/bundles/``; devices and kernel libraries
take coefficients from them (:mod:`cost_models.calibrated`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError

from cost_models.errors import CalibrationError, one_line, unknown_name
from cost_models.quantity import Part
from cost_models.reading import read_bytes

FOLDER: Final = Path(__file__).parent / "bundles"
SCHEMA: Final = 2
MAX_BUNDLE_BYTES = 4_194_304
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Count = Annotated[int, Field(strict=True, ge=0)]


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


class FittedOn(Part):
    """What the rows were measured on: ``facts`` by name (``soc``, ``hexagon``, ``library``...).

    ``block``: prefix of the coefficients that this is said of; empty for all of them.
    """

    block: str = ""
    facts: dict[str, str] = Field(min_length=1)

    @property
    def words(self) -> str:
        """The facts on one line."""
        return ", ".join(f"{name} {value}" for name, value in self.facts.items())


class Bundle(Part):
    """Result of one calibration. ``validations[0]`` is the one that the target speaks of."""

    schema_version: Literal[2] = SCHEMA
    name: str
    title: str
    unit: str
    table: str
    table_sha256: str
    sources: tuple[str, ...]
    fitted_on: tuple[FittedOn, ...] = Field(min_length=1)
    coefficients: tuple[FittedCoefficient, ...]
    validations: tuple[Validation, ...] = Field(min_length=1)
    rows: tuple[FittedRow, ...]
    excluded: tuple[ExcludedRow, ...]

    @property
    def met(self) -> bool | None:
        """Whether the target of the first validation is met; None without a target."""
        first = self.validations[0]
        return None if first.target is None else first.median <= first.target

    @property
    def sha256(self) -> str:
        """Digest of the bundle's canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def coefficient(self, name: str) -> FittedCoefficient:
        """Return a coefficient by its name.

        Raises
        ------
        CalibrationError
            There is none of that name, or its rows pushed it to a bound and do not identify it.
        """
        for each in self.coefficients:
            if each.name == name and not each.at_bound:
                return each
            if each.name == name:
                raise CalibrationError(
                    f"{self.name}: {name} = {each.value:g} {each.unit} is at its bound: the rows "
                    "do not identify it; write a number with its source instead"
                )
        known = [each.name for each in self.coefficients]
        raise CalibrationError(unknown_name(f"coefficient of {self.name}", name, known))

    def measured_on(self, coefficient: str) -> FittedOn:
        """Return what a coefficient was fitted on: that of its block, or of all."""
        block = coefficient.rpartition(".")[0]
        own = [each for each in self.fitted_on if each.block in ("", block)]
        return max(own, key=lambda each: len(each.block), default=self.fitted_on[0])

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
    def load(cls, name: str, folder: Path | None = None) -> Self:
        """Return a bundle by its built-in name, or read the ``.json`` file at a path.

        Parameters
        ----------
        folder
            What a relative path starts from; the current folder by default.
        """
        if name.endswith(".json"):
            return cls.read((folder or Path()) / name)
        names = sorted(path.stem for path in FOLDER.glob("*.json"))
        if name not in names:
            unknown = unknown_name("calibration bundle", name, names)
            raise CalibrationError(f"{unknown} (or give the path of a .json file)")
        return cls.read(FOLDER / f"{name}.json")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a bundle from a file; raises :class:`CalibrationError` as :meth:`from_json`."""
        raw = read_bytes(path, MAX_BUNDLE_BYTES, CalibrationError)
        try:
            return cls.from_json(raw.decode("utf-8"), path.name)
        except UnicodeDecodeError:
            raise CalibrationError(f"{path.name}: is not UTF-8 text; calibrate again") from None
