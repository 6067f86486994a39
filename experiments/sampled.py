"""Calibrations of samples that a board took: calls, copies and kernels, from a sample store.

What ``mandheling hw sample`` stores is fitted as it is; of a kernel, the work that its shape does
is counted here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Final

from cost_models.errors import shown, unknown_name
from cost_models.fitting import LAWS, Bundle, CalibrationError, Grouping, Schema, calibrate
from cost_models.fitting.samples import convertible, fitted_on, samples_of, table_of
from cost_models.packets.shapes import PacketShape
from cost_models.samples import Json, Sample, read_samples
from kernels.conv import Conv2d
from kernels.operators import Role
from kernels.pool import MaxPool2d

ROLES: Final = {
    "forward": Role.FORWARD,
    "input_grad": Role.INPUT_GRAD,
    "weight_grad": Role.WEIGHT_GRAD,
}


MOST_THREADS: Final = 64
MOST_CORNER: Final = 255
"""Far beyond any DSP's HVX contexts, and what a vote for a voltage corner can name."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A calibration of samples: their ``kind``, what is fitted by, ways of leaving out.

    ``columns`` gives what a sample's ``config`` says of it, by the names of the schema; of each of
    ``settings`` a store may have one value.
    """

    kind: str
    schema: Schema
    groupings: tuple[Grouping, ...]
    columns: Callable[[Sample], Mapping[str, Json]] = lambda sample: sample.config
    settings: tuple[str, ...] = ("corner", "cpu")


def kernel_columns(sample: Sample) -> Mapping[str, Json]:
    """Return family (with its threads and clock corner), shape and work of a kernel's sample.

    Raises
    ------
    CalibrationError
        Its ``config`` is no shape of a kernel, or ``threads`` or ``corner`` is no such count.
    """
    shape = PacketShape.of_document(sample.config)
    threads = _count(sample, "threads", 1, MOST_THREADS)
    corner = _count(sample, "corner", 0, MOST_CORNER)
    family = f"{shape.family}.x{threads}" + (f".corner{corner}" if corner else "")
    return {"family": family, "shape": shape.key, "work": work_of(shape)}


def _count(sample: Sample, name: str, low: int, high: int) -> int:
    """A whole number of a sample's ``config``; ``low`` where it is not told."""
    value = sample.config.get(name, low)
    if type(value) is not int or not low <= value <= high:
        raise CalibrationError(
            f"{name}: {shown(value)} is not allowed; give an integer from {low} to {high}"
        )
    return value


def check_one_setting(samples: Sequence[Sample], settings: Sequence[str], file: str) -> None:
    """Refuse samples of several clock corners or pinned CPUs, which share no coefficients.

    Raises
    ------
    CalibrationError
        Names the store, the setting and its values.
    """
    for name in settings:
        values = sorted({str(sample.config.get(name)) for sample in samples})
        if len(values) > 1:
            raise CalibrationError(
                f"{file}: config.{name}: {' and '.join(values)}: one law is fitted to one {name}; "
                "sample each into a store of its own"
            )


def work_of(shape: PacketShape) -> int:
    """Return the MACs of a product, the elements of any other kernel.

    >>> work_of(PacketShape("gemm", (2, 3, 4), "int32"))
    24
    """
    op = shape.layer()
    if isinstance(op, Conv2d):
        return op.work(ROLES[shape.family]).macs
    if isinstance(op, MaxPool2d):
        return prod(op.inputs[0])
    return prod(shape.sizes)


SAMPLED: Final[Mapping[str, Sampled]] = {
    "null-calls": Sampled(
        "null_call",
        Schema("us", {"qos": ("off", "adaptive", "pm_qos", "poll")}, {"gap_us": (0, 1e7)}),
        (Grouping("gap_us", 0.10),),
    ),
    "buffer-copies": Sampled(
        "copy",
        Schema("us", {"memory": ("copied", "shared")}, {"bytes": (1, 2**31)}),
        (Grouping("bytes", 0.10),),
    ),
    "kernels": Sampled(
        "kernel",
        Schema("us", {"family": (), "shape": ()}, {"work": (1, 1e15)}),
        (Grouping("shape", 0.10),),
        kernel_columns,
        ("cpu",),
    ),
}
"""By name; each is of a law in :data:`cost_models.fitting.LAWS`."""


def run_sampled(name: str, path: Path) -> Bundle:
    """Fit and cross-validate one of :data:`SAMPLED` on a store of samples.

    Raises
    ------
    CalibrationError
        The name is unknown, the store has no such samples, they lack a field, or they do not
        identify a coefficient.
    SampleError
        The file is no store, or is damaged.
    """
    if name not in SAMPLED:
        raise CalibrationError(unknown_name("calibration of samples", name, tuple(SAMPLED)))
    study, content = SAMPLED[name], read_samples(path)
    samples = samples_of(content, study.kind, path.name)
    on = fitted_on(content, samples, path.name)
    check_one_setting(samples, study.settings, path.name)
    columns = [_with_columns(study, sample, path.name) for sample in samples]
    return calibrate(
        LAWS[name],
        table_of(columns, study.schema, path.name),
        study.groupings,
        file=path.name,
        fitted_on=(on,),
    )


def _with_columns(study: Sampled, sample: Sample, file: str) -> Sample:
    try:
        return replace(sample, config=study.columns(sample))
    except CalibrationError as cause:
        raise CalibrationError(f"{file}: {sample.key}: config: {cause}") from None


def fittable(path: Path) -> list[str]:
    """Return the names of :data:`SAMPLED` for which a store has samples in a unit that fits."""
    found = {(sample.kind, sample.unit) for sample in read_samples(path).samples}
    return [
        name
        for name, study in SAMPLED.items()
        if any(kind == study.kind and convertible(unit, study.schema.unit) for kind, unit in found)
    ]
