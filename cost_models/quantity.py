"""A number with its unit, its kind of evidence and its source.

Every constant of a device or a kernel library is a :class:`Quantity`, so that a report can
say which share of a predicted time rests on what. The spreads per kind are the default
uncertainty used for intervals; a quantity may state its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

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


class Quantity(BaseModel):
    """``value`` in ``unit``; ``kind`` says how it is known and ``source`` from where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float = Field(strict=True, allow_inf_nan=False)
    unit: str = Field(min_length=1)
    kind: Kind
    source: str = Field(min_length=1)
    spread: float | None = Field(default=None, ge=1.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _not_negative(self) -> Quantity:
        if self.value < 0:
            raise ValueError(f"value {self.value} is negative; every quantity here is 0 or more")
        return self

    @property
    def factor(self) -> float:
        """The spread that applies: its own, or that of its kind."""
        return self.spread if self.spread is not None else DEFAULT_SPREAD[self.kind]


def _in_unit(*units: str, positive: bool = True) -> AfterValidator:
    """Return a validator that accepts a quantity only in one of ``units`` (and above 0)."""
    allowed = " or ".join(repr(unit) for unit in units)

    def check(quantity: Quantity) -> Quantity:
        if quantity.unit not in units:
            raise ValueError(f"unit {quantity.unit!r} is not allowed; allowed: {allowed}; convert")
        if positive and quantity.value <= 0:
            raise ValueError(f"value {quantity.value:g} is not allowed; give a number above 0")
        return quantity

    return AfterValidator(check)


def _share(quantity: Quantity) -> Quantity:
    if quantity.value > 1.5:
        raise ValueError(f"value {quantity.value:g} is not allowed; a share is in (0, 1.5]")
    return quantity


Megahertz = Annotated[Quantity, _in_unit("MHz")]
Milliwatts = Annotated[Quantity, _in_unit("mW")]
IdleMilliwatts = Annotated[Quantity, _in_unit("mW", positive=False)]
Microseconds = Annotated[Quantity, _in_unit("us")]
Seconds = Annotated[Quantity, _in_unit("s")]
Bytes = Annotated[Quantity, _in_unit("bytes")]
ByteRate = Annotated[Quantity, _in_unit("MB/s")]
"""1 MB/s is 10^6 bytes per second, which is 1 byte per microsecond."""
MacsPerCycle = Annotated[Quantity, _in_unit("MAC/cycle")]
ElementsPerCycle = Annotated[Quantity, _in_unit("elements/cycle")]
BytesPerCycle = Annotated[Quantity, _in_unit("bytes/cycle")]
BytesPerElement = Annotated[Quantity, _in_unit("bytes/element")]
PicojoulesPerByte = Annotated[Quantity, _in_unit("pJ/byte")]
Celsius = Annotated[Quantity, _in_unit("degC")]
KelvinPerWatt = Annotated[Quantity, _in_unit("K/W")]
Share = Annotated[Quantity, _in_unit("share"), AfterValidator(_share)]
"""Above 1 only where fewer MACs are executed than counted, as Winograd convolution does."""
GatherRate = Annotated[Quantity, _in_unit("share", "MB/s")]
