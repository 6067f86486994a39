"""SplitMix64: the mixing function that all keyed random draws are made of.

G. Steele, D. Lea and C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: its
generator gives ``mix(seed + i * GAMMA)`` for ``i`` from 1 on, in 64-bit wrap-around arithmetic, so
any number of a stream is found without those before it. How a key is made and which number is
taken is the affair of whoever draws: :mod:`kernels.int8.draws`, :mod:`cost_models.draws`,
:mod:`experiments.datasets.keyed`.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15
"""What a state grows by from one number to the next."""
_MIX1, _MIX2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

_WORD_MIX1, _WORD_MIX2 = np.uint64(_MIX1), np.uint64(_MIX2)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_Words = TypeVar("_Words", np.uint64, U64)


def mix(state: int) -> int:
    """Mix the 64 bits of ``state``, on Python integers.

    Examples
    --------
    >>> mix(GAMMA)  # the first number for the seed 0
    16294208416658607535
    """
    state = (state ^ state >> 30) * _MIX1 & MASK
    state = (state ^ state >> 27) * _MIX2 & MASK
    return state ^ state >> 31


def mix_words(states: _Words) -> _Words:
    """As :func:`mix`, for an array of words; also for one word, inside compiled code."""
    states = (states ^ (states >> _S30)) * _WORD_MIX1
    states = (states ^ (states >> _S27)) * _WORD_MIX2
    return states ^ (states >> _S31)
