"""The INT8 convolution equals its oracle on every back-end, integer for integer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from conv_cases import assert_stored, cases, draw_store, extremes, tensors

from kernels.arrays import ArrayError
from kernels.conv import Conv2d
from kernels.gemm import MAX_K, GemmError, available_backends
from kernels.gemm.tiles import tile_kind
from kernels.int8 import conv_oracle
from kernels.int8.conv import conv_forward, conv_input_grad, conv_weight_grad
from kernels.int8.stored import Store, StoreError
from kernels.rounding import Rounding
from sim.zoo import load_model

CASES, ACCEPT_CASES = 240, 10_000
BACKENDS = available_backends()


def check_forward(backend: str, count: int, seed: int) -> int:
    compared = 0
    for rng, case in cases(seed, count):
        store, threads = draw_store(rng), int(rng.integers(1, 4))
        acc, bias = case.forward, None
        if rng.integers(2):
            bias = rng.integers(-(2**20), 2**20, case.op.c_out).astype(np.int32)
            acc = acc + bias
        got = conv_forward(
            case.x, case.w, case.op, bias=bias, store=store, backend=backend, threads=threads
        )
        assert_stored(got, acc, store, (backend, case.op, store, threads))
        compared += 1
    return compared


def check_input_grad(backend: str, count: int, seed: int) -> int:
    compared = 0
    for rng, case in cases(seed, count):
        store, threads = draw_store(rng), int(rng.integers(1, 4))
        got = conv_input_grad(
            case.e, case.w, case.op, store=store, backend=backend, threads=threads
        )
        assert_stored(got, case.input_grad, store, (backend, case.op, store, threads))
        compared += 1
    return compared


def check_weight_grad(backend: str, count: int, seed: int) -> int:
    compared = 0
    for rng, case in cases(seed, count):
        threads, wide = int(rng.integers(1, 4)), bool(rng.integers(2))
        acc, into = case.weight_grad, None
        if rng.integers(2):
            before = rng.integers(-(2**20), 2**20, acc.shape)
            into = before.astype(np.int64 if wide else np.int32)
            acc = acc + before
        got = conv_weight_grad(
            case.x, case.e, case.op, into=into, wide=wide, backend=backend, threads=threads
        )
        note = (backend, case.op, threads, wide, into is None)
        assert got.values.dtype == (np.int64 if wide else np.int32), note
        assert into is None or got.values is into, note
        assert_stored(got, acc, None, note)
        compared += 1
    return compared


CHECKS = {
    "forward": check_forward,
    "input_grad": check_input_grad,
    "weight_grad": check_weight_grad,
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("role", CHECKS)
def test_every_backend_equals_the_oracle(role: str, backend: str) -> None:
    CHECKS[role](backend, CASES, seed=31)


def accept_counts(cases: int = ACCEPT_CASES) -> dict[str, int]:
    """Drawn cases that equal the oracle, by role and back-end; raises at one that does not."""
    counts = {}
    for role, check in CHECKS.items():
        for backend in BACKENDS:
            counts[f"conv {role} {backend}"] = check(backend, cases, seed=32)
    return counts


@pytest.mark.accept
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("role", CHECKS)
def test_every_backend_equals_the_oracle_on_ten_thousand_cases(
    role: str, backend: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("cases", CHECKS[role](backend, ACCEPT_CASES, seed=32))


def layers(model: str, batch: int) -> list[Conv2d]:
    """Each different convolution of a model of the zoo once."""
    ops = (layer.op for layer in load_model(model, batch).layers)
    return list(dict.fromkeys(op for op in ops if isinstance(op, Conv2d)))


def check_layer(op: Conv2d, rng: np.random.Generator) -> None:
    """All back-ends on one layer; ``reference``, which is int64 NumPy, would take minutes."""
    case, store = tensors(rng, op), Store(11)
    for backend in BACKENDS[:-1]:
        note = (backend, op)
        got = conv_forward(case.x, case.w, op, store=store, backend=backend)
        assert_stored(got, case.forward, store, note)
        got = conv_input_grad(case.e, case.w, op, store=store, backend=backend)
        assert_stored(got, case.input_grad, store, note)
        got = conv_weight_grad(case.x, case.e, op, backend=backend)
        assert_stored(got, case.weight_grad, None, note)


def test_layers_of_a_small_network() -> None:
    rng = np.random.default_rng(12)
    for op in layers("vgg11", 2):
        check_layer(op, rng)


@pytest.mark.accept
@pytest.mark.parametrize(("model", "batch"), [("vgg11", 64), ("resnet18", 8), ("mobilenet-v2", 1)])
def test_every_layer_of_three_networks(
    model: str, batch: int, record_property: Callable[[str, object], None]
) -> None:
    rng, compared = np.random.default_rng(13), 0
    for op in layers(model, batch):
        check_layer(op, rng)
        compared += 1
    record_property("cases", compared)


def test_oracle_is_the_sum_of_products() -> None:
    rng = np.random.default_rng(1)
    op = Conv2d(
        n=2, c_in=4, h=4, w=5, c_out=6, k=(3, 2), stride=2, pad=(1, 2), dilation=2, groups=2
    )
    case = tensors(rng, op)
    y = np.zeros((2, op.h_out, op.w_out, 6), np.int64)
    dx, dw = np.zeros(case.x.shape, np.int64), np.zeros(case.w.shape, np.int64)
    for n, i, j, o, a, b, c in np.ndindex(*y.shape, 3, 2, 2):
        row, column = 2 * i + 2 * a - 1, 2 * j + 2 * b - 2
        if 0 <= row < 4 and 0 <= column < 5:
            at = (n, row, column, c + 2 * (o // 3))
            y[n, i, j, o] += int(case.x[at]) * int(case.w[o, a, b, c])
            dx[at] += int(case.e[n, i, j, o]) * int(case.w[o, a, b, c])
            dw[o, a, b, c] += int(case.e[n, i, j, o]) * int(case.x[at])
    for number in (np.int64, np.float64):
        assert np.array_equal(conv_oracle.conv_forward(case.x, case.w, op, number), y)
        assert np.array_equal(conv_oracle.conv_input_grad(case.e, case.w, op, number), dx)
        assert np.array_equal(conv_oracle.conv_weight_grad(case.x, case.e, op, number), dw)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pieces", [1, 2, 3, 5, 7, 16, 63, 64])
def test_a_split_batch_of_64_gives_the_gradient_of_the_whole(backend: str, pieces: int) -> None:
    rng = np.random.default_rng(pieces)
    op = Conv2d(n=64, c_in=5, h=4, w=3, c_out=7, k=3, pad=1)
    case = tensors(rng, op)
    cuts = [0, *sorted(rng.choice(np.arange(1, 64), pieces - 1, replace=False).tolist()), 64]
    into = np.zeros(case.w.shape, np.int32)
    for first, last in pairwise(cuts):
        part = op.with_batch(last - first)
        conv_weight_grad(case.x[first:last], case.e[first:last], part, into=into, backend=backend)
    whole = conv_weight_grad(case.x, case.e, op, backend=backend)
    assert np.array_equal(into, whole.values)
    assert np.array_equal(into, case.weight_grad)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", [r for r in Rounding if r is not Rounding.STOCHASTIC])
def test_every_rule_at_every_shift(backend: str, rule: Rounding) -> None:
    rng = np.random.default_rng(8)
    case = tensors(rng, Conv2d(n=3, c_in=9, h=5, w=7, c_out=70, k=3, pad=1))
    for shift in range(-31, 32):
        store = Store(shift, rule, (-128, 127) if shift % 2 else (-127, 127))
        got = conv_forward(case.x, case.w, case.op, store=store, backend=backend)
        assert_stored(got, case.forward, store, (backend, store))


@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_over_more_positions_than_int32_holds(backend: str) -> None:
    rng = np.random.default_rng(9)
    op = Conv2d(n=2, c_in=1, h=363, w=363, c_out=2, k=1)
    x = np.full((2, 363, 363, 1), -128, np.int8)
    e = np.full((2, 363, 363, 2), -128, np.int8)
    got = conv_weight_grad(x, e, op, backend=backend)
    assert got.values.dtype == np.int64
    assert got.values.reshape(-1).tolist() == [2 * 363 * 363 << 14] * 2
    assert got.amax == 2 * 363 * 363 << 14
    one = extremes(rng, (2, 363, 363, 1))
    want = conv_oracle.conv_weight_grad(one, e, op, np.float64)
    assert np.array_equal(conv_weight_grad(one, e, op, into=want.copy()).values, 2 * want)
    with pytest.raises(GemmError, match="weight_grad sums 263538 products"):
        conv_weight_grad(x, e, op, wide=False, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_int32_accumulator_never_wraps_silently(backend: str) -> None:
    op = Conv2d(n=1, c_in=1, h=1, w=1, c_out=1, k=1)
    low = np.full((1, 1, 1, 1), -128, np.int8)
    full = np.full((1, 1, 1, 1), 2**31 - 1 - 2**14, np.int32)
    assert conv_weight_grad(low, low, op, into=full, backend=backend).amax == 2**31 - 1
    with pytest.raises(GemmError, match="accumulate into int64"):
        conv_weight_grad(low, low, op, into=full, backend=backend)
    under = np.full((1, 1, 1, 1), -(2**31) + 127 * 128, np.int32)
    high = np.full((1, 1, 1, 1), 127, np.int8)
    assert conv_weight_grad(low, high, op, into=under, backend=backend).amax == 2**31
    with pytest.raises(GemmError, match="accumulate into int64"):
        conv_weight_grad(low, high, op, into=under, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_out_is_filled_and_inputs_are_left_alone(backend: str) -> None:
    rng = np.random.default_rng(10)
    case = tensors(rng, Conv2d(n=3, c_in=6, h=5, w=4, c_out=11, k=3, pad=1, stride=2))
    before = case.x.copy(), case.w.copy(), case.e.copy()
    for store, dtype in ((None, np.int32), (Store(8), np.int8)):
        around = np.full((5, 5, 4, 6), 77, dtype)
        got = conv_input_grad(
            case.e, case.w, case.op, store=store, out=around[1:-1], backend=backend
        )
        assert np.shares_memory(got.values, around)
        assert_stored(got, case.input_grad, store, backend)
        assert (around[[0, -1]] == 77).all()
        around = np.full((5, 3, 2, 11), 77, dtype)
        got = conv_forward(case.x, case.w, case.op, store=store, out=around[1:-1], backend=backend)
        assert_stored(got, case.forward, store, backend)
        assert (around[[0, -1]] == 77).all()
    for array, was in zip((case.x, case.w, case.e), before, strict=True):
        assert np.array_equal(array, was)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_is_written_over_out(backend: str) -> None:
    rng = np.random.default_rng(11)
    for op in (
        Conv2d(n=5, c_in=33, h=5, w=4, c_out=70, k=3, pad=1),
        Conv2d(n=5, c_in=18, h=5, w=4, c_out=36, k=3, pad=1, groups=18),
    ):
        case = tensors(rng, op)
        for dtype in (np.int32, np.int64):
            out = np.full(case.w.shape, 77, dtype)
            got = conv_weight_grad(case.x, case.e, op, out=out, backend=backend)
            assert got.values is out
            assert_stored(got, case.weight_grad, None, (backend, op))


OP = Conv2d(n=2, c_in=3, h=4, w=4, c_out=5, k=3)
X, W, E = (np.zeros(s, np.int8) for s in ((2, 4, 4, 3), (5, 3, 3, 3), (2, 2, 2, 5)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": X.astype(np.int32)}, "x is int32; allowed: an array of int8"),
        ({"x": X[:1]}, r"x has shape \(1, 4, 4, 3\); allowed: \(2, 4, 4, 3\)"),
        ({"x": X.transpose(0, 2, 1, 3)}, "x is not C-contiguous"),
        ({"w": W.astype(np.uint8)}, "w is uint8"),
        ({"w": W.reshape(5, 3, 9, 1)}, "w has shape"),
        ({"bias": np.zeros(4, np.int32)}, r"bias has shape \(4,\); allowed: \(5,\)"),
        ({"bias": np.zeros(5)}, "bias is float64"),
        ({"bias": np.full(5, 2**31 - 27 * 2**14, np.int32)}, "bias reaches 2147041280"),
        ({"bias": np.full(5, -(2**31), np.int32)}, "bias reaches 2147483648"),
        ({"out": np.empty((2, 2, 2, 5), np.int8)}, "out is int8; allowed: an array of int32"),
        ({"out": np.empty((2, 2, 2, 5), np.int32), "store": Store(3)}, "out is int32"),
        ({"out": np.empty((2, 2, 5), np.int32)}, "out has shape"),
        ({"backend": "none"}, "backend is 'none'"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises((ArrayError, GemmError), match=words):
        conv_forward(**({"x": X, "w": W, "op": OP} | arguments))


def test_bad_gradients_are_refused() -> None:
    with pytest.raises(ArrayError, match="e has shape"):
        conv_input_grad(X, W, OP)
    with pytest.raises(ArrayError, match="into is float32; allowed: an array of int32 or int64"):
        conv_weight_grad(X, E, OP, into=W.astype(np.float32))
    with pytest.raises(ArrayError, match="wide is True, but into is int32"):
        conv_weight_grad(X, E, OP, into=W.astype(np.int32), wide=True)
    with pytest.raises(ArrayError, match="into and out were both given"):
        conv_weight_grad(X, E, OP, into=W.astype(np.int32), out=W.astype(np.int32))
    with pytest.raises(ArrayError, match="out is int8"):
        conv_weight_grad(X, E, OP, out=W.copy())
    frozen = W.astype(np.int32)
    frozen.flags.writeable = False
    with pytest.raises(ArrayError, match="into is read-only"):
        conv_weight_grad(X, E, OP, into=frozen)
    small = Conv2d(n=2, c_in=5, h=2, w=2, c_out=5, k=1)
    square = np.zeros((5, 1, 1, 5), np.int8)
    with pytest.raises(ArrayError, match="out shares memory"):
        conv_input_grad(E, square, small, out=E, store=Store(1))


def test_sums_too_long_for_int32_are_refused() -> None:
    op = Conv2d(n=1, c_in=MAX_K + 1, h=1, w=1, c_out=1, k=1)
    x, w = np.zeros((1, 1, 1, MAX_K + 1), np.int8), np.zeros((1, 1, 1, MAX_K + 1), np.int8)
    with pytest.raises(GemmError, match="forward sums 131072 products"):
        conv_forward(x, w, op)
    op = Conv2d(n=1, c_in=1, h=1, w=1, c_out=MAX_K + 1, k=1)
    with pytest.raises(GemmError, match="input_grad sums 131072 products"):
        conv_input_grad(x, w.reshape(-1, 1, 1, 1), op)


def test_a_backend_without_a_register_tile_is_named() -> None:
    with pytest.raises(GemmError, match="backend 'blas' has no register tile; allowed: vnni"):
        tile_kind("blas")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"shift": 32}, "shift is 32"),
        ({"shift": -32}, "shift is -32"),
        ({"shift": True}, "shift is True"),
        ({"shift": 3.0}, "shift is 3.0"),
        ({"shift": 3, "rounding": Rounding.STOCHASTIC}, "stochastic"),
        ({"shift": 3, "rounding": "trunc"}, "rounding is 'trunc'"),
        ({"shift": 3, "clip": (-129, 127)}, "clip is"),
        ({"shift": 3, "clip": (0, 127)}, "clip is"),
    ],
)
def test_bad_stores_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(StoreError, match=words):
        Store(**fields)
