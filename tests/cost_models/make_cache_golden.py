"""Makes ``cache_golden.json``: what pycachesim counts on the traces of all kernels.

Run by hand when a kernel's nest changes, with ``pip install pycachesim==0.3.1`` (builds a C
extension with gcc) in the environment of this project, from the root of the repository::

    python tests/cost_models/make_cache_golden.py

The tests compare with the file and need no pycachesim.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
from cache_cases import GOLDEN, cases
from cachesim import Cache

from cost_models.caches import Hierarchy
from cost_models.caches.nest import Nest
from cost_models.caches.simulator import Chunk
from cost_models.caches.trace import trace


def pycachesim_counts(nests: list[Nest], hierarchy: Hierarchy) -> list[list[list[int]]]:
    """Counts of pycachesim as the trace ends, and after it wrote dirty lines back."""
    caches: list[Any] = []
    for level in reversed(hierarchy.levels):
        behind = caches[0] if caches else None
        caches.insert(
            0,
            Cache(
                level.name, level.sets, level.ways, level.line_bytes, "LRU",
                load_from=behind, store_to=behind,
            ),
        )  # fmt: skip
    for chunk in trace(nests, hierarchy):
        _run(chunk, caches)
    before = [_counts(cache) for cache in caches]
    for cache in caches:
        cache.force_write_back()
    return [before, [_counts(cache) for cache in caches]]


def _run(chunk: Chunk, caches: list[Any]) -> None:
    """Hand over a chunk in runs of equal code and length: pycachesim takes one length a call."""
    same = (np.diff(chunk.codes) == 0) & (np.diff(chunk.lengths) == 0)
    edges = [0, *(np.flatnonzero(~same) + 1).tolist(), len(chunk.codes)]
    for first, last in pairwise(edges):
        level, store = divmod(int(chunk.codes[first]), 2)
        if level == len(caches):
            continue  # the scratchpad
        call = caches[level].iterstore if store else caches[level].iterload
        call(chunk.addresses[first:last].tolist(), length=int(chunk.lengths[first]))


def _counts(cache: Any) -> list[int]:
    stats = cache.stats()
    assert stats["EVICT_byte"] == stats["EVICT_count"] * cache.cl_size
    return [stats[f"{name}_count"] for name in ("LOAD", "STORE", "HIT", "MISS", "EVICT")]


def _compact(counts: list[list[list[int]]]) -> str:
    return json.dumps(counts, separators=(",", ":"))


def main() -> None:
    """Write the file."""
    lines = [
        f"{json.dumps(name)}: {_compact(pycachesim_counts(nests, caches))}"
        for name, nests, caches in cases()
    ]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{len(lines)} cases")


if __name__ == "__main__":
    main()
