"""What the parts of the large counts share: how much to count, workers, and progress."""

from __future__ import annotations

import gc
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from sim import TrainingGraph, device_names, load_device, load_model, model_names, training_graph

PHONE = "snapdragon-865"
BATCH = 64
Outcome = dict[str, Any]
"""What a part found, ready for JSON; ``passed`` says whether it is as it must be."""

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Size:
    """How much to count.

    ``drawn`` is the number of random graphs; ``seeds`` that of held-out runs of each plan; ``pair``
    the model and device that fresh processes repeat.
    """

    models: tuple[str, ...]
    devices: tuple[str, ...]
    drawn: int
    seeds: int
    pair: tuple[str, str]
    workers: int = 2


def full_size(workers: int = 2) -> Size:
    """Everything in the zoo on every device, and 2,000 random graphs."""
    pair = ("mobilenet-v2", "snapdragon-8gen3")
    return Size(model_names(), device_names(), 2_000, 3, pair, workers)


def in_parallel(
    function: Callable[[_Job], _Result], jobs: Sequence[_Job], size: Size, what: str
) -> Iterator[_Result]:
    """Yield results in the order of the jobs, whatever the number of workers; show progress."""
    if size.workers == 1:
        results: Iterator[_Result] = map(function, jobs)
        yield from _with_progress(results, len(jobs), what)
        return
    # No collection in the workers: plans and drafts hold no cycles, and there are millions.
    with ProcessPoolExecutor(
        size.workers, mp_context=get_context("spawn"), initializer=gc.disable
    ) as pool:
        yield from _with_progress(pool.map(function, jobs), len(jobs), what)


def _with_progress(results: Iterator[_Result], count: int, what: str) -> Iterator[_Result]:
    for done, result in enumerate(results, start=1):
        print(f"\r  {what}: {done}/{count}", end="", file=sys.stderr, flush=True)
        yield result
    print(file=sys.stderr)


@lru_cache(maxsize=2)
def graph_of(model: str, batch: int = BATCH) -> TrainingGraph:
    """Return the training graph of a zoo model; the newest two are remembered."""
    return training_graph(load_model(model, batch))


def dsp_devices(size: Size) -> list[str]:
    """Return the devices that have a DSP."""
    return [name for name in size.devices if load_device(name).dsp is not None]


def source_digest() -> str:
    """Digest of all code and data that a count depends on."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for folder in ("kernels", "cost_models", "sim", "experiments"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                digest.update(path.relative_to(root).as_posix().encode() + b"\0")
                digest.update(path.read_bytes())
    return digest.hexdigest()
