"""Packets of each kernel family as a sum over its loops: how often each runs, times its packets.

A law has a coefficient per loop of the kernel, in packets per pass; the counts are those of
:mod:`cost_models.packets.loops`. What is fitted, and how well it predicts shapes that no fit has
seen: ``docs/background/packets.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Final

import numpy as np

from cost_models.fitting.law import Coefficient, Law
from cost_models.fitting.table import FloatArray, Table
from cost_models.packets.loops import loops_of
from cost_models.packets.shapes import SIZES, PacketShape
from cost_models.samples import Sample

CALL: Final = "call"
"""The coefficient of a call itself: reading parameters, and what runs once."""
_LOW, _HIGH = 0.01, 1e5

_TILES = {
    "tile_steps": (16, "8 of the depth of a tile of 8 x 64"),
    "tiles": (60, "tile: its start"),
}
_PRODUCT = {**_TILES, "tile_runs": (8, "run of a tile's depth")}
_PARTS_OUT = {
    "part_rows": (8, "half a row stored as INT32 by itself"),
    "part_masked": (6, "such a half that is not a whole aligned vector"),
}
_WORDS_OUT = {
    "whole_tiles": (40, "tile stored as INT32 straight through"),
    **_PARTS_OUT,
}
_BYTES_OUT = {
    "pairs_half_away": (34, "two rows of a tile rounded half away from zero to INT8"),
    "pairs_half_up": (32, "two rows of a tile rounded half up to INT8"),
    "masked_rows": (7, "row of a tile stored as INT8, masked"),
    "crossing_rows": (2, "such a row that lies in two vectors"),
}
_COLUMNS = {
    "pack_blocks": (20, "128 packed columns: their start"),
    "pack_groups": (14, "4 of the depth of 128 packed columns"),
    "pack_part_groups": (14, "4 of the depth of 65 to 127 packed columns"),
    "pack_half_groups": (12, "4 of the depth of up to 64 packed columns"),
    "pack_zeros": (8, "4 of the depth that are zeros"),
}
_SUMS = {
    "sum_blocks": (230, "32 places or rows whose values are summed"),
    "sum_vectors": (6, "128 values of such a sum"),
    "sum_tails": (6, "what is left of such a sum"),
}
_COPIES = {
    "copies": (7, "copy of one piece"),
    "copy_loops": (7, "copy of a piece of 128 bytes or more"),
    "copy_vectors": (2, "128 bytes copied, aligned"),
    "copy_parts": (6, "bytes copied, masked"),
    "copy_crossings": (2, "such bytes that lie in two vectors"),
}
_MAP = {
    "fills": (700, "filling of a bordered map, by group"),
    "zero_vectors": (2, "128 zeros"),
    "source_lines": (20, "line copied into the bordered map"),
    **_COPIES,
    "window_lines": (20, "line of windows"),
    "windows": (6, "window: its start and its sum"),
    "window_taps": (8, "tap of 32 windows' sums"),
}
_POOL = {
    "windows": (13, "window"),
    "lines": (20, "line of windows"),
    "window_vectors": (12, "128 channels of a window"),
    "tap_lines": (8, "line of a window, 128 channels of it"),
    "tap_vectors": (3, "element of a window, 128 channels of it"),
}
_TAIL = {"tails": (20, "what 128 does not divide")}
_ROUNDED = {
    "vectors_half_away": (70, "128 values rounded half away from zero"),
    "vectors_half_up": (66, "128 values rounded half up"),
    "vectors_psto": (90, "128 values rounded pseudo-stochastically"),
}
_VECTOR = {"vectors": (5, "128 values")}
_DEPTH32 = {
    "lines": (20, "line of the map"),
    "slices": (10, "32 channels of a line"),
    "places": (10, "32 channels of a place"),
}

Terms = Mapping[str, tuple[float, str]]
TERMS: Final[Mapping[str, Terms]] = {
    "gemm": {
        **_TILES, **_WORDS_OUT, **_BYTES_OUT, **_COLUMNS, **_SUMS,
        "rows": (3, "row: its start"),
        "copies": (12, "row copied to a depth of a multiple of 8"),
        "copy_parts": (8, "part of such a row, masked"),
    },
    "forward": {
        **_PRODUCT, **_WORDS_OUT, **_BYTES_OUT, **_SUMS, **_MAP,
        "pack_squares": (200, "32 x 128 weights packed, zeros behind the last included"),
        "pack_rows": (1, "128 weights of these that are there"),
    },
    "input_grad": {
        **_PRODUCT, **_WORDS_OUT, **_BYTES_OUT, **_SUMS, **_MAP, **_COLUMNS,
        "scattered": (3, "place of a strided output"),
    },
    "weight_grad": {
        **_PRODUCT, **_PARTS_OUT, **_COLUMNS,
        "sum_blocks": (230, "32 rows of errors summed"),
        "fills": (500, "group"),
        "products": (200, "tap"),
        "gaps": (4, "run of the depth listed"),
        "turn_squares": (450, "32 x 128 errors turned and summed"),
        "zero_vectors": (2, "128 zeros"),
    },
    "amax": {"vectors": (3, "32 values scanned"), **_TAIL},
    "requantise": {**_ROUNDED, **_TAIL},
    "rescale": {**_ROUNDED, "scan_vectors": (3, "32 values scanned"), **_TAIL},
    "relu_forward": _VECTOR,
    "relu_input_grad": _VECTOR,
    "niti_update": _VECTOR,
    "max_pool_forward": {**_POOL, "masked": (7, "part of a vector stored")},
    "max_pool_input_grad": {
        **_POOL,
        "zero_vectors": (2, "128 zeros"),
        "masked": (4, "part of a vector stored"),
        "wide_stores": (5, "32 sums stored"),
        "wide_masked": (4, "of these, masked"),
    },
    "add": {
        "vectors": (60, "128 sums rounded and stored"),
        "term_vectors": (20, "128 values of a term"),
        "scan_vectors": (10, "128 sums scanned"),
        "scans": (300, "scan"),
    },
    "transpose": {
        "matrices": (30, "matrix"),
        "blocks": (500, "128 x 64 elements"),
        "squares": (150, "32 x 128 elements turned"),
        "whole_lines": (2, "128 bytes stored"),
        "masked_lines": (9, "part of a vector stored"),
    },
    "to_d32": _DEPTH32,
    "from_d32": _DEPTH32,
    "rotate180": {
        "outputs": (15, "output"),
        **_COPIES,
    },
    "wide_update": {
        "elements_int8": (60, "weight with an INT8 gradient"),
        "elements_int32": (60, "weight with an INT32 gradient"),
        "vectors": (60, "128 weights stored as INT8"),
    },
}  # fmt: skip
"""Loops of each family with a first guess of their packets and what one pass is."""


def _predict(names: Sequence[str], theta: FloatArray, rows: Table) -> FloatArray:
    columns = np.stack([rows.numbers[name] for name in names], axis=1)
    return np.asarray(columns @ theta)


@cache
def packet_law(family: str) -> Law:
    """The law of a family: packets as a sum over its loops.

    Examples
    --------
    >>> packet_law("amax").name, [c.name for c in packet_law("amax").coefficients]
    ('packets-amax', ['call', 'vectors', 'tails'])
    """
    terms = {CALL: (300.0, "call"), **TERMS[family]}
    needs = f"shapes of {family} in which this loop runs"
    coefficients = tuple(
        Coefficient(name, "packets", start, _LOW, _HIGH, meaning, needs)
        for name, (start, meaning) in terms.items()
    )
    words = family.replace("_", " ")
    title = f"HVX packets of {words}"
    return Law(f"packets-{family}", title, "packets", coefficients, partial(_predict, list(terms)))


def packet_table(family: str, samples: Sequence[Sample], digest: str = "") -> Table:
    """Give the samples of a family as rows with their loop counts; ``group`` is the label.

    Raises
    ------
    CalibrationError
        A sample is of no kernel shape.
    """
    assert family in SIZES
    rows = [s for s in samples if s.config.get("family") == family]
    counts = [loops_of(PacketShape.of_document(s.config)) for s in rows]
    names = np.array([s.key for s in rows], dtype=np.str_)
    numbers = {
        name: np.array([c[name] for c in counts], dtype=np.float64) for name in TERMS[family]
    }
    return Table(
        "packets",
        names,
        np.array([s.median for s in rows]),
        np.array([s.fingerprint for s in rows], dtype=np.str_),
        {"group": np.array([str(s.config.get("group")) for s in rows], dtype=np.str_)},
        {CALL: np.ones(len(rows)), **numbers},
        digest,
    )
