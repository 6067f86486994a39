"""The schema of samples: what was measured, on what, under which conditions; and how it is read.

A store of samples is a file of JSON lines with checksums (:mod:`cost_models.lines`). A fingerprint
line says what the samples after it were measured on, every other line is one sample.
:class:`hw_bridge.samples.SampleStore` writes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias

from cost_models.errors import shown
from cost_models.lines import LineFormat, Lines

SCHEMA: Final = "mandheling-samples/1"
UNITS: Final = ("ns", "packets", "cycles", "instructions", "bytes", "pj", "mw")
"""Units of raw values; all are integers."""
ID_DIGITS: Final = 12
STORED: Final = ("key", "kind", "unit", "raw", "config", "conditions")
"""Fields of a sample in a file."""
_LARGEST: Final = 1 << 62

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


class SampleError(ValueError):
    """A sample, or a file of samples, that is not one; the message names field and value."""


FORMAT: Final = LineFormat(SCHEMA, "samples", SampleError)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What samples were measured on.

    Only what stays the same over a campaign belongs here: chip, Hexagon version, clocks,
    governor, versions. What changes from sample to sample (temperature) is a condition of it.

    Attributes
    ----------
    backend
        ``host``, ``hexagon`` or ``board``.
    facts
        Names and values, both in words.

    Examples
    --------
    >>> one = Fingerprint("board", {"soc": "SM8250", "hexagon": "v66"})
    >>> one.differences(Fingerprint("board", {"soc": "QCS6490", "hexagon": "v66"}))
    ['soc: SM8250, not QCS6490']
    """

    backend: str
    facts: Mapping[str, str]

    def __post_init__(self) -> None:
        if not isinstance(self.backend, str) or not self.backend:
            raise SampleError(f"fingerprint.backend is {self.backend!r}; give a backend's name")
        pairs = self.facts.items() if isinstance(self.facts, Mapping) else [(None, self.facts)]
        for name, value in pairs:
            if not isinstance(name, str) or not isinstance(value, str):
                raise SampleError(
                    f"fingerprint.facts[{name!r}] is {value!r}; names and values must be strings"
                )

    @property
    def id(self) -> str:
        """Digest of backend and facts, 12 hexadecimal digits."""
        return hashlib.sha256(canonical(self.document()).encode()).hexdigest()[:ID_DIGITS]

    def document(self) -> dict[str, Any]:
        """What is stored of it."""
        return {"backend": self.backend, "facts": dict(self.facts)}

    def differences(self, other: Fingerprint) -> list[str]:
        """What differs, in words: this one's value, then that of ``other``."""
        mine = {"backend": self.backend, **self.facts}
        theirs = {"backend": other.backend, **other.facts}
        names = sorted(mine.keys() | theirs.keys())
        return [
            f"{name}: {mine.get(name, 'nothing')}, not {theirs.get(name, 'nothing')}"
            for name in names
            if mine.get(name) != theirs.get(name)
        ]


