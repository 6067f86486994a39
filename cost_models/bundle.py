"""The calibration bundle: what was fitted, on what, and how well it predicts; frozen JSON.

Bundles that come with the sandbox lie in ``cost_models/bundles/``; devices and kernel libraries
take coefficients from them (:mod:`cost_models.calibrated`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from cost_models.errors import CalibrationError, one_line, shown, unknown_name
from cost_models.quantity import Line, Part
from cost_models.reading import each_key_once, read_bytes

FOLDER: Final = Path(__file__).parent / "bundles"
SCHEMA: Final = 3
MAX_BUNDLE_BYTES = 4_194_304
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
NotNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Count = Annotated[int, Field(strict=True, ge=1)]


def _version(value: object) -> object:
    """``True`` and 3.0 equal whole numbers."""
    if type(value) is not int:
        raise ValueError(f"{shown(value)} is not allowed; allowed: {SCHEMA}; calibrate again")
    return value


class FittedCoefficient(Part):
    """A coefficient with its 90 % jackknife range; none where the rows pushed it to a bound.

    ``rows`` is how many rows it was fitted on.
    """

    name: Line
    unit: Line
    meaning: Line
    value: Positive
    low: Positive | None
    high: Positive | None
    at_bound: Annotated[bool, Field(strict=True)]
    rows: Count

    @model_validator(mode="after")
    def _range_holds_value(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"{self.name}: has one of low and high; give both, or null for both")
        low, high = self.low or self.value, self.high or self.value
        if not low <= self.value <= high:
            raise ValueError(
                f"{self.name}: value {self.value:g} is not within low {low:g} .. high {high:g}; "
                "calibrate again"
            )
        return self


class PredictionInterval(Part):
    """A measurement lies in ``predicted * low .. predicted * high``; see ``conformal``."""

    kind: Literal["conformal", "range"]
    low: Positive
    high: Positive
    groups: Count
    level: Finite | None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(
                f"low {self.low:g} is above high {self.high:g}; allowed: low to high; calibrate "
                "again"
            )
        return self


class BlockInterval(Part):
    """The interval of one set of coefficients, from its own groups only; see ``Bundle``."""

    block: Line
    interval: PredictionInterval


class Validation(Part):
    """Errors of rows that were predicted by fits without their group; ``by`` names the groups.

    ``groups`` counts values of ``by``, each once however many blocks have it; ``blocks`` has an
    interval for each set of coefficients.
    """

    by: Line
    groups: Count
    rows: Count
    median: NotNegative
    p90: NotNegative
    worst: Finite
    worst_row: Line
    signed_median: Finite
    target: Positive | None
    interval: PredictionInterval
    blocks: tuple[BlockInterval, ...]
    not_predicted: tuple[Line, ...]


class FittedRow(Part):
    """A row that took part in the fit; ``held_out`` is its prediction by the fit without its group.

    ``block``: prefix of the coefficients that predict it, without the dot; empty where all do.
    """

    name: Line
    block: Line
    group: Line
    measured: Positive
    fitted: Positive
    held_out: Positive | None


class ExcludedRow(Part):
    """A row that did not take part, why, and what the law says of it."""

    name: Line
    measured: Positive
    predicted: Positive | None
    reason: Line


class FittedOn(Part):
    """What the rows were measured on: ``facts`` by name (``soc``, ``hexagon``, ``library``...).

    ``block``: prefix of the coefficients that this is said of; empty for all of them.
    """

    block: Line = ""
    facts: dict[Line, Line] = Field(min_length=1)

    @property
    def words(self) -> str:
        """The facts on one line."""
        return ", ".join(f"{name} {value}" for name, value in self.facts.items())


class Bundle(Part):
    """Result of one calibration. ``validations[0]`` is the one that the target speaks of."""

    schema_version: Annotated[Literal[3], BeforeValidator(_version)]
    name: Line
    title: Line
    unit: Line
    table: Line
    table_sha256: Line
    sources: tuple[Line, ...]
    fitted_on: tuple[FittedOn, ...] = Field(min_length=1)
    coefficients: tuple[FittedCoefficient, ...]
    validations: tuple[Validation, ...] = Field(min_length=1)
    rows: tuple[FittedRow, ...]
    excluded: tuple[ExcludedRow, ...]

    @model_validator(mode="after")
    def _names_are_clear(self) -> Self:
        """Of two coefficients of one name, only the first would ever be read."""
        names = [each.name for each in self.coefficients]
        blocks = [each.block for each in self.fitted_on]
        for what, known in (("coefficients", names), ("fitted_on", blocks)):
            twice = [one for one in known if known.count(one) > 1]
            if twice:
                raise ValueError(f"{what}: {shown(twice[0])} stands twice; keep one")
        lost = [name for name in names if not {"", name.rpartition(".")[0]} & {*blocks}]
        if lost:
            raise ValueError(
                f"fitted_on: says nothing of {shown(lost[0])}; blocks: {', '.join(blocks)}; add its"
                " own, or '' for all"
            )
        return self

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
        return max(own, key=lambda each: len(each.block))

    def interval_of(self, coefficient: str) -> PredictionInterval | None:
        """Return the interval of what a coefficient predicts, that of its own block.

        None where no row of the block is predicted without its group.
        """
        block = coefficient.rpartition(".")[0]
        own = [e.interval for e in self.validations[0].blocks if e.block in ("", block)]
        return own[0] if own else None

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
            content = json.loads(text, object_pairs_hook=each_key_once)
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
