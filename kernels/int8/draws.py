"""Random draws by counter: element ``i`` of a key has the same draw in every thread and machine.

A draw is splitmix64 (G. Steele, D. Lea and C. Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014) at position ``i`` of the stream that starts at ``key``, in 64-bit
wrap-around arithmetic::

    draw(key, i) = mix(key + (i + 1) * GAMMA)

Nothing is kept between draws, so there is no order to respect. :func:`draw_key` makes keys.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.jit import compiled

_MASK = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15
_MIX1, _MIX2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

_U64_GAMMA, _U64_MIX1, _U64_MIX2 = np.uint64(_GAMMA), np.uint64(_MIX1), np.uint64(_MIX2)
_S30, _S27, _S31, _ONE = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(1)


class DrawError(ValueError):
    """A word or key outside 64 bits."""


def _mix(z: int) -> int:
    z = (z ^ z >> 30) * _MIX1 & _MASK
    z = (z ^ z >> 27) * _MIX2 & _MASK
    return z ^ z >> 31


def check_key(key: int) -> None:
    """Refuse a key outside ``0 .. 2^64 - 1``."""
    if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key <= _MASK:
        raise DrawError(f"key is {key!r}; allowed: an int in 0 .. 2^64 - 1; use draw_key")


def draw_key(*words: int) -> int:
    """Make one key of several words, such as seed, step and number of the layer.

    Parameters
    ----------
    words
        Integers in ``0 .. 2^64 - 1``; their order and number count.

    Raises
    ------
    DrawError
        A word out of range.

    Examples
    --------
    >>> draw_key(1, 2) == draw_key(2, 1)
    False
    """
    key = len(words)
    for word in words:
        check_key(word)
        key = _mix((key ^ word) + _GAMMA & _MASK)
    return key


def draw_oracle(key: int, index: int) -> int:
    """Return draw ``index`` of ``key``, 64 bits, on Python integers."""
    return _mix(key + (index + 1) * _GAMMA & _MASK)


@compiled
def draw(key: np.uint64, index: int | np.integer[Any]) -> np.uint64:
    """Return draw ``index`` of ``key`` (64 bits), inside compiled code."""
    z = np.uint64(key + (np.uint64(index) + _ONE) * _U64_GAMMA)
    z = np.uint64((z ^ (z >> _S30)) * _U64_MIX1)
    z = np.uint64((z ^ (z >> _S27)) * _U64_MIX2)
    return np.uint64(z ^ (z >> _S31))
