"""Random numbers by key: the same everywhere, in any order, by any number of threads.

A draw depends on its key and its index alone, so nothing has to be drawn in sequence: it is
SplitMix64 (:mod:`kernels.splitmix`). Unlike those of ``numpy.random``, its numbers do not depend
on the version of a library.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from kernels.splitmix import GAMMA, mix_words

Draws = NDArray[np.uint64]


def key(*words: int | str) -> int:
    """Return a 64-bit key made of ``words``: what for, the seed, the epoch and so on.

    It is the first 8 bytes of the SHA-256 of the tuple as Python writes it.

    Parameters
    ----------
    words
        Non-negative integers, and texts that name a purpose. Order matters.

    Raises
    ------
    ValueError
        A negative integer.
    """
    plain = tuple(word if isinstance(word, str) else int(word) for word in words)
    for word in plain:
        if isinstance(word, int) and word < 0:
            raise ValueError(f"seed or epoch: {word} is negative; give 0 or more")
    return int.from_bytes(sha256(repr(plain).encode()).digest()[:8], "little")


def draws(a_key: int | Draws, indices: NDArray[np.integer]) -> Draws:
    """Return uniform 64-bit numbers for ``indices`` under a key, or under one key each.

    Examples
    --------
    >>> draws(0, np.array([1]))  # SplitMix64's first number for the seed 0
    array([16294208416658607535], dtype=uint64)
    """
    return mix_words(np.asarray(a_key, np.uint64) + indices.astype(np.uint64) * np.uint64(GAMMA))


def below(bound: int, a_key: int, indices: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return uniform integers in ``0 .. bound - 1``; ``bound`` is at most 2^32."""
    high = draws(a_key, indices) >> np.uint64(32)
    return ((high * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)


def permutation(count: int, a_key: int) -> NDArray[np.int64]:
    """Return ``0 .. count - 1`` in the order of their draws."""
    return np.argsort(draws(a_key, np.arange(count)), kind="stable").astype(np.int64)
