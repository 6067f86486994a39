"""Descriptions: YAML files of numbers with unit, kind of evidence and source.

What devices and kernel libraries have in common: strict reading of a file, the digest of its
content, and the flat list of its numbers, by which a report says what a result rests on.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from cost_models.calibrated import BundleUse, resolve
from cost_models.errors import CalibrationError, DescriptionError, one_line, shown, unknown_name
from cost_models.quantity import Common, Kind, Name, Part, Prose, Quantity, Spread, check_range
from cost_models.reading import read_bytes

MAX_FILE_BYTES = 262_144
"""Descriptions are a few KiB; a larger file is a mistake and is refused."""
MAX_INTEGER = 2**63
MAX_TAIL_US = 2e6
"""Longest rare delay: draws interpolate exactly between quantiles less than 2^31 ns apart."""

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Row = tuple[Number, Number]


class RowTable(Part):
    """Rows ``[x, y]`` that share one unit pair, kind and source; x strictly increases."""

    value_unit: ClassVar[str]
    """Unit of y."""

    kind: Kind
    source: Prose
    spread: Spread | None = None
    common: Common = ()
    rows: tuple[Row, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        for (x0, _), (x1, _) in pairwise(self.rows):
            if not x0 < x1:
                raise ValueError(f"row {x1:g} follows {x0:g}; first column must increase: sort it")
        return self

    @property
    def last(self) -> Quantity:
        """The last row's y as a quantity: it stands for the table in lists of evidence."""
        return Quantity(
            value=self.rows[-1][1],
            unit=self.value_unit,
            kind=self.kind,
            source=self.source,
            spread=self.spread,
            common=self.common,
        )


class OperatingPoints(RowTable):
    """Clock (MHz) and power of one core (mW) at each operating point."""

    value_unit: ClassVar[str] = "mW"
    unit: Literal["MHz, mW"]

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        for mhz, mw in self.rows:
            check_range(mhz, "MHz")
            check_range(mw, "mW")
        return self


class Voltages(RowTable):
    """Clock (MHz) and supply voltage (V) at each operating point."""

    value_unit: ClassVar[str] = "V"
    unit: Literal["MHz, V"]

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        for mhz, volts in self.rows:
            check_range(mhz, "MHz")
            check_range(volts, "V")
        return self


class SizeLatency(RowTable):
    """Bytes and the extra latency (us) that a buffer of this size costs, from 0 bytes on."""

    value_unit: ClassVar[str] = "us"
    unit: Literal["bytes, us"]

    @model_validator(mode="after")
    def _from_zero(self) -> Self:
        if self.rows[0] != (0.0, 0.0):
            raise ValueError(f"first row is {list(self.rows[0])}; it must be [0, 0]: add that row")
        return self

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        for (_, us0), (size, us1) in pairwise(self.rows):
            check_range(size, "bytes")
            check_range(us1, "us")
            if not size.is_integer():
                raise ValueError(f"row [{size:g}, {us1:g}]: give whole bytes")
            if us1 < us0:
                raise ValueError(f"{us1:g} us follows {us0:g} us; more bytes never cost less: sort")
        (x0, y0), (x1, y1) = self.rows[-2:]
        if y1 - y0 > x1 - x0:
            raise ValueError(
                f"rows [{x0:g}, {y0:g}] and [{x1:g}, {y1:g}] add more than 1 us per byte, and go "
                "on beyond the last row; correct the last row"
            )
        return self


class TailQuantiles(RowTable):
    """Probability and the extra latency (us) not exceeded with it, from 0 to 1."""

    value_unit: ClassVar[str] = "us"
    unit: Literal["probability, us"]

    @model_validator(mode="after")
    def _is_cdf(self) -> Self:
        if self.rows[0][0] != 0.0 or self.rows[-1][0] != 1.0:
            raise ValueError("probabilities must run from 0 to 1; add the missing end")
        for x, y in self.rows:
            if not 0 <= y <= MAX_TAIL_US:
                raise ValueError(f"row [{x:g}, {y:g}] is not allowed; give 0 to {MAX_TAIL_US:g} us")
        for (_, y0), (_, y1) in pairwise(self.rows):
            if y1 < y0:
                raise ValueError(f"{y1:g} us follows {y0:g} us; quantiles never decrease: sort it")
        return self


