"""How a kernel stores its INT32 accumulators, and what it noticed while it did.

A kernel with a :class:`Store` requantises each accumulator as it leaves the registers, by a
shift known beforehand; without one it stores the accumulators themselves. Either way it gives a
:class:`Stored`: the largest accumulator, from which the next shift follows, and what the shift
cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.rounding import NITI_CLIP, Rounding

SHIFT_RANGE = (-31, 31)
"""Shifts that a store takes: an int32 shifted by more is 0 or saturated."""
INT8_RANGE = (-128, 127)


class StoreError(ValueError):
    """A shift, rule or clip that no kernel can store by; the message says what is allowed."""


@dataclass(frozen=True, slots=True)
class Store:
    """Requantise while storing: ``clip(round(accumulator / 2^shift))`` as int8.

    Attributes
    ----------
    shift
        -31 to 31. A right shift; a negative one multiplies by ``2^-shift``, exactly, before the
        clip.
    rounding
        Any rule but ``stochastic``, which needs draws.
    clip
        Least and largest int8 made, both counted: the least below 0, the largest above.

    Raises
    ------
    StoreError
        Another shift, rule or clip.

    Examples
    --------
    >>> Store(9).clip
    (-127, 127)
    """

    shift: int
    rounding: Rounding = Rounding.HALF_AWAY
    clip: tuple[int, int] = NITI_CLIP

    def __post_init__(self) -> None:
        least, largest = SHIFT_RANGE
        if isinstance(self.shift, bool) or not isinstance(self.shift, int):
            raise StoreError(f"shift is {self.shift!r}; allowed: an int")
        if not least <= self.shift <= largest:
            raise StoreError(
                f"shift is {self.shift}; allowed: {least} .. {largest}; a larger one leaves nothing"
            )
        if not isinstance(self.rounding, Rounding) or self.rounding is Rounding.STOCHASTIC:
            rules = ", ".join(rule for rule in Rounding if rule is not Rounding.STOCHASTIC)
            raise StoreError(
                f"rounding is {self.rounding!r}; allowed: Rounding of {rules}; for stochastic,"
                " store the accumulators and requantise them with draws"
            )
        low, high = self.clip
        if not INT8_RANGE[0] <= low < 0 < high <= INT8_RANGE[1]:
            raise StoreError(
                f"clip is {self.clip}; allowed: a pair of -128 .. -1 and 1 .. 127; clip once more"
                " after the store for a range on one side"
            )


def stored_dtype(store: Store | None) -> type[np.int8] | type[np.int32]:
    """What a kernel stores: int8 with a store, int32 accumulators without."""
    return np.int32 if store is None else np.int8


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """What a kernel stored, with the counts that a shift is chosen and judged by.

    Attributes
    ----------
    values
        int8 by a :class:`Store`; int32 (or int64 where the sum needs it) accumulators without.
    amax
        Largest magnitude of an accumulator, bias included, exact: 0 to 2^31 for int32.
    saturated
        Values that the clip changed; 0 for accumulators.
    lost
        Accumulators other than 0 that were stored as 0; 0 for accumulators.
    """

    values: NDArray[Any]
    amax: int
    saturated: int = 0
    lost: int = 0
