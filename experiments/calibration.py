"""The calibrations that the measured tables of this repository carry, and their networks' work.

Tables lie in ``cost_models/measured/``. What the networks in them compute is counted on the zoo's
graphs here, because the floor of cost models knows no networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

import cost_models
from cost_models.bundle import FittedOn
from cost_models.cost import ITEM_BYTES
from cost_models.device import load_device
from cost_models.errors import unknown_name
from cost_models.fitting import (
    LAWS,
    Bundle,
    CalibrationError,
    Grouping,
    Schema,
    Table,
    calibrate,
    read_table,
)
from cost_models.fitting.laws import CPU_LIBRARIES, QOS_MODES
from experiments.caffe_networks import WIRINGS, caffe_model
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Role
from sim.autodiff import training_graph
from sim.zoo import load_model, model_names

FOLDER: Final = Path(cost_models.__file__).parent / "measured"
FUSED: Final = frozenset({"relu", "relu6", "batch_norm", "dropout"})
"""Folded into the convolution before them by every inference library."""
WINOGRAD_DEPTH: Final = 16
"""Fewest input channels of a convolution that libraries run as Winograd."""
NO_RELU: Final = frozenset({"googlenet", "squeezenet1.0"})
"""The training benchmark's versions of these have no ReLU and 10 classes (its source code)."""
CLIFF: Final = (
    "beyond the memory cliff: 4.3 GB resident (2.76 GB at batch 16 runs normally), and 5.6 times "
    "the time of half the batch; no coefficient here knows of paging"
)


@dataclass(frozen=True, slots=True)
class Study:
    """One calibration: its table, the ways of leaving out, and the rows that are set apart."""

    file: str
    schema: Schema
    groupings: tuple[Grouping, ...]
    fitted_on: tuple[FittedOn, ...]
    work: Callable[[Table], Table] = lambda table: table
    excluded: Callable[[Table], Mapping[str, str]] = lambda table: {}


@cache
def inference_work(
    network: str, image: int | None, library: str | None = None
) -> Mapping[str, float]:
    """Counts of one inference at batch 1 with activations and batch norm fused.

    ncnn's benchmark runs Caffe's versions of some networks, everyone else the zoo's.

    ``macs`` = ``direct_macs`` + ``winograd_macs`` (3x3, stride 1, at least 16 channels, one group);
    ``activations``: elements read and written; ``params``: weights.
    """
    caffe = library is not None and library.startswith("ncnn") and network in WIRINGS
    model = caffe_model(network) if caffe else load_model(network, 1, image)
    direct = winograd = activations = 0
    for op in (layer.op for layer in model.layers if not layer.op.is_view):
        if op.kind in FUSED:
            continue
        work = op.work(Role.FORWARD)
        weighted = isinstance(op, Conv2d | Linear)
        activations += (work.reads[0] if weighted else sum(work.reads)) + work.writes
        if _is_winograd(op):
            winograd += work.macs
        else:
            direct += work.macs
    counts = {"macs": direct + winograd, "direct_macs": direct, "winograd_macs": winograd}
    return {**counts, "activations": activations, "params": model.params}


def _is_winograd(op: object) -> bool:
    if not isinstance(op, Conv2d) or op.groups != 1 or op.c_in < WINOGRAD_DEPTH:
        return False
    return (op.k_h, op.k_w, op.stride) == (3, 3, 1)


@cache
def training_work(network: str, batch: int) -> Mapping[str, float]:
    """Counts of one training step as the benchmark runs it; see ``TRAINING`` in the laws."""
    bare = network in NO_RELU
    graph = training_graph(load_model(network, batch, None, 10 if bare else None))
    nodes = depthwise = windows = 0
    for node in graph.nodes:
        op = node.op
        if bare and op.kind in ("relu", "relu6"):
            continue
        nodes += 1
        if not isinstance(op, Conv2d) or node.role is Role.UPDATE:
            continue
        if op.depthwise:
            depthwise += op.work(node.role).macs
        elif node.role is Role.FORWARD:
            windows += op.n * op.c_out * op.h_out * op.w_out * op.k_h * op.k_w
    return {"nodes": nodes, "depthwise_macs": depthwise, "window_elements": windows}


def _columns(rows: list[Mapping[str, float]]) -> dict[str, np.ndarray[tuple[int], np.dtype]]:
    return {key: np.array([row[key] for row in rows], dtype=np.float64) for key in rows[0]}


def _dsp_work(table: Table) -> Table:
    pairs = zip(table.labels["network"].tolist(), table.numbers["image"].tolist(), strict=True)
    return table.with_numbers(_columns([inference_work(net, int(image)) for net, image in pairs]))


def _mixed(table: Table) -> Mapping[str, str]:
    other = table.numbers["other_layers"] > 0
    reason = "layers on the CPU or GPU: not a time of the DSP alone"
    return dict.fromkeys(table.names[other].tolist(), reason)


