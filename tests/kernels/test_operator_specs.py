"""Operator specs: counts against loops written out, shapes against the textbook, and refusals."""

from __future__ import annotations

import itertools
from dataclasses import FrozenInstanceError
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.conv import Conv2d
from kernels.layout import Concat, Flatten, LayoutTranspose, Split, WeightRotate180
from kernels.linear import Linear
from kernels.loss import SoftmaxCrossEntropy
from kernels.norm import BatchNorm2d
from kernels.operators import Operand, Operator, OperatorError, Role
from kernels.pointwise import Add, Dropout, Relu, Relu6
from kernels.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from kernels.precision import Dequantise, Quantise, Requantise, RescaleScan
from kernels.update import SgdUpdate

MAC_ROLES = (Role.FORWARD, Role.INPUT_GRAD, Role.WEIGHT_GRAD)

SAMPLES: tuple[Operator, ...] = (
    Conv2d(2, 4, 9, 7, 6, (1, 3), stride=2, pad=(0, 1), groups=2, bias=True),
    Linear(3, 5, 7, bias=True),
    MaxPool2d(2, 3, 7, 7, 3, 2, pad=1, ceil_mode=True),
    AvgPool2d(2, 3, 8, 8, (2, 4), 2),
    GlobalAvgPool(2, 3, 5, 5),
    Relu((2, 3, 4)),
    Relu6((2, 3)),
    Dropout((2, 9)),
    BatchNorm2d(2, 3, 4, 4),
    Add((2, 3, 4, 4), terms=3),
    Concat((2, 7, 3, 3), parts=(3, 4)),
    Split((2, 7, 3, 3), parts=(3, 4)),
    Flatten((2, 3, 4, 4)),
    SoftmaxCrossEntropy(2, 10),
    Quantise((2, 5)),
    Dequantise((2, 5)),
    Requantise((2, 5)),
    RescaleScan((2, 5)),
    LayoutTranspose((2, 3, 4, 5), perm=(0, 2, 3, 1)),
    WeightRotate180((6, 2, 3, 3)),
    SgdUpdate(12),
)

KINDS = [
    "conv2d",
    "linear",
    "max_pool",
    "avg_pool",
    "global_avg_pool",
    "relu",
    "relu6",
    "dropout",
    "batch_norm",
    "add",
    "concat",
    "split",
    "flatten",
    "softmax_cross_entropy",
    "quantise",
    "dequantise",
    "requantise",
    "rescale_scan",
    "transpose",
    "rotate180",
    "sgd_update",
]


def test_samples_are_all_the_kinds() -> None:
    assert [op.kind for op in SAMPLES] == KINDS


def has_role(op: Operator, role: Role) -> bool:
    try:
        op.work(role)
    except OperatorError:
        return False
    return True


def roles_of(op: Operator) -> list[Role]:
    return [role for role in Role if has_role(op, role)]


@pytest.mark.parametrize("op", SAMPLES, ids=KINDS)
def test_roles(op: Operator) -> None:
    """Weights mean dW and an update; what lowering puts in has one role; the rest has dX."""
    put_in = ("quantise", "dequantise", "requantise", "rescale_scan")
    if op.kind in (*put_in, "transpose", "rotate180"):
        expected = [Role.FORWARD]
    elif op.kind == "sgd_update":
        expected = [Role.UPDATE]
    else:
        expected = list(Role) if op.weights else [Role.FORWARD, Role.INPUT_GRAD]
    assert roles_of(op) == expected
    for role in set(Role) - set(expected):
        with pytest.raises(OperatorError, match=f"{op.kind}: role '{role}' does not exist"):
            op.work(role)


@pytest.mark.parametrize("op", SAMPLES, ids=KINDS)
def test_reads_are_the_operands(op: Operator) -> None:
    """Each operand has one count in ``reads``, of the size that its shape says."""
    for role in roles_of(op):
        sizes = {
            Operand.INPUT: [prod(shape) for shape in op.inputs],
            Operand.OUTPUT: [prod(op.output)],
            Operand.GRAD_OUTPUT: [prod(op.output)],
            Operand.WEIGHT: [prod(shape) for shape in op.weights[:1]],
            Operand.WEIGHTS: [prod(shape) for shape in op.weights],
            Operand.WEIGHT_GRADS: [prod(shape) for shape in op.weights],
            Operand.SAVED: [prod(shape) for _, shape in op.saved],
        }
        expected = [size for operand in op.operands(role) for size in sizes[operand]]
        work = op.work(role)
        assert list(work.reads) == expected
        assert work.elements == sum(expected) + work.writes


