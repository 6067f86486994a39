"""A number with its unit, its kind of evidence and its source.

Every constant of a device or a kernel library is a :class:`Quantity`, so that a report can
say which share of a predicted time rests on what. The spreads per kind are the default
uncertainty used for intervals; a quantity may state its own.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Kind = Literal["measured", "published", "derived", "assumed"]

DEFAULT_SPREAD: dict[Kind, float] = {
    "measured": 1.05,
    "published": 1.10,
    "derived": 1.25,
    "assumed": 1.75,
}
"""Half-width of the 90 % range of a quantity as a factor: ``value / spread .. value * spread``.

These four factors are themselves assumed (engineering judgement); a quantity that knows better
carries its own ``spread``.
"""


MAX_SPREAD = 100.0
"""Largest spread: who knows a number no better than that does not know it."""

LIMITS: Final[dict[str, tuple[float, float]]] = {
    "MHz": (1, 1e5),
    "V": (0.1, 5),
    "mW": (1, 1e6),
    "us": (0, 1e7),
    "s": (1e-3, 1e6),
    "bytes": (1, 1e14),
    "MB/s": (1, 1e7),
    "MAC/cycle": (1e-2, 1e6),
    "elements/cycle": (1e-2, 1e5),
    "bytes/cycle": (1e-2, 1e6),
    "cycles": (1e-2, 1e6),
    "bytes/element": (1e-2, 1e3),
    "pJ/byte": (0, 1e6),
    "degC": (-100, 500),
    "K/W": (1e-3, 1e4),
    "share": (1e-3, 4),
    "units": (1, 64),
}
"""Smallest and largest value by unit: far outside of any hardware, so that what lies beyond is a
slip of the pen, and far inside of what integer nanoseconds and picojoules hold."""

MAX_NAME_CHARS = 200


def _clean(text: str, also: str = "") -> str:
    """Refuse what a terminal would not show as written."""
    for char in text:
        if not (char.isprintable() or category(char) == "Zs" or char in also):
            raise ValueError(f"{text[:60]!a} has {char!a}; use printable characters only")
    return text


def name_like(text: str) -> str:
    """Return ``text`` if it can be a name; paths of constants are joined by ``*``."""
    if "*" in text:
        raise ValueError(f"{text[:60]!a} has '*'; leave it out")
    return _clean(text)


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(name_like)]
"""One line that a table can show."""
Line = Annotated[str, AfterValidator(lambda text: _clean(text))]
"""A text that a table can show, of any length."""
Prose = Annotated[str, Field(min_length=1), AfterValidator(lambda text: _clean(text, "\n\t"))]
"""A description or a source; may have several lines."""
Spread = Annotated[float, Field(strict=True, ge=1.0, le=MAX_SPREAD, allow_inf_nan=False)]
Common = tuple[tuple[str, Annotated[float, Field(allow_inf_nan=False)]], ...]
RATE_UNITS: Final = frozenset(
    {"share", "MHz", "MB/s", "MAC/cycle", "elements/cycle", "bytes/cycle", "units"}
)


class Part(BaseModel):
    """A table of a description: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantity(Part):
    """``value`` in ``unit``; ``kind`` says how it is known and ``source`` from where.

    ``common``: coefficients that it shares with other numbers, each with the half-width, in logs,
    that it gives to the spread; negative where the number falls as the coefficient grows.
    ``limit``: what no uncertainty takes it beyond.
    """

    value: float = Field(strict=True, allow_inf_nan=False)
    unit: str = Field(min_length=1)
    kind: Kind
    source: Prose
    spread: Spread | None = None
    common: Common = ()
    limit: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @property
    def factor(self) -> float:
        """The spread that applies: its own, or that of its kind."""
        return self.spread if self.spread is not None else DEFAULT_SPREAD[self.kind]

    @property
    def is_rate(self) -> bool:
        """Whether times fall as it grows."""
        return self.unit in RATE_UNITS


def check_range(value: float, unit: str, low: float | None = None) -> None:
    """Raise ValueError unless ``value`` is within :data:`LIMITS`, or from ``low`` on."""
    least, most = LIMITS[unit]
    least = least if low is None else low
    if not least <= value <= most:
        raise ValueError(f"value {value:.10g} is not allowed; give {least:g} to {most:g} {unit}")


def _in_unit(*units: str, low: float | None = None) -> AfterValidator:
    """Return a validator that accepts a quantity only in one of ``units`` and its range."""
    allowed = " or ".join(repr(unit) for unit in units)

    def check(quantity: Quantity) -> Quantity:
        if quantity.unit not in units:
            raise ValueError(f"unit {quantity.unit!r} is not allowed; allowed: {allowed}; convert")
        check_range(quantity.value, quantity.unit, low)
        return quantity

    return AfterValidator(check)


Megahertz = Annotated[Quantity, _in_unit("MHz")]
Milliwatts = Annotated[Quantity, _in_unit("mW")]
IdleMilliwatts = Annotated[Quantity, _in_unit("mW", low=0)]
Microseconds = Annotated[Quantity, _in_unit("us")]
Seconds = Annotated[Quantity, _in_unit("s")]
Bytes = Annotated[Quantity, _in_unit("bytes")]
ByteRate = Annotated[Quantity, _in_unit("MB/s")]
"""1 MB/s is 10^6 bytes per second, which is 1 byte per microsecond."""
SharedByteRate = Annotated[Quantity, _in_unit("MB/s", low=100)]
"""Shared by all slots of all units, of which each gets 1 MB/s or more."""
MacsPerCycle = Annotated[Quantity, _in_unit("MAC/cycle")]
ElementsPerCycle = Annotated[Quantity, _in_unit("elements/cycle")]
BytesPerCycle = Annotated[Quantity, _in_unit("bytes/cycle")]
Cycles = Annotated[Quantity, _in_unit("cycles")]
BytesPerElement = Annotated[Quantity, _in_unit("bytes/element")]
PicojoulesPerByte = Annotated[Quantity, _in_unit("pJ/byte")]
Celsius = Annotated[Quantity, _in_unit("degC")]
KelvinPerWatt = Annotated[Quantity, _in_unit("K/W")]
Share = Annotated[Quantity, _in_unit("share")]
"""Above 1 only where fewer MACs are executed than counted, as Winograd convolution does."""
Count = Annotated[Quantity, _in_unit("units")]
"""Of units that work at once: times fall as it grows."""
GatherRate = Annotated[Quantity, _in_unit("share", "MB/s")]
