"""The packet calibrations: what HVX kernels cost in packets, and the rates that follow.

The counts lie in ``cost_models/measured/packets-v66.jsonl``, every one of a real binary in the
emulator; ``mandheling hw packets --store FILE`` counts them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

import cost_models
from cost_models.bundle import FittedOn, FittedRow, PredictionInterval, Validation
from cost_models.errors import unknown_name
from cost_models.fitting import Bundle, CalibrationError, Grouping, calibrate
from cost_models.fitting.conformal import interval_of
from cost_models.fitting.crossval import errors_of
from cost_models.fitting.samples import fitted_on
from cost_models.packets.laws import packet_law, packet_table
from cost_models.packets.rates import ELEMENTS, SHARES, element_table, share_table
from cost_models.packets.shapes import SIZES
from cost_models.reading import read_bytes
from cost_models.samples import Sample, SampleError, parse_samples

STORE: Final = Path(cost_models.__file__).parent / "measured" / "packets-v66.jsonl"
MAX_STORE_BYTES: Final = 16 << 20
TARGET: Final = 0.05
"""Median held-out error of packets that the model is built for."""


@dataclass(frozen=True, slots=True)
class Counts:
    """A store of packet counts, read; ``sha256`` is that of its file."""

    file: str
    sha256: str
    fitted_on: FittedOn
    samples: tuple[Sample, ...]


def read_counts(path: Path = STORE) -> Counts:
    """Read a store of packet counts.

    Raises
    ------
    CalibrationError
        It cannot be read, is damaged, or its samples were measured on several machines.
    """
    raw = read_bytes(path, MAX_STORE_BYTES, CalibrationError)
    try:
        content = parse_samples(raw, path.name)
    except SampleError as cause:
        raise CalibrationError(str(cause)) from None
    facts = fitted_on(content, content.samples, path.name).facts
    on = FittedOn(facts={**facts, "library": "the HVX kernels of this repository"})
    by_key = tuple(sorted(content.samples, key=lambda sample: sample.key))  # whenever taken
    return Counts(path.name, hashlib.sha256(raw).hexdigest(), on, by_key)


def packet_bundle(counts: Counts) -> Bundle:
    """Fit every kernel family, each held out by network and size octave."""
    parts = {}
    for family in SIZES:
        table = packet_table(family, counts.samples, counts.sha256)
        by_group = (Grouping("group", TARGET),)
        parts[family] = calibrate(
            packet_law(family), table, by_group, file=counts.file, fitted_on=(counts.fitted_on,)
        )
    return _joined("packets", parts)


def rate_bundle(counts: Counts) -> Bundle:
    """Fit shares of the peak to layers at large batches, and elements per packet to tensors."""
    by_group, on = (Grouping("group"),), (counts.fitted_on,)
    shares = share_table(counts.samples, counts.sha256)
    elements = element_table(counts.samples, counts.sha256)
    parts = {
        "": calibrate(SHARES, shares, by_group, file=counts.file, fitted_on=on),
        "elements": calibrate(ELEMENTS, elements, by_group, file=counts.file, fitted_on=on),
    }
    return _joined("packet-rates", parts)


def _joined(name: str, parts: Mapping[str, Bundle]) -> Bundle:
    """One bundle of several: names get the part's in front, validations come after that of all."""
    first = next(iter(parts.values()))
    named = [(f"{part}." if part else "", bundle) for part, bundle in parts.items()]
    rows = [
        row.model_copy(update={"group": f"{prefix}{row.group}"})
        for prefix, bundle in named
        for row in bundle.rows
    ]
    coefficients = tuple(
        each.model_copy(update={"name": prefix + each.name})
        for prefix, bundle in named
        for each in bundle.coefficients
    )
    validations = tuple(
        each.model_copy(update={"by": f"{prefix}{each.by}"})
        for prefix, bundle in named
        for each in bundle.validations
    )
    return first.model_copy(
        update={
            "name": name,
            "title": PACKET_STUDIES[name].title,
            "sources": tuple(sorted({s for _, bundle in named for s in bundle.sources})),
            "coefficients": coefficients,
            "validations": (_of_all(rows, validations), *validations),
            "rows": tuple(rows),
        }
    )


def _of_all(rows: Sequence[FittedRow], validations: Sequence[Validation]) -> Validation:
    """The errors of all parts together, each row predicted without its group."""
    known = [row for row in rows if row.held_out is not None]
    names, groups = (np.array([getattr(r, field) for r in known]) for field in ("name", "group"))
    predicted = np.array([row.held_out for row in known], dtype=np.float64)
    measured = np.array([row.measured for row in known])
    errors, interval = (
        errors_of(names, predicted, measured),
        interval_of(groups, predicted, measured),
    )
    return Validation(
        by="group",
        groups=interval.groups,
        rows=errors.rows,
        median=_rounded(errors.median),
        p90=_rounded(errors.p90),
        worst=_rounded(errors.worst),
        worst_row=errors.worst_row,
        signed_median=_rounded(errors.signed_median),
        target=validations[0].target,
        interval=PredictionInterval(
            kind=interval.kind,
            low=_rounded(interval.low),
            high=_rounded(interval.high),
            groups=interval.groups,
            level=interval.level,
        ),
        not_predicted=tuple(text for each in validations for text in each.not_predicted),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


@dataclass(frozen=True, slots=True)
class PacketStudy:
    """A calibration from packet counts: what it is, and how it is fitted."""

    title: str
    fit: Callable[[Counts], Bundle]


PACKET_STUDIES: Final[Mapping[str, PacketStudy]] = {
    "packets": PacketStudy("Packets of HVX kernels on v66, one thread", packet_bundle),
    "packet-rates": PacketStudy("Rates of HVX kernels by packets on v66", rate_bundle),
}
"""Calibrations from packet counts, by name."""


def run_packet_study(name: str, path: Path = STORE) -> Bundle:
    """Fit and cross-validate one of :data:`PACKET_STUDIES` on a store of counts.

    Raises
    ------
    CalibrationError
        The name is unknown, or the store cannot be used.
    """
    if name not in PACKET_STUDIES:
        raise CalibrationError(unknown_name("calibration", name, tuple(PACKET_STUDIES)))
    return PACKET_STUDIES[name].fit(read_counts(path))