@dataclass(frozen=True, slots=True)
class Sample:
    """One thing measured, with every repetition.

    Attributes
    ----------
    key
        Unique in its store; sampling resumes by it.
    kind
        What was measured: ``kernel``, ``null_call``, ``task``...
    unit
        One of :data:`UNITS`.
    raw
        Every repetition, in order; integers, 0 or more.
    config
        What makes this sample this one: operator, shape, quality-of-service mode...
    conditions
        What it was under: temperatures, clocks.
    fingerprint
        Identity of what it was measured on; the store sets it.
    """

    key: str
    kind: str
    unit: str
    raw: tuple[int, ...]
    config: Mapping[str, Json] = field(default_factory=dict)
    conditions: Mapping[str, Json] = field(default_factory=dict)
    fingerprint: str = ""

    def __post_init__(self) -> None:
        for name in ("key", "kind"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or not value.isprintable():
                raise SampleError(f"sample.{name} is {shown(value)}; give a printable name")
        if self.unit not in UNITS:
            raise SampleError(
                f"sample {self.key!r}: unit is {shown(self.unit)}; allowed: {', '.join(UNITS)}"
            )
        if not self.raw:
            raise SampleError(f"sample {self.key!r}: raw is empty; keep every repetition")
        for value in self.raw:
            if type(value) is not int or not 0 <= value < _LARGEST:
                raise SampleError(
                    f"sample {self.key!r}: raw holds {shown(value)}; "
                    "allowed: integers, 0 .. 2^62 - 1"
                )
        for name in ("config", "conditions"):
            value = getattr(self, name)
            if not isinstance(value, Mapping):
                raise SampleError(f"sample {self.key!r}: {name} is {shown(value)}; give a mapping")

    @property
    def median(self) -> float:
        """Median of the repetitions, in :attr:`unit`."""
        return float(median(self.raw))

    def document(self) -> dict[str, Any]:
        """What is stored of it."""
        return {
            "key": self.key,
            "kind": self.kind,
            "unit": self.unit,
            "raw": list(self.raw),
            "config": dict(self.config),
            "conditions": dict(self.conditions),
        }


@dataclass(frozen=True, slots=True)
class StoreContent:
    """What a file of samples holds.

    Attributes
    ----------
    samples, fingerprints
        In the order of the file.
    whole_bytes
        Length of the whole lines; what follows was torn off by a crash.
    torn_bytes
        Length of that rest.
    """

    samples: tuple[Sample, ...]
    fingerprints: tuple[Fingerprint, ...]
    whole_bytes: int
    torn_bytes: int


def canonical(data: Mapping[str, Any]) -> str:
    """One spelling for equal data: sorted keys, no spaces, no NaN.

    Raises
    ------
    SampleError
        A value that JSON has no spelling for.
    """
    return FORMAT.canonical(data)


def read_samples(path: str | Path) -> StoreContent:
    """Read a file of samples; a torn last line is left out and counted.

    Raises
    ------
    SampleError
        No such file, not a regular one, more than 1 GiB, another schema, or a
        damaged line before the last; nothing is skipped.
    """
    return content_of(FORMAT.read(Path(path)), str(path))


def parse_samples(content: bytes, name: str) -> StoreContent:
    """Read what a file of samples holds; see :func:`read_samples`."""
    return content_of(FORMAT.parse(content, name), name)


def content_of(lines: Lines, name: str) -> StoreContent:
    """Read the lines of a file of samples; see :func:`read_samples`."""
    samples: list[Sample] = []
    fingerprints: list[Fingerprint] = []
    for number, data in enumerate(lines.records, 2):
        _take(f"{name}, line {number}", data, samples, fingerprints)
    _check_unique(name, samples)
    return StoreContent(tuple(samples), tuple(fingerprints), lines.whole_bytes, lines.torn_bytes)


def _take(
    where: str, data: dict[str, Any], samples: list[Sample], fingerprints: list[Fingerprint]
) -> None:
    try:
        if data.keys() == {"fingerprint"}:
            one = _fields("fingerprint", data["fingerprint"], ("backend", "facts"))
            fingerprints.append(Fingerprint(**one))
        elif data.keys() == {"sample"} and fingerprints:
            one = _fields("sample", data["sample"], STORED)
            if not isinstance(one["raw"], list):
                raise SampleError(f"sample.raw is {shown(one['raw'])}; give a list of integers")
            values = {**one, "raw": tuple(one["raw"]), "fingerprint": fingerprints[-1].id}
            samples.append(Sample(**values))
        else:
            found = ", ".join(map(shown, data)) or "nothing"
            raise SampleError(f"holds {found}; a fingerprint must come, then samples")
    except SampleError as error:
        raise SampleError(f"{where}: {error}") from None


def _fields(what: str, found: Any, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Give fields back that are exactly the allowed ones."""
    if not isinstance(found, dict):
        raise SampleError(f"{what} is {shown(found)}; give a mapping of {', '.join(allowed)}")
    for name in allowed:
        if name not in found:
            raise SampleError(f"{what}.{name} is missing; needed: {', '.join(allowed)}")
    for name, value in found.items():
        if name not in allowed:
            raise SampleError(
                f"{what}: unknown field {shown(name)} (value {shown(value)}); "
                f"allowed: {', '.join(allowed)}"
            )
    return found


def _check_unique(name: str, samples: list[Sample]) -> None:
    seen: set[str] = set()
    for sample in samples:
        if sample.key in seen:
            raise SampleError(f"{name}: sample {sample.key!r} is there twice; remove one")
        seen.add(sample.key)
