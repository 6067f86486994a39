"""Row blocks shared out among threads: for compiled kernels that release the GIL.

Whoever is free takes the next block, so a thread that lost its core for a while does not hold
the others up. Results do not depend on it: each block writes rows of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count

BLOCKS_PER_THREAD = 8


def available_threads() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(available_threads(), 16), thread_name_prefix="gemm")


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
