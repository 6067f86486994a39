"""Keyed random draws: the same number for the same (seed, step, subject, role), always.

A draw never depends on the order of events or on a task's number, so two policies see the same
luck where they do the same thing (common random numbers), and equal inputs give equal bytes.

The hash, all in 64-bit wrap-around arithmetic (:mod:`kernels.splitmix`)::

    key     = little-endian 8-byte blake2b of (length of subject, subject, role)
    next(x) = mix(x + GAMMA)
    draw    = next(next(key ^ next(seed)) ^ step) >> 32
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from kernels.splitmix import GAMMA, MASK, mix, mix_words

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

KNOTS = 1024
"""Points of an :class:`InverseCdf`."""


@lru_cache(maxsize=65536)
def draw_key(subject: str, role: str) -> int:
    """Return the 64-bit key of a subject and a role; where one ends and the other starts counts."""
    name = subject.encode()
    digest = blake2b(len(name).to_bytes(8, "little") + name + role.encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


@lru_cache(maxsize=65536)
def draw_u32(seed: int, step: int, subject: str, role: str) -> int:
    """Return the draw of one (seed, step, subject, role), uniform in ``0 .. 2**32 - 1``.

    Raises
    ------
    ValueError
        ``seed`` or ``step`` is not in ``0 .. 2**64 - 1``.
    """
    _check_range(seed, step)
    return _next(_next(draw_key(subject, role) ^ _next(seed)) ^ step) >> 32


def draw_u32_many(seed: int, step: int, keys: U64) -> U32:
    """Return the draws of many keys (from :func:`draw_key`) at one seed and step.

    Equal to :func:`draw_u32` element by element.
    """
    _check_range(seed, step)
    mixed = _next_words(keys ^ np.uint64(_next(seed)))
    return (_next_words(mixed ^ np.uint64(step)) >> np.uint64(32)).astype(np.uint32)


def _check_range(seed: int, step: int) -> None:
    for name, value in (("seed", seed), ("step", step)):
        if not 0 <= value <= MASK:
            raise ValueError(f"{name}: {value} is not allowed; give an integer from 0 to 2**64 - 1")


def _next(state: int) -> int:
    return mix(state + GAMMA & MASK)


def _next_words(states: U64) -> U64:
    return mix_words(states + np.uint64(GAMMA))


@dataclass(frozen=True, slots=True)
class InverseCdf:
    """A distribution of latencies as its quantiles at ``i / 1023``, integer nanoseconds.

    Between two knots it is linear. Neighbouring knots differ by less than ``2**31`` ns (2.1 s), so
    that the interpolation is exact in 64 bits.
    """

    table: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.table) != KNOTS:
            raise ValueError(f"table: {len(self.table)} knots; exactly {KNOTS} are allowed")
        steps = np.diff(np.asarray(self.table, dtype=np.int64))
        if self.table[0] < 0 or steps.min() < 0 or steps.max() >= 2**31:
            raise ValueError("table: must start at 0 or more and rise by 0 .. 2**31 - 1 per knot")

    @classmethod
    def from_quantiles(cls, rows: Sequence[tuple[float, float]]) -> InverseCdf:
        """Build from rows (probability, microseconds) that run from probability 0 to 1."""
        probability, microseconds = np.asarray(rows, dtype=np.float64).T
        knots = np.interp(np.linspace(0.0, 1.0, KNOTS), probability, microseconds)
        return cls(tuple(int(ns) for ns in np.rint(knots * 1000.0)))

    def at(self, u32: int) -> int:
        """Return the quantile at ``u32 / 2**32``, nanoseconds, rounded down."""
        position = u32 * (KNOTS - 1)
        cell, fraction = position >> 32, position & 0xFFFFFFFF
        low, high = self.table[cell], self.table[cell + 1]
        return low + ((high - low) * fraction >> 32)

    def at_many(self, u32: U32) -> I64:
        """Return :meth:`at` of each element, int64."""
        position = u32.astype(np.int64) * (KNOTS - 1)
        cell, fraction = position >> 32, position & 0xFFFFFFFF
        table = np.asarray(self.table, dtype=np.int64)
        low = table[cell]
        quantile: I64 = low + ((table[cell + 1] - low) * fraction >> 32)
        return quantile

    @property
    def mean_ns(self) -> int:
        """Mean of the piecewise-linear distribution, nanoseconds, rounded down."""
        ends = self.table[0] + self.table[-1]
        return (2 * sum(self.table) - ends) // (2 * (KNOTS - 1))
