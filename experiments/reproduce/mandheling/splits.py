"""Batch splitting: which weight gradients a split brings into VTCM, beside the released rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cost_models.vtcm import fits, micro_batch
from experiments.demo import BATCH, MODELS
from experiments.reproduce.mandheling.published import (
    OURS,
    released_condition,
    released_micro_batch,
)
from experiments.reproduce.study import Row
from kernels.conv import Conv2d
from kernels.operators import Role
from sim import load_device, load_model, training_graph

GROUP: Final = "batch splitting, weight gradients at batch 64"
VTCM_OF_RELEASE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Splits:
    """Rows, and how the rule here and the released one differ over all networks.

    Parameters
    ----------
    differing
        Weight gradients that both split, into different micro-batches, or that only ours splits.
    outside
        Weight gradients split here on maps that the released condition leaves alone.
    vain
        Weight gradients that the released loop splits though no split makes them fit.
    """

    rows: tuple[Row, ...]
    differing: int
    outside: int
    vain: int


def weight_gradients(model: str) -> list[Conv2d]:
    """Convolutions of a network whose weights are trained."""
    graph = training_graph(load_model(model, BATCH))
    return [
        node.op
        for node in graph.nodes
        if node.role is Role.WEIGHT_GRAD and isinstance(node.op, Conv2d)
    ]


def splits(phones: tuple[str, ...]) -> Splits:
    """Count over all networks; rows for each VTCM size of the phones."""
    convs = {model: weight_gradients(model) for model in MODELS}
    differing = outside = vain = 0
    for op in (op for each in convs.values() for op in each):
        ours = micro_batch(op, VTCM_OF_RELEASE)
        released = released_micro_batch(op.h_out, op.w_out, op.n)
        if ours is None:
            vain += released < op.n
        else:
            differing += ours != released
            outside += ours < op.n and not released_condition(op.w_out)
    return Splits(tuple(_rows(convs, phones)), differing, outside, vain)


def _rows(convs: dict[str, list[Conv2d]], phones: tuple[str, ...]) -> Iterator[Row]:
    sizes: dict[int, list[str]] = {}
    for phone in phones:
        dsp = load_device(phone).dsp
        assert dsp is not None
        sizes.setdefault(int(dsp.vtcm_bytes.value), []).append(phone)
    for vtcm, names in sizes.items():
        for model, ops in convs.items():
            over = [op for op in ops if not fits(op, Role.WEIGHT_GRAD, vtcm)]
            lost = sum(micro_batch(op, vtcm) is None for op in over)
            yield Row(
                f"{model}, saved by a split with {vtcm // 1024} KiB", None, len(over) - lost,
                False, OURS, "convolutions", GROUP,
                note=f"of {len(ops)}; {lost} more that no split makes fit; {', '.join(names)}",
            )  # fmt: skip
