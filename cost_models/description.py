"""Descriptions: YAML files of numbers with unit, kind of evidence and source.

What devices and kernel libraries have in common: strict reading of a file, the digest of its
content, and the flat list of its numbers, by which a report says what a result rests on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cost_models.errors import DescriptionError, one_line, shown, unknown_name
from cost_models.quantity import Kind, Quantity

MAX_FILE_BYTES = 262_144
"""Descriptions are a few KiB; a larger file is a mistake and is refused unread."""

Row = tuple[float, float]


class Part(BaseModel):
    """A table of a description: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RowTable(Part):
    """Rows ``[x, y]`` that share one unit pair, kind and source; x strictly increases."""

    value_unit: ClassVar[str]
    """Unit of y."""

    kind: Kind
    source: str = Field(min_length=1)
    spread: float | None = Field(default=None, ge=1.0, allow_inf_nan=False)
    rows: tuple[Row, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        for (x0, _), (x1, _) in pairwise(self.rows):
            if not x0 < x1:
                raise ValueError(f"row {x1:g} follows {x0:g}; first column must increase: sort it")
        for x, y in self.rows:
            if x < 0 or not 0 <= y < float("inf"):
                raise ValueError(f"row [{x:g}, {y:g}] has a negative or infinite number; use >= 0")
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
        )


class OperatingPoints(RowTable):
    """Clock (MHz) and power of one core (mW) at each operating point."""

    value_unit: ClassVar[str] = "mW"
    unit: Literal["MHz, mW"]

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for mhz, mw in self.rows:
            if mhz <= 0 or mw <= 0:
                raise ValueError(f"row [{mhz:g}, {mw:g}] must be above 0; correct clock or power")
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


class TailQuantiles(RowTable):
    """Probability and the extra latency (us) not exceeded with it, from 0 to 1."""

    value_unit: ClassVar[str] = "us"
    unit: Literal["probability, us"]

    @model_validator(mode="after")
    def _is_cdf(self) -> Self:
        if self.rows[0][0] != 0.0 or self.rows[-1][0] != 1.0:
            raise ValueError("probabilities must run from 0 to 1; add the missing end")
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

    name: str = Field(min_length=1)

    @cached_property
    def sha256(self) -> str:
        """Digest of the content in canonical JSON; comments and key order do not matter."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

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
    """Safe YAML without aliases (which can grow without bound) and without repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # stubs lack it
            problem = "aliases (*name) are not allowed; write it out"
            raise yaml.constructor.ConstructorError(None, None, problem, mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        scalars = (key for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key in scalars:  # any other key cannot be hashed; the parent class refuses it
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {shown(key.value)} appears twice; keep one", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _load(path: Path, model: type[D]) -> D:
    """Read one YAML file into ``model``."""
    error = model.error
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            size = path.stat().st_size
            raise error(f"{path}: {size} bytes; at most {MAX_FILE_BYTES} are allowed: shorten it")
        content = yaml.load(path.read_text("utf-8"), _StrictLoader)
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise error(f"{path}: is not UTF-8 text; save it as UTF-8 YAML") from None
    except RecursionError:
        raise error(f"{path}: is nested too deeply; flatten it") from None
    except yaml.YAMLError as cause:
        raise error(f"{path}: is not valid YAML; {_yaml_reason(cause)}; correct it") from None
    if not isinstance(content, dict):
        raise error(f"{path}: {shown(content)} is not a table; write `key: value` lines")
    try:
        return model.model_validate(content)
    except ValidationError as cause:
        raise error(one_line(path.name, model, cause)) from None


def _yaml_reason(cause: yaml.YAMLError) -> str:
    """What and where, without the excerpt that would take more lines."""
    if isinstance(cause, yaml.MarkedYAMLError) and cause.problem_mark is not None:
        return f"line {cause.problem_mark.line + 1}: {cause.problem}"
    return " ".join(str(cause).split())


_load_once = cache(_load)


def load(name_or_path: str | Path, folder: Path, model: type[D]) -> D:
    """Read the description called ``name_or_path`` in ``folder``, or the YAML file at that path.

    Those of ``folder`` are read once: they are frozen, so sharing one is safe. A user's file may
    change between two calls and is read each time.

    Raises
    ------
    DescriptionError
        As ``model.error``, on one line: unknown, unreadable, too large, not YAML, or not valid.
    """
    path = _located(name_or_path, folder, model)
    return _load_once(path, model) if path.parent == folder else _load(path, model)


def names_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the descriptions in ``folder``, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def _located(name_or_path: str | Path, folder: Path, model: type[Description]) -> Path:
    """Return the file meant by a built-in name, or by a path (a ``Path``, or ``*.yaml``)."""
    if isinstance(name_or_path, Path) or name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    names: Sequence[str] = names_in(folder)
    if name_or_path not in names:
        unknown = unknown_name(model.what, name_or_path, names)
        raise model.error(f"{unknown} (or give the path of a .yaml file)")
    return folder / f"{name_or_path}.yaml"