@pytest.mark.parametrize("op", SAMPLES, ids=KINDS)
def test_flags_say_what_the_operands_say(op: Operator) -> None:
    roles = [role for role in roles_of(op) if role in (Role.INPUT_GRAD, Role.WEIGHT_GRAD)]
    if op.grad_is_view or isinstance(op, Split):
        return
    read = {operand for role in roles for operand in op.operands(role)}
    assert op.backward_needs_input == (Operand.INPUT in read)
    assert op.backward_needs_output == (Operand.OUTPUT in read)


@pytest.mark.parametrize("op", SAMPLES, ids=KINDS)
def test_with_batch_scales_work_and_keeps_weights(op: Operator) -> None:
    wide = op.with_batch(op.batch * 3)
    assert wide.weights == op.weights
    assert wide.with_batch(op.batch) == op
    for role in roles_of(op):
        factor = 1 if role is Role.UPDATE or op.batch == 1 else 3
        assert wide.work(role).macs == factor * op.work(role).macs
        if op.kind != "sgd_update" and role is Role.FORWARD:
            assert wide.work(role).alu_ops == factor * op.work(role).alu_ops


@pytest.mark.parametrize("op", SAMPLES, ids=KINDS)
def test_specs_are_frozen_and_hashable(op: Operator) -> None:
    assert hash(op) == hash(op.with_batch(op.batch))
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        op.kind = "other"  # type: ignore[misc]


conv_specs = st.builds(
    lambda n, groups, ci, co, h, w, k, stride, pad, dilation, bias: Conv2d(
        n, groups * ci, h, w, groups * co, k, stride, pad, dilation, groups, bias
    ),
    n=st.integers(1, 3),
    groups=st.integers(1, 3),
    ci=st.integers(1, 2),
    co=st.integers(1, 2),
    h=st.integers(5, 7),
    w=st.integers(5, 7),
    k=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    pad=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
)


def positions(size: int, k: int, stride: int, pad: int, dilation: int) -> int:
    """Window positions counted one by one."""
    last = size + 2 * pad - (dilation * (k - 1) + 1)
    return sum(1 for start in range(0, size + 2 * pad, stride) if start <= last)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(conv_specs)
def test_conv_counts_equal_the_written_out_loops(conv: Conv2d) -> None:
    rows = positions(conv.h, conv.k_h, conv.stride, conv.pad_h, conv.dilation)
    columns = positions(conv.w, conv.k_w, conv.stride, conv.pad_w, conv.dilation)
    assert conv.output == (conv.n, conv.c_out, rows, columns)
    per_group = conv.c_in // conv.groups
    macs = sum(
        per_group * conv.k_h * conv.k_w
        for _ in itertools.product(range(conv.n), range(conv.c_out), range(rows), range(columns))
    )
    for role in MAC_ROLES:
        assert conv.work(role).macs == macs
        assert prod(extent for _, extent in conv.loop_nest(role)) == macs
    assert conv.params == conv.c_out * (per_group * conv.k_h * conv.k_w + conv.bias)


@pytest.mark.parametrize("op", [SAMPLES[0], SAMPLES[1]], ids=["conv2d", "linear"])
def test_loop_nests_write_outer_and_reduce_inner(op: Operator) -> None:
    """The axes before the reduced ones span exactly what the role writes (bias apart)."""
    conv = isinstance(op, Conv2d)
    reduced = {
        Role.FORWARD: {"c_in", "k_h", "k_w"} if conv else {"c_in"},
        Role.WEIGHT_GRAD: {"n", "h_out", "w_out"} if conv else {"n"},
    }
    written = {Role.FORWARD: prod(op.output), Role.WEIGHT_GRAD: prod(op.weights[0])}
    for role, inner in reduced.items():
        nest = op.loop_nest(role)
        assert {axis for axis, _ in nest[-len(inner) :]} == inner
        assert prod(extent for axis, extent in nest if axis not in inner) == written[role]
    with pytest.raises(OperatorError, match="update"):
        SoftmaxCrossEntropy(1, 2).loop_nest(Role.UPDATE)
    assert Relu((1, 2)).loop_nest(Role.FORWARD) == ()


def test_depthwise_is_a_group_per_channel() -> None:
    assert Conv2d(1, 8, 4, 4, 16, 3, pad=1, groups=8).depthwise
    assert not Conv2d(1, 8, 4, 4, 16, 3, pad=1, groups=4).depthwise
    assert not Conv2d(1, 1, 4, 4, 16, 3, pad=1).depthwise


@pytest.mark.parametrize("role", [Role.FORWARD, Role.INPUT_GRAD, Role.WEIGHT_GRAD])
def test_a_linear_layer_is_a_convolution_of_one_place(role: Role) -> None:
    op = Linear(3, 5, 7)
    conv = op.as_conv()
    assert (conv.inputs, conv.output, conv.weights) == (
        ((3, 5, 1, 1),), (3, 7, 1, 1), ((7, 5, 1, 1),),
    )  # fmt: skip
    assert conv.work(role).macs == op.work(role).macs == 105