def _cpu_work(table: Table) -> Table:
    labels = zip(table.labels["network"].tolist(), table.labels["library"].tolist(), strict=True)
    work = _columns([inference_work(network, None, library) for network, library in labels])
    rates = [_copy_rate(soc) for soc in table.labels["soc"].tolist()]
    sizes = [ITEM_BYTES[d] if d != "fp16" else 2 for d in table.labels["dtype"].tolist()]
    weights_ms = work["params"] * np.array(sizes) / np.array(rates) / 1000  # MB/s: bytes per us
    return table.with_numbers({**work, "weights_ms": weights_ms})


@cache
def _copy_rate(soc: str) -> float:
    """Copy rate of the fastest core in MB/s; the 855+ has the memory of the 855."""
    device = load_device("snapdragon-865" if soc == "sd865" else "snapdragon-855")
    return device.cpu.clusters[0].copy_rate.value


def _training_work(table: Table) -> Table:
    pairs = zip(table.labels["network"].tolist(), table.numbers["batch"].tolist(), strict=True)
    return table.with_numbers(_columns([training_work(net, int(batch)) for net, batch in pairs]))


def _cliff(table: Table) -> Mapping[str, str]:
    beyond = (table.labels["network"] == "squeezenet1.0") & (table.numbers["batch"] > 16)
    return dict.fromkeys(table.names[beyond].tolist(), CLIFF)


def _on(block: str = "", **facts: str) -> FittedOn:
    return FittedOn(block=block, facts=facts)


STUDIES: Final[Mapping[str, Study]] = {
    "fastrpc-size": Study(
        "fastrpc_size.csv",
        Schema(
            "us",
            {"setup": ("boosted", "default"), "direction": ("in", "rout", "none")},
            {"buffer_bytes": (0, 2**31)},
        ),
        (Grouping("buffer_bytes", 0.10),),
        (
            _on("boosted", soc="SM8250", hexagon="v66"),  # by the build command that is shown
            _on("default", soc="not stated", hexagon="not stated"),
        ),
    ),
    "fastrpc-qos": Study(
        "fastrpc_qos.csv",
        Schema("us", {"mode": QOS_MODES}, {"job_us": (1, 1e6)}),
        (Grouping("job_us", 0.10),),
        (_on(soc="SM8150", hexagon="v66"),),
    ),
    "core-power": Study(
        "core_power.csv",
        Schema("mW", {"core": (), "point": (), "phone": ()}, {"clock_mhz": (100, 5000)}),
        (Grouping("point", 0.08), Grouping("phone")),
        (_on(soc="that of each core's name"),),
    ),
    "dsp-networks": Study(
        "dsp_networks.csv",
        Schema(
            "ms",
            {"network": model_names()},
            {"image": (1, 1024), "dsp_layers": (0, 1e4), "other_layers": (0, 1e4)},
        ),
        (Grouping("network", 0.15),),
        (_on(soc="QCS8250", hexagon="v66", library="TFLite with the vendor's delegate"),),
        _dsp_work,
        _mixed,
    ),
    "cpu-networks": Study(
        "cpu_networks.csv",
        Schema(
            "ms",
            {
                "network": model_names(),
                "library": CPU_LIBRARIES,
                "dtype": ("fp32", "fp16", "int8"),
                "soc": ("sd855", "sd855+", "sd865"),
            },
            {"threads": (1, 8)},
        ),
        (Grouping("network", 0.15),),
        (_on(soc="SM8150, SM8150-AC and SM8250", library="ncnn and Paddle-Lite"),),
        _cpu_work,
    ),
    "training-sd855": Study(
        "training_sd855.csv",
        Schema(
            "ms",
            {"network": model_names(), "setting": ("default", "1708.8")},
            {"batch": (1, 4096)},
        ),
        (Grouping("batch", 0.10), Grouping("network")),
        (_on(soc="SM8150", library="mnn"),),
        _training_work,
        _cliff,
    ),
}
"""Calibrations of committed tables by name; each is of a law in
:data:`cost_models.fitting.LAWS`."""


def run_study(name: str) -> Bundle:
    """Fit and cross-validate one of :data:`STUDIES` on its committed table.

    Raises
    ------
    CalibrationError
        The name is unknown, or the table is damaged.

    Examples
    --------
    >>> bundle = run_study("fastrpc-qos")
    >>> [c.name for c in bundle.coefficients][0], bundle.validations[0].groups
    ('awake_us', 2)
    """
    if name not in STUDIES:
        raise CalibrationError(unknown_name("calibration", name, tuple(STUDIES)))
    study = STUDIES[name]
    table = study.work(read_table(FOLDER / study.file, study.schema))
    return calibrate(
        LAWS[name],
        table,
        study.groupings,
        file=study.file,
        fitted_on=study.fitted_on,
        excluded=study.excluded(table),
    )
