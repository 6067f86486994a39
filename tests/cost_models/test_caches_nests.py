"""Traces of loop nests against a plain walk, and the nests of kernels against their specs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cache_cases import CPU_CACHES, DSP_CACHES
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.caches import CacheError, Hierarchy, Level, kernel_nests
from cost_models.caches.analytic import visits
from cost_models.caches.nest import Arena, Array, Axis, Loop, Nest, Port, Ref
from cost_models.caches.streams import CPU, DSP, rescaling_nests
from cost_models.caches.trace import plain_trace, trace
from cost_models.cost import KernelCall
from cost_models.dsp import padded_macs
from kernels.conv import Conv2d
from kernels.layout import Flatten, LayoutTranspose
from kernels.linear import Linear
from kernels.norm import BatchNorm2d
from kernels.operators import Operator, OperatorError, Role
from kernels.pointwise import Add, Relu
from kernels.update import SgdUpdate

CACHES = Hierarchy((Level("L1", 256, 2, 32), Level("L2", 512, 2, 32)), 64, vector_level=1)


def accesses(nests: list[Nest], caches: Hierarchy = CACHES) -> list[tuple[int, int, int]]:
    return [
        row
        for chunk in trace(nests, caches)
        for row in zip(*(part.tolist() for part in chunk), strict=True)
    ]


@st.composite
def nests(draw: st.DrawFn) -> Nest:
    """Any loops over up to three axes of up to three parts, with any references inside."""
    axes = []
    for a in range(draw(st.integers(1, 3))):
        sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
        axes.append(Axis(tuple((f"{a}.{i}", size) for i, size in enumerate(sizes))))
    loops, spans = [], [axis.size for axis in axes]
    for axis in draw(st.lists(st.integers(0, len(axes) - 1), max_size=5)):
        spans[axis] = draw(st.integers(1, spans[axis]))
        loops.append(Loop(axis, spans[axis]))
    arena, refs = Arena(), []
    for i in range(draw(st.integers(1, 4))):
        strides = {p: draw(st.integers(0, 90)) for axis in axes for p, _ in axis.parts}
        size = 8 + sum(4 * stride for stride in strides.values())
        spread = draw(st.none() | st.tuples(st.integers(0, len(axes) - 1), st.integers(1, 5)))
        refs.append(
            Ref(
                arena.array(f"x{i}", size),
                strides,
                draw(st.integers(1, 8)),
                draw(st.integers(0, len(loops))),
                store=draw(st.booleans()),
                after=draw(st.booleans()),
                port=draw(st.sampled_from(Port)),
                spread=spread,
            )
        )
    return Nest("drawn", tuple(axes), tuple(loops), tuple(refs))


@given(nests())
@settings(max_examples=150, deadline=None)
def test_trace_equals_the_plain_walk(nest: Nest) -> None:
    assert accesses([nest]) == list(plain_trace(nest, CACHES))


def test_a_long_trace_comes_in_chunks_of_bounded_size() -> None:
    nest = kernel_nests(KernelCall(Relu((64, 64, 32, 32)), Role.FORWARD, "fp32"), "cpu")
    sizes = [len(chunk.addresses) for chunk in trace(nest, CPU_CACHES[0])]
    assert sum(sizes) == 2 * 64 * 64 * 32 * 32 * 4 // 64
    assert len(sizes) > 1
    assert max(sizes) <= 1 << 17


@given(st.integers(1, 60), st.lists(st.integers(1, 60), max_size=3))
def test_visits_counts_what_loops_do(size: int, drawn: list[int]) -> None:
    steps, span = [], size
    for step in drawn:
        span = min(span, step)
        steps.append(span)

    def walk(first: int, end: int, left: list[int]) -> int:
        if not left:
            return 1
        places = range(first, end, left[0])
        return sum(walk(place, min(place + left[0], end), left[1:]) for place in places)

    assert visits(size, steps) == walk(0, size, steps)


def read_elements(nest: Nest, array: str, caches: Hierarchy) -> int:
    """Accesses to an array by loads."""
    (found,) = {ref.array.base for ref in nest.refs if ref.array.name == array}
    size = next(ref.array.size for ref in nest.refs if ref.array.name == array)
    return sum(
        found <= address < found + size and not code & 1 and code >> 1 < len(caches.levels)
        for address, _, code in plain_trace(nest, caches)
    )


@pytest.mark.parametrize("role", [Role.FORWARD, Role.INPUT_GRAD, Role.WEIGHT_GRAD])
@pytest.mark.parametrize(
    "op",
    [
        Conv2d(4, 8, 5, 5, 16, 3, pad=1),
        Conv2d(4, 8, 4, 4, 16, 3, pad=1, groups=2),
        Linear(8, 16, 32),
    ],
    ids=["conv", "grouped", "linear"],
)
def test_cpu_products_load_a_word_per_row_and_step_of_each_panel(op: Any, role: Role) -> None:
    nest = kernel_nests(KernelCall(op, role, "int8"), "cpu")[-1]
    columns = {Role.INPUT_GRAD: op.c_in}.get(role, op.c_out) // getattr(op, "groups", 1)
    panels = -(-columns // 16)
    words = read_elements(nest, "map", CPU_CACHES[0])
    assert words * 4 * columns == op.work(role).macs * panels


@pytest.mark.parametrize("op", [Conv2d(2, 40, 6, 6, 48, 3, pad=1), Conv2d(2, 3, 8, 8, 32, 3)])
def test_dsp_forward_executes_the_padded_macs_of_the_cost_model(op: Conv2d) -> None:
    call = KernelCall(op, Role.FORWARD, "int8", "fused")
    for scratchpad in (0, 1 << 20):
        (nest,) = kernel_nests(call, "dsp", scratchpad)
        words = read_elements(nest, "source", DSP_CACHES[0])
        assert words * 4 * 32 == padded_macs(op, Role.FORWARD)


def test_a_slice_that_fits_is_read_once_per_pass_from_memory() -> None:
    op = Conv2d(4, 32, 8, 8, 64, 3, pad=1)
    for held, times in ((True, 1), (False, 4 * 8 * 2)):  # tiles of 4 in 8 rows of 8, 4 samples
        call = KernelCall(op, Role.FORWARD, "int8", "fused")
        (nest,) = kernel_nests(call, "dsp", 1 << 20 if held else 0)
        vectors = read_elements(nest, "filter", DSP_CACHES[0])
        assert vectors * 128 == times * 3 * 3 * 32 * 64


def test_rescaling_moves_17_bytes_per_element_or_one() -> None:
    for dynamic, total in ((True, 17), (False, 1)):
        rows = accesses(rescaling_nests(1 << 12, DSP, dynamic), DSP_CACHES[0])
        assert sum(length for _, length, _ in rows) == total << 12
        rows = accesses(rescaling_nests(1 << 12, CPU, dynamic), CPU_CACHES[0])
        assert sum(length for _, length, _ in rows) == total << 12


@pytest.mark.parametrize(
    ("op", "role", "elements"),
    [
        (Relu((2, 64, 8, 8)), Role.INPUT_GRAD, 3),
        (Add((2, 64, 8, 8), terms=3), Role.FORWARD, 4),
        (BatchNorm2d(2, 64, 8, 8), Role.INPUT_GRAD, 3),
        (LayoutTranspose((2, 64, 8, 8), (0, 2, 3, 1)), Role.FORWARD, 2),
        (SgdUpdate(8192), Role.UPDATE, 3),
    ],
)
def test_streams_touch_what_the_spec_says(op: Operator, role: Role, elements: int) -> None:
    rows = accesses(kernel_nests(KernelCall(op, role, "fp32"), "cpu"), CPU_CACHES[0])
    size = 2 * 64 * 8 * 8 * 4
    assert elements * size <= sum(length for _, length, _ in rows) < elements * size * 1.1


def test_a_transpose_visits_each_element_once() -> None:
    op = LayoutTranspose((3, 4, 5), (2, 0, 1))
    (nest,) = kernel_nests(KernelCall(op, Role.FORWARD, "int8"), "cpu")
    rows = accesses([nest], CPU_CACHES[0])
    source = np.arange(60).reshape(3, 4, 5).transpose(2, 0, 1).ravel()
    assert [address for address, _, code in rows if not code & 1] == source.tolist()


def test_views_touch_nothing() -> None:
    assert kernel_nests(KernelCall(Flatten((2, 3, 4)), Role.FORWARD, "int8"), "cpu") == []


def test_kernels_that_do_not_exist_are_refused() -> None:
    relu = KernelCall(Relu((2, 8)), Role.FORWARD, "fp32")
    with pytest.raises(CacheError, match="unit = 'gpu'; allowed: cpu, dsp"):
        kernel_nests(relu, "gpu")  # type: ignore[arg-type]
    with pytest.raises(CacheError, match="no fp32 kernel for relu"):
        kernel_nests(relu, "dsp")
    with pytest.raises(OperatorError, match="role 'weight_grad' does not exist"):
        kernel_nests(relu._replace(role=Role.WEIGHT_GRAD), "cpu")


ROW = Axis((("i", 4),))
X = Array("x", 0, 16)


@pytest.mark.parametrize(
    ("loops", "ref", "words"),
    [
        ((Loop(1),), Ref(X, {}, 4, 0), ("axis 1", "0 to 0")),
        ((Loop(0, 5),), Ref(X, {}, 4, 0), ("step = 5", "up to 4")),
        ((Loop(0, 2), Loop(0, 3)), Ref(X, {}, 4, 0), ("step = 3", "up to 2")),
        ((Loop(0),), Ref(X, {}, 4, 2), ("depth = 2", "0 to 1")),
        ((Loop(0),), Ref(X, {"i": 8}, 4, 1), ("bytes 0 to 28", "0 to 16")),
        ((Loop(0),), Ref(X, {"i": -4}, 4, 1), ("bytes -12 to 4",)),
        ((Loop(0),), Ref(X, {"j": 4}, 4, 1), ("strides name 'j'", "allowed: i")),
        ((Loop(0),), Ref(X, {"i": 4}, 0, 1), ("length = 0", "1 or more")),
    ],
)
def test_nests_that_cannot_be(loops: tuple[Loop, ...], ref: Ref, words: tuple[str, ...]) -> None:
    with pytest.raises(CacheError) as error:
        Nest("n", (ROW,), loops, (ref,))
    assert all(word in str(error.value) for word in ("nest n", *words))


def test_arrays_and_axes_have_sizes_that_fit() -> None:
    with pytest.raises(CacheError, match=r"extent of h = 0; allowed: an integer of 1 or more"):
        Axis((("h", 0),))
    with pytest.raises(CacheError, match="array x: size = 0"):
        Arena().array("x", 0)
    with pytest.raises(CacheError, match="use a smaller batch"):
        Arena().array("x", 1 << 61)
