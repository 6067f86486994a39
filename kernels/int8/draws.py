"""Random draws by counter: element ``i`` of a key has the same draw in every thread and machine.

A draw is SplitMix64 (:mod:`kernels.splitmix`) at position ``i`` of the stream that starts at
``key``, in 64-bit wrap-around arithmetic::

    draw(key, i) = mix(key + (i + 1) * GAMMA)

Nothing is kept between draws, so there is no order to respect. :func:`draw_key` makes keys.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.jit import compiled
from kernels.splitmix import GAMMA, MASK, mix, mix_words

_STEP, _ONE = np.uint64(GAMMA), np.uint64(1)
_mixed = compiled(mix_words)


class DrawError(ValueError):
    """A word or key outside 64 bits."""


def check_key(key: int) -> None:
    """Refuse a key outside ``0 .. 2^64 - 1``."""
    if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key <= MASK:
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
        key = mix((key ^ word) + GAMMA & MASK)
    return key


def draw_oracle(key: int, index: int) -> int:
    """Return draw ``index`` of ``key``, 64 bits, on Python integers."""
    return mix(key + (index + 1) * GAMMA & MASK)


@compiled
def draw(key: np.uint64, index: int | np.integer[Any]) -> np.uint64:
    """Return draw ``index`` of ``key`` (64 bits), inside compiled code."""
    return _mixed(np.uint64(key + (np.uint64(index) + _ONE) * _STEP))
