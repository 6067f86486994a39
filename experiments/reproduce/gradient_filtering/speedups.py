"""Speed-ups of single layers on five processors: a law fitted on half the rows of each."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import numpy as np

from cost_models.fitting.law import Coefficient, Law, fit
from cost_models.fitting.table import FloatArray, Table
from experiments.reproduce.gradient_filtering.published import (
    BATCH,
    CASES,
    ENERGY,
    FIGURE_6,
    SPEEDUPS,
    TABLE_4,
)
from experiments.reproduce.study import Row
from kernels.conv import Conv2d
from kernels.filtered import FilteredConv
from kernels.operators import Role

FLOAT = 4
KERNELS = 3
"""Calls of the measured filtered backward pass: the mean of errors and two products."""


def _predict(theta: FloatArray, rows: Table) -> FloatArray:
    """``vanilla / (product * macs + byte * bytes + call * calls)``, all in vanilla MACs."""
    counts = rows.numbers
    filtered = theta[0] * counts["macs"] + theta[1] * counts["bytes"] + theta[2] * KERNELS
    return np.asarray(counts["vanilla_macs"] / filtered)


_MORE = "more layers on this device"
LAW = Law(
    "filtered-backward",
    "Backward speed-up of a filtered convolution",
    "x",
    (
        Coefficient("product", "MAC/MAC", 2.0, 0.1, 100, "a MAC of a coarse product", _MORE),
        Coefficient("byte", "MAC/byte", 3.0, 1e-3, 1e4, "a byte moved", _MORE),
        Coefficient("call", "MAC", 1e7, 1.0, 1e11, "a kernel call", _MORE),
    ),
    _predict,
)
"""Coefficients are relative to a MAC of the vanilla convolution: a speed-up tells no more."""


class Layer(NamedTuple):
    """One measured speed-up and ours."""

    device: str
    patch: int
    case: int
    published: float
    ours: float
    fitted: bool


Split = Callable[[int, int], bool]
"""Whether the row of a patch and a case is fitted on."""


def seen(patch: int, case: int) -> bool:
    """Whether a row is fitted on: every other case, the other ones for the other patch."""
    return (case + patch // 2) % 2 == 1


SPLITS: dict[str, Split] = {
    "case plus half the patch is odd (this study)": seen,
    "case plus half the patch is even": lambda patch, case: not seen(patch, case),
    "odd cases": lambda patch, case: case % 2 == 1,
    "even cases": lambda patch, case: case % 2 == 0,
}
"""By what is fitted on; the rest is held out."""


def counts(case: int, patch: int) -> dict[str, float]:
    """MACs and bytes of what was measured: both gradients, and the mean of errors."""
    c, h, w = CASES[case]
    conv = Conv2d(BATCH, c, h, w, c, 3, pad=1)
    spec = FilteredConv(conv, patch)
    gradients = (Role.INPUT_GRAD, Role.WEIGHT_GRAD)
    products = [spec.weight_product.work(role) for role in gradients]
    moved = [*products, spec.error.work(spec.error.role)]
    return {
        "vanilla_macs": sum(conv.work(role).macs for role in gradients),
        "macs": sum(work.macs for work in products),
        "bytes": FLOAT * sum(work.elements for work in moved),
    }


def layers(split: Split = seen) -> tuple[Layer, ...]:
    """Fit the law on each device's part of a split, and predict every row."""
    found: list[Layer] = []
    for device in dict.fromkeys(name for name, _ in SPEEDUPS):
        places = [
            (patch, case, value)
            for (name, patch), values in SPEEDUPS.items()
            if name == device
            for case, value in enumerate(values)
        ]
        columns = [counts(case, patch) for patch, case, _ in places]
        names = np.array([f"case {case}, patch {patch}" for patch, case, _ in places])
        table = Table(
            "x",
            names,
            np.array([value for _, _, value in places]),
            np.full(len(places), FIGURE_6),
            {},
            {name: np.array([each[name] for each in columns]) for name in columns[0]},
        )
        mine = np.array([split(patch, case) for patch, case, _ in places])
        ours = LAW.predict(fit(LAW, table.take(mine)), table)
        found += [
            Layer(device, patch, case, value, float(got), bool(known))
            for (patch, case, value), got, known in zip(places, ours, mine, strict=True)
        ]
    return tuple(found)


def held_out_rows() -> tuple[Row, ...]:
    """The median error of the held-out speed-ups of each split."""
    rows = []
    for label, split in SPLITS.items():
        held = [each for each in layers(split) if not each.fitted]
        rows.append(
            Row(
                f"fitted on: {label}",
                None,
                100 * median(abs(each.ours / each.published - 1) for each in held),
                fitted=False,
                source=FIGURE_6,
                unit="%",
                group="median error of held-out speed-ups, by split",
                note=f"{len(held)} rows held out",
            )
        )
    return tuple(rows)


def speedup_rows(found: tuple[Layer, ...]) -> tuple[Row, ...]:
    """A row for each measured speed-up."""
    return tuple(
        Row(
            f"{each.device}, patch {each.patch}, case {each.case}",
            each.published,
            each.ours,
            each.fitted,
            FIGURE_6,
            unit="x",
            group="backward speed-up of a layer",
        )
        for each in found
    )


def energy_rows(found: tuple[Layer, ...]) -> tuple[Row, ...]:
    """Energy against vanilla: what the speed-ups alone would make of it."""
    rows = []
    for (device, patch), published in ENERGY.items():
        mine = [e for e in found if (e.device, e.patch) == (device, patch)]
        rows.append(
            Row(
                f"{device}, patch {patch}",
                published,
                float(np.mean([100 / e.ours for e in mine])),
                fitted=any(e.fitted for e in mine),
                source=TABLE_4,
                unit="%",
                group="energy against vanilla, mean of the cases",
                note="at equal power",
            )
        )
    return tuple(rows)