def test_one_kernel_size_is_the_same_as_a_pair() -> None:
    assert Conv2d(1, 2, 4, 4, 2, 3, pad=1) == Conv2d(1, 2, 4, 4, 2, (3, 3), pad=(1, 1))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    size=st.integers(1, 12),
    k=st.integers(1, 4),
    stride=st.integers(1, 4),
    pad=st.integers(0, 2),
    ceil=st.booleans(),
)
def test_pool_sizes_follow_torch(size: int, k: int, stride: int, pad: int, ceil: bool) -> None:
    """Windows counted one by one: ceil mode keeps one that starts in input or left padding."""
    if 2 * pad > k or k > size + 2 * pad:
        return
    padded = size + 2 * pad
    full = [start for start in range(0, padded, stride) if start + k <= padded]
    leftover = full[-1] + k < padded
    count = len(full) + (ceil and leftover and full[-1] + stride < size + pad)
    assert MaxPool2d(1, 1, size, size, k, stride, pad, ceil).output == (1, 1, count, count)


def test_published_pool_sizes() -> None:
    """GoogLeNet's maps 112-56-28-14-7 (torchvision/models/googlenet.py, ceil mode)."""
    for size in (112, 56, 28):
        assert MaxPool2d(1, 1, size, size, 3, 2, ceil_mode=True).output[2] == size // 2
    assert MaxPool2d(1, 1, 55, 55, 3, 2).output[2] == 27  # AlexNet


BAD = [
    (lambda: Conv2d(0, 3, 8, 8, 4, 3), "n = 0"),
    (lambda: Conv2d(1, 3, 8, 8, 4, 0), "k_h = 0"),
    (lambda: Conv2d(1, 3, 8, 8, 4, (3, 3, 3)), "k = "),  # type: ignore[arg-type]
    (lambda: Conv2d(1, 3, 8, 8, 4, 3, pad=-1), "pad_h = -1"),
    (lambda: Conv2d(1, 3, 8, 8, 4, 3, groups=2), "groups = 2 does not divide c_in = 3"),
    (lambda: Conv2d(1, 4, 8, 8, 3, 3, groups=2), "groups = 2 does not divide c_out = 3"),
    (lambda: Conv2d(1, 3, 2, 8, 4, 5), "h = 2 with k_h = 5"),
    (lambda: Conv2d(1, 3, 8, 8, 4, 3, bias=1), "bias = 1"),  # type: ignore[arg-type]
    (lambda: Conv2d(True, 3, 8, 8, 4, 3), "n = True"),
    (lambda: Linear(1, 2.0, 3), "c_in = 2.0"),  # type: ignore[arg-type]
    (lambda: MaxPool2d(1, 1, 4, 4, 2, 2, pad=2), "pad_h = 2; allowed: at most half"),
    (lambda: AvgPool2d(1, 1, 2, 2, 3, 1), "h = 2 with k_h = 3"),
    (lambda: Relu(()), "shape = ()"),
    (lambda: Relu((2, 0)), r"shape[1] = 0"),
    (lambda: Add((2, 3), terms=1), "terms = 1"),
    (lambda: Concat((1, 5), parts=(2, 2)), "parts = (2, 2)"),
    (lambda: Concat((5,), parts=(5,)), "parts = (5,)"),
    (lambda: LayoutTranspose((1, 2), perm=(0, 0)), "perm = (0, 0)"),
    (lambda: WeightRotate180((3, 3)), "shape = (3, 3)"),
    (lambda: SgdUpdate(0), "params = 0"),
    (lambda: BatchNorm2d(1, 0, 2, 2), "c = 0"),
    (lambda: SoftmaxCrossEntropy(1, 0), "classes = 0"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_wrong_sizes_are_refused_by_name(make: object, message: str) -> None:
    with pytest.raises(OperatorError) as caught:
        make()  # type: ignore[operator]
    assert message in str(caught.value)


def test_batch_norm_costs_what_its_docstring_adds_up() -> None:
    op, size = BatchNorm2d(2, 3, 4, 5), 2 * 3 * 4 * 5
    assert [op.work(role).alu_ops for role in (Role.FORWARD, Role.WEIGHT_GRAD)] == [
        7 * size,
        4 * size,
    ]
    assert op.work(Role.FORWARD).writes == size + 6


def test_update_is_the_same_work_from_layer_and_kernel() -> None:
    conv = SAMPLES[0]
    assert conv.work(Role.UPDATE).alu_ops == SgdUpdate(conv.params).work(Role.UPDATE).alu_ops
    assert conv.work(Role.UPDATE).elements == SgdUpdate(conv.params).work(Role.UPDATE).elements
