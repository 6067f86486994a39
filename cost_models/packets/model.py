"""The packet model: packets of an HVX kernel by its shape, with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cost_models.bundle import Bundle
from cost_models.errors import CalibrationError
from cost_models.packets.laws import CALL, TERMS
from cost_models.packets.loops import loops_of
from cost_models.packets.shapes import SIZES, PacketShape


@dataclass(frozen=True, slots=True)
class Packets:
    """A predicted count, and where 90 % of counts of architectures that no fit has seen lie.

    Packets are what one HVX thread issues. They are not cycles.
    """

    expected: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PacketModel:
    """Coefficients of every kernel family, and the factors of its interval.

    Examples
    --------
    >>> from kernels.conv import Conv2d
    >>> layer = Conv2d(n=32, c_in=64, h=16, w=16, c_out=128, k=3, pad=1)
    >>> found = PacketModel.load().predict(PacketShape.of_conv("forward", layer, "half_away"))
    >>> 2.5e6 < found.low < found.expected < found.high < 3.3e6
    True
    """

    coefficients: Mapping[str, Mapping[str, float]]
    factors: Mapping[str, tuple[float, float]]

    @classmethod
    def load(cls, name: str = "packets") -> Self:
        """Read a bundle by its name, or by the path of its file.

        Raises
        ------
        CalibrationError
            No such bundle, or one that lacks a family.
        """
        return cls.of(Bundle.load(name))

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """Take the coefficients of a bundle that ``mandheling calibrate packets`` wrote."""
        values = {each.name: each.value for each in bundle.coefficients}
        coefficients, factors = {}, {}
        for family in SIZES:
            try:
                names = (CALL, *TERMS[family])
                coefficients[family] = {name: values[f"{family}.{name}"] for name in names}
            except KeyError as missing:
                raise CalibrationError(
                    f"{bundle.name}: has no {missing}; fit it with mandheling calibrate packets"
                ) from None
            interval = bundle.interval_of(f"{family}.{CALL}")
            if interval is None:
                raise CalibrationError(f"{bundle.name}: no shape of {family} was held out")
            factors[family] = interval.low, interval.high
        return cls(coefficients, factors)

    def predict(self, shape: PacketShape) -> Packets:
        """Predict the packets of one call on one thread."""
        counts, terms = loops_of(shape), self.coefficients[shape.family]
        expected = terms[CALL] + sum(
            packets * counts[name] for name, packets in terms.items() if name != CALL
        )
        low, high = self.factors[shape.family]
        return Packets(expected, expected * low, expected * high)
