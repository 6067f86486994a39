"""Nests of MAC kernels: one product of rows and columns over a depth, as each unit tiles it.

Forward, dX and dW of convolutions and fully connected layers are all this product; what differs
is what rows, columns and depth are, and how the operands lie in memory.

* **CPU** (``kernels/int8/conv_loops.py``, ``kernels/gemm/tiles.py``): panels of 16 columns, blocks
  of 96 rows, depth in chunks of 256 words, tiles of 6 rows. A word holds four INT8 or one FP32.
  The block's sums (6 KiB) stay in L1 and are left out.
* **DSP** (hexagon_nn, ``cost_models/vtcm.py``): slices of 32 columns, tiles of 4 rows. A slice
  that fits is first copied to VTCM and serves the whole batch from there; one that does not is
  streamed from memory again for each element of the batch. Scalar loads of the left operand pass
  through L1, vectors of 128 bytes do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from cost_models.caches.nest import Arena, Array, Axis, Loop, Nest, Port, Ref

WORD = 4
"""Bytes of a word: what one lane multiplies at a time."""
PANEL, BLOCK, CHUNK, TILE = 16, 96, 256, 6
"""CPU: columns of a panel, rows of a block, words of depth per pass, rows of a tile."""
SLICE, DSP_TILE, VECTOR = 32, 4, 128
"""DSP: columns of a slice, rows of a tile, bytes of a vector."""

Strides = dict[str, int]


@dataclass(frozen=True, slots=True)
class Product:
    """``result[row, column] = sum over depth of left[row, depth] * right[depth, column]``.

    Attributes
    ----------
    batch
        The outermost axis of the rows: what a filter outside VTCM is streamed again for.
    rows
        The other axes of the rows.
    depth
        The reduction, in words.
    columns
        Columns, of one group.
    left, left_strides
        Array and strides by part of batch, rows, depth and group.
    right
        Panels or slices: (columns / width, depth, width) words.
    result, result_strides
        Array and strides by part of batch, rows and group; ``column`` is that of one column.
    item
        Bytes of an element of the result.
    accumulates
        Whether the result is added to what is there.
    groups
        How often all this is repeated: part ``group``.
    """

    batch: Axis
    rows: Axis
    depth: Axis
    columns: int
    left: Array
    left_strides: Strides
    right: Array
    result: Array
    result_strides: Strides
    item: int
    accumulates: bool = False
    groups: int = 1
    left_offset: int = 0
    result_offset: int = 0


def span(axes: tuple[Axis, ...], strides: Strides, length: int) -> int:
    """Bytes from the first to the last that ``strides`` reach over ``axes``."""
    parts = [part for axis in axes for part in axis.parts]
    return length + sum((extent - 1) * abs(strides.get(name, 0)) for name, extent in parts)


def right_array(arena: Arena, depth: Axis, columns: int, width: int, groups: int) -> Array:
    """The packed right operand of a product."""
    return arena.array("filter", groups * ceil(columns / width) * depth.size * width * WORD)


def _depth_strides(depth: Axis, word: int) -> Strides:
    """Strides of an operand in which the depth lies as it is walked."""
    strides, size = {}, word
    for name, extent in reversed(depth.parts):
        strides[name] = size
        size *= extent
    return strides


def cpu_product(name: str, made: Product) -> Nest:
    """The nest of a product on a CPU core."""
    rows = Axis((*made.batch.parts, *made.rows.parts))
    columns, group = Axis((("column", made.columns),)), Axis((("group", made.groups),))
    block, chunk = min(BLOCK, rows.size), min(CHUNK, made.depth.size)
    loops = (
        Loop(3), Loop(0, min(PANEL, made.columns)), Loop(1, block), Loop(2, chunk),
        Loop(1, min(TILE, block)), Loop(2),
    )  # fmt: skip
    right = {
        **_depth_strides(made.depth, PANEL * WORD),
        "column": made.depth.size * WORD,
        "group": ceil(made.columns / PANEL) * made.depth.size * PANEL * WORD,
    }
    if made.result_strides["column"] == made.item:  # a row of the panel lies together
        length, spread = min(PANEL, made.columns) * made.item, (1, BLOCK)
    else:  # a column of the block does
        length, spread = block * made.item, (0, PANEL)
    written = [
        Ref(
            made.result, made.result_strides, length, depth=3, store=store, after=True,
            spread=spread, offset=made.result_offset,
        )
        for store in ((False, True) if made.accumulates else (True,))
    ]  # fmt: skip
    refs = (
        Ref(made.right, right, PANEL * WORD, depth=6),
        Ref(made.left, made.left_strides, WORD, depth=6, spread=(1, TILE), offset=made.left_offset),
        *written,
    )
    return Nest(name, (columns, rows, made.depth, group), loops, refs)


def dsp_product(name: str, made: Product, scratchpad: bool) -> Nest:
    """The nest of a product on the DSP; ``scratchpad``: whether a slice is held in VTCM."""
    slices, group = ceil(made.columns / SLICE), Axis((("group", made.groups),))
    axes = (Axis((("slice", slices),)), made.rows, made.depth, group, made.batch)
    outer = (Loop(0), Loop(4)) if scratchpad else (Loop(4), Loop(0))
    loops = (Loop(3), *outer, Loop(1, min(DSP_TILE, made.rows.size)), Loop(2))
    slice_bytes = made.depth.size * VECTOR
    right = {
        **_depth_strides(made.depth, VECTOR),
        "slice": slice_bytes,
        "group": slices * slice_bytes,
    }
    result = {name: stride for name, stride in made.result_strides.items() if name != "column"}
    result["slice"] = SLICE * made.result_strides["column"]
    row = SLICE * made.item
    refs = [
        Ref(made.left, made.left_strides, WORD, depth=5, spread=(1, DSP_TILE),
            offset=made.left_offset),
    ]  # fmt: skip
    if scratchpad:
        held = Array("vtcm", 0, slice_bytes)
        whole = (2, made.depth.size)
        inside = _depth_strides(made.depth, VECTOR)
        refs += [
            Ref(made.right, right, VECTOR, depth=2, port=Port.VECTOR, spread=whole),
            Ref(held, inside, VECTOR, 2, store=True, port=Port.SCRATCHPAD, spread=whole),
            Ref(held, inside, VECTOR, depth=5, port=Port.SCRATCHPAD),
        ]
    else:
        refs.append(Ref(made.right, right, VECTOR, depth=5, port=Port.VECTOR))
    for store in (False, True) if made.accumulates else (True,):
        refs.append(
            Ref(
                made.result, result, row, depth=4, store=store, after=True, port=Port.VECTOR,
                spread=(1, DSP_TILE), offset=made.result_offset,
            )
        )  # fmt: skip
    return Nest(name, axes, loops, tuple(refs))
