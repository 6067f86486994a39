"""Work shared out among threads: for compiled kernels that release the GIL.

Whoever is free takes the next block, so a thread that lost its core for a while does not hold
the others up. Results do not depend on it: each block writes rows, or elements, of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count
from typing import TypeVar

from kernels.arrays import ArrayError

_Part = TypeVar("_Part")

BLOCKS_PER_THREAD = 8
_TILE = 4096
"""Elements that one thread takes at least: blocks end at whole cache lines and vectors."""
_WORTHWHILE = 1 << 16
"""Elements below which handing them to another thread costs more than it saves (tens of us)."""


def available_threads() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count(threads: int | None, *, shared: bool = True) -> int:
    """Threads to use: those asked for, by default every core; 1 for work not worth sharing.

    Raises
    ------
    ArrayError
        No integer, or fewer than 1.
    """
    if threads is None:
        return available_threads() if shared else 1
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise ArrayError(f"threads is {threads!r}; allowed: 1 or more, or None for every core")
    return threads if shared else 1


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(available_threads(), 16), thread_name_prefix="kernels")


if hasattr(os, "register_at_fork"):  # threads do not live on in a forked child
    os.register_at_fork(after_in_child=_pool.cache_clear)


def over_rows(
    kernel: Callable[[int, int], None], rows: int, tile: int, threads: int, least: int = 1
) -> None:
    """Call ``kernel(first, last)`` on blocks of whole tiles that cover ``range(rows)``.

    Parameters
    ----------
    kernel
        Works on rows ``first <= i < last``; must not touch others.
    rows
        Rows in all.
    tile
        Rows that a kernel computes together: blocks are multiples of it, but for the last.
    threads
        Threads to use, this one included.
    least
        Rows below which a block is not worth handing over, if each thread still has its share.
    """
    if threads == 1 or rows <= tile:
        kernel(0, rows)
        return
    share = -(-rows // threads)
    wanted = max(-(-share // BLOCKS_PER_THREAD), min(least, share))
    block = -(-wanted // tile) * tile
    ticket = count()

    def work() -> None:
        while (first := next(ticket) * block) < rows:
            kernel(first, min(first + block, rows))

    helpers = [_pool().submit(work) for _ in range(min(threads, -(-rows // block)) - 1)]
    work()
    for helper in helpers:
        helper.result()


def over_elements(
    kernel: Callable[[int, int], _Part],
    size: int,
    threads: int | None,
    least: int | None = None,
) -> list[_Part]:
    """Call ``kernel(first, last)`` on blocks of ``range(size)``; what each block gave.

    The order of the parts is not fixed: combine them by a sum or maximum of integers.

    Parameters
    ----------
    kernel
        Works on elements ``first <= i < last``.
    size
        Elements in all.
    threads
        As :func:`thread_count` takes them; a few elements stay in this thread.
    least
        As for :func:`over_rows`, in elements; by default as many as are worth handing over.
    """
    parts: list[_Part] = []

    def work(first: int, last: int) -> None:
        parts.append(kernel(first, last))

    number = thread_count(threads, shared=size > _WORTHWHILE)
    over_rows(work, size, _TILE, number, _WORTHWHILE if least is None else least)
    return parts
