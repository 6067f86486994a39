"""The packet calibrations: what HVX kernels cost in packets, and the rates that follow.

The counts lie in ``cost_models/measured/packets-v66.jsonl``, every one of a real binary in the
emulator; ``mandheling hw packets --store FILE`` counts them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cost_models
from cost_models.bundle import FittedOn
from cost_models.errors import shown, unknown_name
from cost_models.fitting import Bundle, CalibrationError, Grouping, calibrate
from cost_models.fitting.calibrate import validation_of
from cost_models.fitting.samples import check_raw, fitted_on, samples_of
from cost_models.packets.laws import packet_law, packet_table, packing_packets
from cost_models.packets.rates import ELEMENTS, SHARES, element_table, share_table
from cost_models.packets.shapes import SIZES, PacketShape
from cost_models.reading import read_bytes
from cost_models.samples import Sample, SampleError, parse_samples

STORE: Final = Path(cost_models.__file__).parent / "measured" / "packets-v66.jsonl"
MAX_STORE_BYTES: Final = 16 << 20
TARGET: Final = 0.05
"""Median held-out error of packets that the model is built for."""
GROUPINGS: Final = (Grouping("architecture", TARGET), Grouping("group"))
"""Unseen architectures (and size octaves) first; then unseen networks, whose kin were seen."""
RATE_GROUPINGS: Final = (Grouping("architecture"), Grouping("group"))


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
        It cannot be read, is damaged, its samples were measured on several machines, or one is no
        packet count of a kernel's shape with its group; the message names key and field.
    """
    raw = read_bytes(path, MAX_STORE_BYTES, CalibrationError)
    try:
        content = parse_samples(raw, path.name)
    except SampleError as cause:
        raise CalibrationError(str(cause)) from None
    samples = samples_of(content, "kernel", path.name)
    for sample in samples:
        _check_count(sample, path.name)
    facts = fitted_on(content, samples, path.name).facts
    on = FittedOn(facts={**facts, "library": "the HVX kernels of this repository"})
    by_key = tuple(sorted(samples, key=lambda sample: sample.key))  # whenever taken
    return Counts(path.name, hashlib.sha256(raw).hexdigest(), on, by_key)


def _check_count(sample: Sample, file: str) -> None:
    """Refuse what is no packet count of a kernel's shape in a group."""
    check_raw(sample, "packets", file)
    group = sample.config.get("group")
    try:
        PacketShape.of_document(sample.config)
        if not isinstance(group, str) or not group or not group.isprintable():
            raise CalibrationError(
                f"group: {shown(group)} is not allowed; give the network that the shape is of, or "
                "'drawn 2^N'"
            )
    except CalibrationError as cause:
        raise CalibrationError(f"{file}: {sample.key}: config: {cause}") from None


def packet_bundle(counts: Counts) -> Bundle:
    """Fit every kernel family, each held out by architecture, by network, and by size octave."""
    parts = {}
    for family in SIZES:
        table = packet_table(family, counts.samples, counts.sha256)
        parts[family] = calibrate(
            packet_law(family), table, GROUPINGS, file=counts.file, fitted_on=(counts.fitted_on,)
        )
    return _joined("packets", parts)


def rate_bundle(counts: Counts) -> Bundle:
    """Fit shares of the peak to layers at large batches, and elements per packet to tensors."""
    ways, on = RATE_GROUPINGS, (counts.fitted_on,)
    packing = packing_packets(counts.samples, counts.sha256)
    shares = share_table(counts.samples, packing, counts.sha256)
    elements = element_table(counts.samples, counts.sha256)
    parts = {
        "": calibrate(SHARES, shares, ways, file=counts.file, fitted_on=on),
        "elements": calibrate(ELEMENTS, elements, ways, file=counts.file, fitted_on=on),
    }
    return _joined("packet-rates", parts)


def _joined(name: str, parts: Mapping[str, Bundle]) -> Bundle:
    """One bundle of several: names get the part's in front, validations come after that of all."""
    first = next(iter(parts.values()))
    named = [(f"{part}." if part else "", bundle) for part, bundle in parts.items()]
    rows = [
        row.model_copy(update={"block": f"{prefix}{row.block}".removesuffix(".")})
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
    missing = [text for _, bundle in named for text in bundle.validations[0].not_predicted]
    by = Grouping(first.validations[0].by, first.validations[0].target)
    return first.model_copy(
        update={
            "name": name,
            "title": PACKET_STUDIES[name].title,
            "sources": tuple(sorted({s for _, bundle in named for s in bundle.sources})),
            "coefficients": coefficients,
            "validations": (validation_of(rows, by, missing), *validations),
            "rows": tuple(rows),
        }
    )


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
