"""The auto-tuner: every large tile with every kernel, and why the fastest is it.

The released one simulates the largest few tiles that fit with each kernel and keeps the fastest
(pulp-platform/pulp-trainlib, ``tools/AutoTuner``); here the cost model takes the simulator's place.
The search is exhaustive in that set and deterministic: ties go to the larger tile, then to the
kernel listed first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from cost_models.mcu.counts import Counts
from cost_models.mcu.description import Mcu
from cost_models.mcu.products import Kernel, kernels_for
from cost_models.mcu.tiling import Tile, fitting_tiles
from kernels.operators import Operator, Role

TILES_TRIED = 8
"""Largest tiles that are tried with each kernel."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One tile with one kernel.

    Attributes
    ----------
    kernel, tile
        Names; no kernel where the step has no product.
    tiles
        Tiles in the step.
    cycles
        Of the whole step.
    compute_cycles, dma_cycles
        Of it, before any overlap.
    footprint_bytes
        L1 in use.
    """

    kernel: str
    tile: str
    tiles: int
    cycles: int
    compute_cycles: int
    dma_cycles: int
    footprint_bytes: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """What the search found.

    Attributes
    ----------
    trials
        All, the fastest first.
    rests_on
        Fields of :class:`cost_models.mcu.description.Mcu` that the fastest one's cycles rest on
        most, or mostly: the bytes or the transfers of DMA where they are more than half; else the
        rate of instructions, with the constant behind most of the work, if there is one. FPUs count
        where cores wait for them: with more of them time falls by less than in proportion. The
        share of contention, 16 % at most, is never named.
    """

    trials: tuple[Trial, ...]
    rests_on: tuple[str, ...]

    @property
    def best(self) -> Trial:
        """The fastest."""
        return self.trials[0]

    def why(self) -> str:
        """One sentence: by how much the best wins, and what bounds it.

        A step with one trial says so.
        """
        best = self.best
        bound = "DMA" if best.dma_cycles > best.compute_cycles else "compute"
        chosen = f"{best.kernel or 'no product'} on {best.tiles} x {best.tile}"
        head = f"{chosen}: {best.cycles} cycles, bound by {bound}"
        if len(self.trials) == 1:
            return f"{head}; nothing else was possible"
        other = self.trials[1]
        more = 100 * (other.cycles / best.cycles - 1)
        return f"{head}; next {other.kernel or 'no product'} on {other.tile}, {more:.1f} % slower"


@lru_cache(maxsize=4096)
def tune(op: Operator, role: Role, item_bytes: int, mcu: Mcu, cores: int) -> Tuned:
    """Search tile x kernel for a step of an operator on ``cores`` cores.

    Parameters
    ----------
    item_bytes
        Of an element: 4 (FP32) or 2 (FP16, bfloat16).

    Raises
    ------
    McuError
        No tile fits L1, or the operator has no kernel.
    """
    tiles = fitting_tiles(
        op, role, item_bytes, int(mcu.l1_bytes.value),
        double_buffer=mcu.double_buffer, most=TILES_TRIED,
        one_core_backward=mcu.depthwise_backward_on_one_core,
    )  # fmt: skip
    made = []
    for tile in tiles:
        has_product = any(phase.product for phase in tile.phases)
        choices: tuple[Kernel, ...] = kernels_for(item_bytes)
        for kernel in choices if has_product else choices[:1]:
            name = kernel.name if has_product else ""
            made.append((_trial(tile, kernel, name, item_bytes, mcu, cores), tile, kernel))
    made.sort(key=lambda one: (one[0].cycles, -one[0].footprint_bytes))  # stable
    best, tile, kernel = made[0]
    if best.dma_cycles > best.compute_cycles:
        setup, moved = _dma(tile, item_bytes, mcu)
        rests_on: tuple[str, ...] = (
            "dma_setup_cycles" if setup > moved else "dma_bytes_per_cycle",
        )
    else:
        rests_on = _behind_computing(tile, kernel, mcu, cores)
    return Tuned(tuple(trial for trial, _, _ in made), rests_on)


def _trial(tile: Tile, kernel: Kernel, name: str, item_bytes: int, mcu: Mcu, cores: int) -> Trial:
    one = 0.0
    for counts in _counts(tile, kernel, cores, int(mcu.fpus.value)):
        one += mcu.constants.cycles(counts, cores)
    one /= mcu.instructions_per_cycle.value
    dma = sum(_dma(tile, item_bytes, mcu))
    if mcu.double_buffer:
        total = one + dma + (tile.number - 1) * max(one, dma)
    else:
        total = tile.number * (one + dma)
    return Trial(
        name, tile.label, tile.number, ceil(total), ceil(one * tile.number),
        ceil(dma * tile.number), tile.footprint_bytes(item_bytes, mcu.double_buffer),
    )  # fmt: skip


def _counts(tile: Tile, kernel: Kernel, cores: int, fpus: int) -> list[Counts]:
    """Work of the busiest core in each call of a tile."""
    phases = (*tile.phases, tile.added())
    return [phase.counts(kernel, cores, min(fpus, cores)) for phase in phases if phase is not None]


def _dma(tile: Tile, item_bytes: int, mcu: Mcu) -> tuple[float, float]:
    """Cycles of a tile's transfers: to set them up, and to move the bytes."""
    moved = (tile.loaded + tile.stored) * item_bytes
    setup = tile.transfers * mcu.dma_setup_cycles.value
    return setup, moved / mcu.dma_bytes_per_cycle.value


def _behind_computing(tile: Tile, kernel: Kernel, mcu: Mcu, cores: int) -> tuple[str, ...]:
    """See :attr:`Tuned.rests_on`."""
    fpus = int(mcu.fpus.value)
    total = sum(_counts(tile, kernel, cores, fpus), Counts())
    behind = mcu.constants.work(total) | {"call": mcu.constants.call * total.calls}
    most = max(behind, key=behind.__getitem__)
    if most != "issued":
        return "instructions_per_cycle", f"{most}_cycles"
    private = sum(_counts(tile, kernel, cores, cores), Counts())
    waits = private.issued < total.issued
    return ("instructions_per_cycle", "fpus") if waits else ("instructions_per_cycle",)
