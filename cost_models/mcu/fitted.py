"""The constants of :mod:`cost_models.mcu.counts`, fitted to released cycle counts.

The table ``cost_models/measured/mcu_cycles.csv`` has 16 counts that the GVSoC simulator gave for
layers of a tutorial (dnadalini/PULP-TrainLib-Tutorial). Six constants are fitted; everything else
is counted. A row is predicted by a fit without it, or without every row of its workload.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final, Literal

import numpy as np

from cost_models.fitting import Coefficient, Law, Schema, Table, fit, read_table
from cost_models.fitting.crossval import HeldOut, leave_one_group_out
from cost_models.fitting.table import FloatArray
from cost_models.mcu.counts import Constants, Counts
from cost_models.mcu.products import KERNELS, MatMul, product_counts
from cost_models.mcu.steps import (
    conv_phases,
    linear_phases,
    relu_counts,
)
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Role

TABLE: Final = Path(__file__).parent.parent / "measured" / "mcu_cycles.csv"
WORKLOADS: Final = (
    "conv_forward",
    "pointwise_forward",
    "linear_forward",
    "linear_backward",
    "vector_matrix",
    "relu_forward",
    "relu_backward",
)
_SIZE: Final = (1, 4096)
SCHEMA: Final = Schema(
    "cycles",
    {"workload": WORKLOADS, "kernel": tuple(KERNELS), "case": ()},
    {"cores": (1, 8), "c_in": _SIZE, "c_out": _SIZE, "side": _SIZE, "k": (1, 11)},
)
FPUS: Final = 8
"""Of the simulated cluster: one for each core."""
_COLUMNS: Final = ("issued", "blocks", "outputs", "windows", "compares", "calls")


def row_counts(
    workload: str, kernel: str, cores: int, c_in: int, c_out: int, side: int, k: int
) -> Counts:
    """Count the work of a row of the table."""
    inner = KERNELS[kernel]
    if workload.startswith("relu"):
        return relu_counts(c_in * side * side, Role(_ROLES[workload]), cores)
    if workload == "vector_matrix":
        return product_counts(MatMul(1, c_in, c_out, kernel.endswith("_t")), inner, cores, FPUS)
    if workload.startswith("linear"):
        layer = Linear(1, c_in, c_out)
        back = workload == "linear_backward"
        roles = [Role.WEIGHT_GRAD, Role.INPUT_GRAD] if back else [Role.FORWARD]
        phases = [phase for role in roles for phase in linear_phases(layer, role)]
    else:
        phases = list(conv_phases(Conv2d(1, c_in, side, side, c_out, k), Role.FORWARD))
    total = Counts()
    for phase in phases:
        total += phase.counts(inner, cores, FPUS)
    return total


_ROLES: Final = {"relu_forward": "forward", "relu_backward": "input_grad"}


@cache
def released_cycles() -> Table:
    """The table, with the counts of every row beside it."""
    table = read_table(TABLE, SCHEMA)
    rows = [
        row_counts(
            str(table.labels["workload"][i]), str(table.labels["kernel"][i]),
            *(int(table.numbers[name][i]) for name in SCHEMA.numbers),
        )
        for i in range(len(table))
    ]  # fmt: skip
    columns = {name: np.array([getattr(row, name) for row in rows], float) for name in _COLUMNS}
    return table.with_numbers(columns)


def _cycles(theta: FloatArray, rows: Table) -> FloatArray:
    """:meth:`cost_models.mcu.counts.Constants.cycles` of every row."""
    constants = _constants(theta)
    columns = (*(rows.numbers[name].tolist() for name in _COLUMNS), rows.numbers["cores"].tolist())
    return np.array(
        [
            constants.cycles(Counts(**dict(zip(_COLUMNS, counted, strict=True))), cores)
            for *counted, cores in zip(*columns, strict=True)
        ]
    )


def _constants(theta: FloatArray) -> Constants:
    block, output, window, compare, call, contention = theta.tolist()
    return Constants(block, output, window, compare, call, contention)


_ANY: Final = "a layer with few products in each sum"
LAW: Final = Law(
    "mcu-cycles",
    "Cycles of training kernels on a RISC-V cluster",
    "cycles",
    (
        Coefficient("block", "cycles", 6, 0.1, 100, "of a block of outputs", _ANY),
        Coefficient("output", "cycles", 6, 0.1, 100, "of an output", _ANY),
        Coefficient("window", "cycles", 7, 0.1, 100, "of an im2row element", "a convolution"),
        Coefficient("compare", "cycles", 6, 0.1, 100, "of a comparison", "a ReLU"),
        Coefficient("call", "cycles", 300, 1, 1e4, "of a parallel call", "small layers"),
        Coefficient("contention", "", 0.1, 1e-3, 1, "share, 8 cores at once", "layers on 8 cores"),
    ),
    _cycles,
)


@cache
def fitted_constants() -> Constants:
    """Constants fitted to all rows."""
    return _constants(fit(LAW, released_cycles()))


@cache
def held_out(by: Literal["case", "workload"]) -> HeldOut:
    """Predictions of every row by a fit without it, or without any row of its workload.

    Of the workloads, convolution is not predicted: nothing else has windows.
    """
    return leave_one_group_out(LAW, released_cycles(), by)
