"""Nests of kernels that pass over elements: activations, sums, rescaling, updates, permutations.

Units differ in the layout and in the bytes they take at a time: a CPU core works on NHWC tensors in
runs of 64 bytes (four NEON registers), the DSP on D32 tensors in vectors of 128 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import ceil, prod

from cost_models.caches.nest import Arena, Array, Axis, Loop, Nest, Port, Ref
from cost_models.cost import ITEM_BYTES, KernelCall
from cost_models.dsp import d32_elements
from kernels.layout import LayoutTranspose
from kernels.operators import Role

CPU_RUN, DSP_RUN = 64, 128
"""Bytes that a kernel takes at a time."""
WORD = ITEM_BYTES["int32"]


@dataclass(frozen=True, slots=True)
class Lanes:
    """How a unit touches tensors: bytes at a time, channels that lie together, and the port."""

    run: int
    padded: bool
    port: Port

    def elements(self, shape: tuple[int, ...]) -> int:
        """Elements that a tensor takes in memory."""
        return d32_elements(shape) if self.padded else prod(shape)


CPU = Lanes(CPU_RUN, False, Port.FIRST)
DSP = Lanes(DSP_RUN, True, Port.VECTOR)


def pass_over(
    name: str, lanes: Lanes, elements: int, arrays: list[tuple[Array, int, bool]]
) -> Nest:
    """One pass over ``elements`` of several arrays: (array, bytes per element, whether it writes).

    The shortest elements set the pace: of INT32 beside INT8, four runs are touched at a time.
    """
    least = min(size for _, size, _ in arrays)
    count = min(lanes.run // least, elements)
    refs = tuple(
        Ref(array, {"i": size}, count * size, depth=1, store=store, port=lanes.port)
        for array, size, store in arrays
    )
    return Nest(name, (Axis((("i", elements),)),), (Loop(0, count),), refs)


def _tensor(arena: Arena, name: str, elements: int, size: int) -> Array:
    """An array with room for a last run that is touched whole."""
    return arena.array(name, elements * size + DSP_RUN * WORD)


def rescaling_nests(elements: int, lanes: Lanes, dynamic: bool) -> list[Nest]:
    """The results of a MAC kernel on their way to INT8: 1 byte per element, or 17.

    Parameters
    ----------
    elements
        Of the result, padding included.
    lanes
        The unit.
    dynamic
        Clear, write, scan and read INT32, then write INT8; else the fused store alone.
    """
    arena = Arena()
    narrow = _tensor(arena, "result", elements, 1)
    if not dynamic:
        return [pass_over("store", lanes, elements, [(narrow, 1, True)])]
    wide = _tensor(arena, "accumulators", elements, WORD)
    return [
        pass_over("clear", lanes, elements, [(wide, WORD, True)]),
        pass_over("store", lanes, elements, [(wide, WORD, True)]),
        pass_over("scan", lanes, elements, [(wide, WORD, False)]),
        pass_over("requantise", lanes, elements, [(wide, WORD, False), (narrow, 1, True)]),
    ]


def element_sizes(call: KernelCall) -> tuple[int, int]:
    """Bytes per element that a kernel without MACs reads and writes."""
    match call.op.kind:
        case "rescale_scan" | "requantise":
            return WORD, 1
        case "quantise":
            return ITEM_BYTES["fp32"], 1
        case "dequantise":
            return 1, ITEM_BYTES["fp32"]
        case _:
            return ITEM_BYTES[call.dtype], ITEM_BYTES[call.dtype]


def elementwise_nests(call: KernelCall, lanes: Lanes) -> list[Nest]:
    """Passes over whole tensors; much smaller operands are touched in passes of their own.

    Finding a range (``quantise``) and the statistics of batch norm are passes over the same input.
    """
    op, role, arena = call.op, call.role, Arena()
    read, written = element_sizes(call)
    scale = lanes.elements(op.inputs[0]) / prod(op.inputs[0])
    whole = ceil(max(prod(op.inputs[0]), prod(op.output)) * scale)
    work = op.work(role)
    nests, streams = [], []
    for i, elements in enumerate(ceil(count * scale) for count in work.reads):
        array = _tensor(arena, f"operand {i}", max(elements, whole), read)
        if 2 * elements > whole:
            streams.append((array, read, False))
        else:
            nests.append(pass_over("read", lanes, elements, [(array, read, False)]))
    if op.kind == "quantise" or (op.kind == "batch_norm" and role is Role.FORWARD):
        nests.append(pass_over("statistics", lanes, whole, streams))
    copies, rest = divmod(ceil(work.writes * scale), whole)  # two where a mask is saved
    for i in range(copies):
        streams.append((_tensor(arena, f"result {i}", whole, written), written, True))
    if streams:
        nests.append(pass_over("work", lanes, whole, streams))
    if rest:
        result = _tensor(arena, "result", rest, written)
        nests.append(pass_over("write", lanes, rest, [(result, written, True)]))
    return nests


def scan_nests(call: KernelCall, lanes: Lanes) -> list[Nest]:
    """``max |x|`` over INT32; on the DSP, the next kernel's accumulators are cleared as well."""
    elements, arena = lanes.elements(call.op.inputs[0]), Arena()
    seen = _tensor(arena, "accumulators", elements, WORD)
    nests = [pass_over("scan", lanes, elements, [(seen, WORD, False)])]
    if lanes.padded:
        clean = _tensor(arena, "cleared", elements, WORD)
        nests.append(pass_over("clear", lanes, elements, [(clean, WORD, True)]))
    return nests


def update_nests(call: KernelCall, lanes: Lanes) -> list[Nest]:
    """``w <- w - rate * g`` in place."""
    arena, size, params = Arena(), ITEM_BYTES[call.dtype], call.op.params
    weights, gradients = (_tensor(arena, name, params, size) for name in ("weights", "gradients"))
    streams = [(weights, size, False), (gradients, size, False), (weights, size, True)]
    return [pass_over("update", lanes, params, streams)]


def transpose_nests(call: KernelCall) -> list[Nest]:
    """Element by element in the order of the output, which is written in one line."""
    op, size, arena = call.op, ITEM_BYTES[call.dtype], Arena()
    shape = op.inputs[0]
    perm = op.perm if isinstance(op, LayoutTranspose) else tuple(range(len(shape)))
    inner = [size * step for step in accumulate((*reversed(shape[1:]),), lambda a, b: a * b,
                                                initial=1)][::-1]  # fmt: skip
    source = arena.array("source", prod(shape) * size)
    result = arena.array("result", prod(shape) * size)
    turned = op.kind == "rotate180"
    read, offset = {}, 0
    for axis in perm:
        flip = turned and axis >= 2
        read[f"axis {axis}"] = -inner[axis] if flip else inner[axis]
        offset += (shape[axis] - 1) * inner[axis] if flip else 0
    axes = tuple(Axis(((f"axis {axis}", shape[axis]),)) for axis in perm)
    write, step = {}, size
    for axis in reversed(perm):
        write[f"axis {axis}"] = step
        step *= shape[axis]
    refs = (
        Ref(source, read, size, len(axes), offset=offset),
        Ref(result, write, size, len(axes), store=True),
    )
    return [Nest(op.kind, axes, tuple(Loop(i) for i in range(len(axes))), refs)]