class Description(Part):
    """A whole file: device or library."""

    what: ClassVar[str]
    """Its kind in words, for messages."""
    error: ClassVar[type[DescriptionError]]
    """Raised for a file that is not such a description."""
    came_later: ClassVar[tuple[str, ...]] = ()
    """Fields that older files lack: absent, they change no digest."""
    is_library: ClassVar[bool] = False
    """Whether its numbers are of a kernel library, which its name then is."""

    name: Name
    bundles: tuple[BundleUse, ...] = ()

    @property
    @abstractmethod
    def facts(self) -> dict[str, str]:
        """What a bundle must have been fitted on to fit this description, by the same names."""

    def calibration_notes(self, facts: Mapping[str, str] | None = None) -> list[str]:
        """Return a sentence for each bundle that was fitted on something else.

        Parameters
        ----------
        facts
            What it is used on; this description itself by default.
        """
        notes = []
        for use in self.bundles:
            differs = use.mismatches(self.facts if facts is None else facts, asked=self.facts)
            if differs:
                why = f"; accepted: {use.accept}" if use.accept else ""
                notes.append(f"{self.name}: {use.name} was fitted on {', '.join(differs)}{why}")
        return notes

    @cached_property
    def sha256(self) -> str:
        """Digest of the content in canonical JSON; comments and key order do not matter."""
        dumped = self.model_dump(mode="json")
        for name in self.came_later:
            if dumped[name] is None:
                del dumped[name]
        content = json.dumps(dumped, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some fields replaced, as pydantic's, but with a digest of its own.

        Results are remembered by digest: a copy that kept this one's would be given its results.
        """
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("sha256", None)
        return copied

    def __repr__(self) -> str:
        """Return the name only; the content fills pages."""
        return f"{type(self).__name__}({self.name!r})"

    __str__ = __repr__

    def quantities(self) -> dict[str, Quantity]:
        """Return every number of the description by its dotted path.

        A list element is named by its ``name`` or ``domain``. A table of rows counts as one
        number, represented by its last row.
        """
        return dict(_walk("", self))


def _walk(path: str, node: object) -> Iterator[tuple[str, Quantity]]:
    if isinstance(node, Quantity):
        yield path, node
    elif isinstance(node, RowTable):
        yield path, node.last
    elif isinstance(node, BaseModel):
        for field in type(node).model_fields:
            yield from _walk(_joined(path, field), getattr(node, field))
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _walk(_joined(path, str(key)), value)
    elif isinstance(node, tuple):
        for value in node:
            label = getattr(value, "name", None) or getattr(value, "domain", None)
            if label is not None:
                yield from _walk(_joined(path, label), value)


def _joined(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part


D = TypeVar("D", bound=Description)


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without aliases (which can grow without bound) and without repeated keys.

    PyYAML lets the errors of ``int``, ``date`` and the like through; here they name the line.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # stubs lack it
            problem = "aliases (*name) are not allowed; write it out"
            raise yaml.constructor.ConstructorError(None, None, problem, mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            made = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, ArithmeticError, TypeError):
            made = None
            problem = f"{shown(node.value)} is not a valid {node.tag.rpartition(':')[2]}"
        else:
            problem = "an integer has more than 64 bits" if _is_long(made) else ""
        if problem:
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return made

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        pairs = node.value if isinstance(node, yaml.MappingNode) else []  # `!!map text` is none
        scalars = (key for key, _ in pairs if isinstance(key, yaml.ScalarNode))
        for key in scalars:  # any other key cannot be hashed; the parent class refuses it
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {shown(key.value)} appears twice; keep one", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _is_long(value: object) -> bool:
    return isinstance(value, int) and abs(value) >= MAX_INTEGER


def _load(path: Path, model: type[D]) -> D:
    """Read one YAML file into ``model``."""
    error = model.error
    raw = read_bytes(path, MAX_FILE_BYTES, error)
    try:
        content = yaml.load(raw.decode("utf-8"), _StrictLoader)
    except UnicodeDecodeError:
        raise error(f"{path}: is not UTF-8 text; save it as UTF-8 YAML") from None
    except RecursionError:
        raise error(f"{path}: is nested too deeply; flatten it") from None
    except yaml.YAMLError as cause:
        raise error(f"{path}: is not valid YAML; {_yaml_reason(cause)}; correct it") from None
    if not isinstance(content, dict):
        raise error(f"{path}: {shown(content)} is not a table; write `key: value` lines")
    try:
        library = str(content.get("name")) if model.is_library else None
        read = model.model_validate(resolve(content, path, library))
    except CalibrationError as cause:
        raise error(str(cause)) from None
    except ValidationError as cause:
        raise error(one_line(path.name, model, cause)) from None
    for use in read.bundles:
        differs = use.mismatches(read.facts, asked=read.facts)
        if differs and use.accept is None:
            raise error(
                f"{path.name}: bundles: {use.name} was fitted on {', '.join(differs)}; calibrate "
                "on this one, or say under accept why it holds here all the same"
            )
    return read


def _yaml_reason(cause: yaml.YAMLError) -> str:
    """What and where, without the excerpt that would take more lines."""
    if isinstance(cause, yaml.MarkedYAMLError) and cause.problem_mark is not None:
        return f"line {cause.problem_mark.line + 1}: {cause.problem}"
    return " ".join(str(cause).split())


_load_once = cache(_load)


def load(name_or_path: str | Path, folder: Path, model: type[D], *more: Path) -> D:
    """Read the description called ``name_or_path`` in a folder, or the YAML file at that path.

    Those of ``folder``, or ``more`` folders, are read once: they are frozen, so sharing one is
    safe. A user's file may change between two calls and is read each time.

    Raises
    ------
    DescriptionError
        As ``model.error``, on one line: unknown, unreadable, too large, not YAML, or not valid.
    """
    folders = (folder, *more)
    path = _located(name_or_path, folders, model)
    return _load_once(path, model) if path.parent in folders else _load(path, model)


def names_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the descriptions in ``folder``, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def _located(name_or_path: str | Path, folders: Sequence[Path], model: type[Description]) -> Path:
    """Return the file meant by a built-in name, or by a path (a ``Path``, or ``*.yaml``)."""
    if isinstance(name_or_path, Path) or name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    homes = {name: folder for folder in folders for name in names_in(folder)}
    if name_or_path not in homes:
        unknown = unknown_name(model.what, name_or_path, list(homes))
        raise model.error(f"{unknown} (or give the path of a .yaml file)")
    return homes[name_or_path] / f"{name_or_path}.yaml"
