"""Ranks of saved activations by the energy that they hold, measured on images."""

from __future__ import annotations

import numpy as np

from kernels.conv import Conv2d
from kernels.fp32.tucker import rank_for, ranks_for, spectrum
from kernels.operators import Role
from kernels.quantised import QTensor
from sim.aspects.backward import ASI, HOSVD, SVD
from sim.draft import Item
from sim.numeric.executor import NumericExecutor
from sim.numeric.frame import Frame, NumericError
from sim.numeric.values import Floats


def ranks_by_energy(
    executor: NumericExecutor, images: Floats, energy: float, kind: str = HOSVD
) -> dict[str, str]:
    """Return backward choices of the trained convolutions, with the least ranks for an energy.

    A plan needs ranks, since its memory follows from them; the energy that they hold depends on the
    weights and on the images, and moves while a network trains.

    Parameters
    ----------
    executor
        A network with its present weights.
    images
        One batch of the graph's size, as for :meth:`~sim.numeric.NumericExecutor.step`.
    energy
        Share of the sum of squares that each unfolding keeps, above 0 and at most 1 (published:
        0.8 and 0.9).
    kind
        ``hosvd`` and ``asi``: a rank for each axis; ``svd``: for samples alone.

    Returns
    -------
    dict
        By layer, such as ``{"conv2": "hosvd:12:9:7:7"}``.

    Raises
    ------
    NumericError
        Images of another batch, or an unknown kind.
    ArrayError
        An energy that is no share.
    """
    if kind not in (HOSVD, SVD, ASI):
        raise NumericError(f"kind is {kind!r}; allowed: {HOSVD}, {SVD}, {ASI}")
    if len(images) != executor.graph.batch:
        raise NumericError(
            f"images are {len(images)}; allowed: {executor.graph.batch}, a batch of the graph"
        )
    nodes = executor.graph.nodes
    trained = {node.layer for node in nodes if node.role is Role.WEIGHT_GRAD}
    found: dict[str, str] = {}

    def seen(item: Item, frame: Frame) -> None:
        if item.layer not in trained or not isinstance(item.op, Conv2d):
            return
        value = frame.get(item.reads[0])
        x = value.dequantise() if isinstance(value, QTensor) else frame.floats(item.reads[0])
        x = np.ascontiguousarray(x, np.float32)
        if kind == SVD:
            found[item.layer] = f"{SVD}:{rank_for(spectrum(x, 0)[0], energy)}"
        else:
            found[item.layer] = ":".join([kind, *map(str, ranks_for(x, energy))])

    executor.predict(images, seen)
    return found
