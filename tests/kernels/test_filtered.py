"""Filtered gradients: fast kernels against the written-out oracle, and the facts they claim."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from kernels import filtered_oracle as oracle
from kernels.arrays import ArrayError
from kernels.conv import Conv2d
from kernels.filtered import FilteredConv, largest_patch
from kernels.fp32 import filtered as fp32
from kernels.fp32.conv import conv_input_grad, conv_weight_grad
from kernels.int8 import filtered as int8
from kernels.int8.pool import AVERAGE_BITS
from kernels.operators import OperatorError, Role
from kernels.quantised import QTensor

CASES = 60


def drawn(seed: int, count: int = CASES) -> Iterator[tuple[np.random.Generator, FilteredConv]]:
    """Strides, dilations, groups, depthwise, kernels of any shape, maps that no patch divides."""
    rng = np.random.default_rng(seed)
    while count:
        groups = int(rng.choice([1, 1, 2, 3]))
        channels = [groups * int(rng.integers(1, 4)) for _ in range(2)]
        if rng.integers(4) == 0:
            groups = channels[1] = channels[0]
        try:
            conv = Conv2d(
                n=int(rng.integers(1, 4)),
                c_in=channels[0],
                h=int(rng.integers(3, 17)),
                w=int(rng.integers(3, 17)),
                c_out=channels[1],
                k=(int(rng.integers(1, 5)), int(rng.integers(1, 5))),
                stride=int(rng.choice([1, 1, 2, 3])),
                pad=(int(rng.integers(0, 4)), int(rng.integers(0, 4))),
                dilation=int(rng.choice([1, 1, 2, 4, 6])),
                groups=groups,
            )
        except OperatorError:
            continue
        if largest_patch(conv) >= 2:
            count -= 1
            yield rng, FilteredConv(conv, int(rng.integers(2, min(largest_patch(conv), 8) + 1)))


def arrays(
    rng: np.random.Generator, conv: Conv2d, integer: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, weights and error, float32 or full-range int8."""
    shapes = (
        (conv.n, conv.h, conv.w, conv.c_in),
        (conv.c_out, conv.k_h, conv.k_w, conv.c_in // conv.groups),
        (conv.n, conv.h_out, conv.w_out, conv.c_out),
    )
    if integer:
        x, w, e = (rng.integers(-128, 128, shape).astype(np.int8) for shape in shapes)
    else:
        x, w, e = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
    return x, w, e


def input_grad(spec: FilteredConv, e: np.ndarray, w: np.ndarray, threads: int) -> np.ndarray:
    """The passes of dX one after the other, as a plan runs them."""
    coarse = fp32.patch_mean(e, spec.error, threads=threads)
    weight = w if spec.taps is None else fp32.tap_sum(w, spec.taps)
    made = conv_input_grad(coarse, weight, spec.input_product, threads=threads)
    return fp32.patch_expand(made, spec.expand, threads=threads)


def weight_grad(spec: FilteredConv, x: np.ndarray, e: np.ndarray, threads: int) -> np.ndarray:
    """The passes of dW one after the other."""
    seen = fp32.patch_sum(x, spec.saved, threads=threads)
    coarse = fp32.patch_mean(e, spec.error, threads=threads)
    made = conv_weight_grad(seen, coarse, spec.weight_product, threads=threads)
    return made if spec.spread is None else fp32.tap_broadcast(made, spec.spread)


def test_gradients_in_fp32_come_near_the_oracle_with_the_same_bits_for_all_threads() -> None:
    whole_kernels = 0
    for rng, spec in drawn(1):
        x, w, e = arrays(rng, spec.conv)
        whole_kernels += spec.keeps_taps
        dx, dw = input_grad(spec, e, w, 1), weight_grad(spec, x, e, 1)
        want_dx = oracle.filtered_input_grad(e, w, spec.conv, spec.patch)
        want_dw = oracle.filtered_weight_grad(x, e, spec.conv, spec.patch)
        np.testing.assert_allclose(dx, want_dx, rtol=2e-5, atol=2e-5, err_msg=str(spec))
        np.testing.assert_allclose(dw, want_dw, rtol=2e-5, atol=2e-4, err_msg=str(spec))
        assert np.array_equal(dx, input_grad(spec, e, w, 3)), spec
        assert np.array_equal(dw, weight_grad(spec, x, e, 3)), spec
    assert whole_kernels >= 3


def test_sums_in_int8_are_exact() -> None:
    for rng, spec in drawn(2):
        x, w, _ = arrays(rng, spec.conv, integer=True)
        saved = int8.patch_sum(QTensor(x, -5), spec.saved, threads=2)
        assert saved.exponent == -5
        want = oracle.input_sums(x.astype(np.int64), spec.conv, spec.patch)
        assert np.array_equal(saved.mantissa, want), spec
        if spec.taps is not None:
            taps = int8.tap_sum(QTensor(w, 3), spec.taps)
            assert np.array_equal(taps.mantissa, w.astype(np.int64).sum((1, 2), keepdims=True))


def test_means_in_int8_are_sums_times_the_rounded_share() -> None:
    for rng, spec in drawn(3):
        _, _, e = arrays(rng, spec.conv, integer=True)
        mean = int8.patch_mean(QTensor(e, -5), spec.error, threads=2)
        sums, counts = oracle.error_sums(e.astype(np.int64), spec.conv, spec.patch)
        share = np.array([[round(2**AVERAGE_BITS / c) for c in line] for line in counts])
        assert np.array_equal(mean.mantissa, sums * share[..., None]), spec
        exact = sums / counts[..., None] * 2.0**-5
        assert mean.exponent == -5 - AVERAGE_BITS
        slack = np.abs(exact) * counts[..., None] * 2.0**-24 + 2.0**-40
        assert (np.abs(mean.dequantise() - exact) <= slack).all()


def test_copies_in_int8_keep_every_bit() -> None:
    for rng, spec in drawn(4, 30):
        shape = (spec.conv.n, spec.rows, spec.columns, spec.conv.c_in)
        coarse = rng.integers(-128, 128, shape).astype(np.int8)
        got = int8.patch_expand(QTensor(coarse, -9), spec.expand, threads=2)
        want = fp32.patch_expand(coarse.astype(np.float32), spec.expand)
        assert got.exponent == -9
        assert np.array_equal(got.mantissa, want)
        if spec.spread is not None:
            out, ins = spec.spread.shape[:2]
            one = rng.integers(-128, 128, (out, 1, 1, ins)).astype(np.int8)
            every = int8.tap_broadcast(QTensor(one, 2), spec.spread)
            assert (every.mantissa == one).all()
            assert every.mantissa.shape == (out, spec.conv.k_h, spec.conv.k_w, ins)


def test_a_constant_error_gives_the_exact_input_gradient_inside() -> None:
    rng = np.random.default_rng(5)
    conv = Conv2d(n=2, c_in=3, h=13, w=10, c_out=4, k=3, pad=1)
    _, w, _ = arrays(rng, conv)
    e = np.broadcast_to(rng.standard_normal(4, dtype=np.float32), (2, 13, 10, 4)).copy()
    exact = conv_input_grad(e, w, conv)
    for patch in (2, 3, 7):
        dx = input_grad(FilteredConv(conv, patch), e, w, 1)
        np.testing.assert_allclose(dx[:, 1:-1, 1:-1], exact[:, 1:-1, 1:-1], rtol=1e-5, atol=1e-5)
        assert not np.allclose(dx[:, 0], exact[:, 0], rtol=1e-3)


def test_with_a_dilation_of_whole_patches_the_input_gradient_of_patchy_errors_is_exact() -> None:
    rng = np.random.default_rng(7)
    conv = Conv2d(n=2, c_in=3, h=12, w=12, c_out=4, k=3, pad=4, dilation=4)
    _, w, _ = arrays(rng, conv)
    spec = FilteredConv(conv, 2)
    assert spec.keeps_taps
    coarse = rng.standard_normal((2, 6, 6, 4), dtype=np.float32)
    e = coarse.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(
        input_grad(spec, e, w, 1), conv_input_grad(e, w, conv), rtol=1e-5, atol=1e-5
    )


def test_a_stride_makes_both_gradients_larger_by_its_square() -> None:
    """As in the released code: the module says why. Constant tensors, away from the border."""
    conv = Conv2d(n=1, c_in=1, h=24, w=24, c_out=1, k=2, stride=2)
    x, w, e = (
        np.ones(shape, np.float32) for shape in ((1, 24, 24, 1), (1, 2, 2, 1), (1, 12, 12, 1))
    )
    spec = FilteredConv(conv, 4)
    dx, dw = input_grad(spec, e, w, 1), weight_grad(spec, x, e, 1)
    np.testing.assert_allclose(dx, 4 * conv_input_grad(e, w, conv))
    np.testing.assert_allclose(dw, 4 * conv_weight_grad(x, e, conv))


def test_a_patch_of_the_map_with_one_tap_is_a_product_of_whole_sums() -> None:
    rng = np.random.default_rng(6)
    conv = Conv2d(n=3, c_in=2, h=5, w=5, c_out=2, k=1)
    x, _, e = arrays(rng, conv)
    spec = FilteredConv(conv, 5)
    assert spec.taps is None
    assert spec.spread is None
    dw = weight_grad(spec, x, e, 1)[:, 0, 0]
    want = np.einsum("no,nc->oc", e.mean((1, 2)), x.sum((1, 2)))
    np.testing.assert_allclose(dw, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("patch", [0, 1, 8, True, 2.0])
def test_patches_that_do_not_fit_are_refused(patch: int) -> None:
    with pytest.raises(OperatorError, match=f"patch = {patch}"):
        FilteredConv(Conv2d(n=1, c_in=1, h=7, w=9, c_out=1, k=3, pad=1), patch)


def test_every_pass_has_its_one_role_and_counts_what_it_moves() -> None:
    conv = Conv2d(n=2, c_in=6, h=14, w=14, c_out=4, k=3, pad=1, groups=2, bias=True)
    spec = FilteredConv(conv, 4)
    passes = (spec.saved, spec.error, spec.expand, spec.taps, spec.spread, spec.bias)
    moved = {
        op.kind: (op.work(op.role).reads, op.work(op.role).writes)
        for op in passes
        if op is not None
    }
    coarse = 2 * 4 * 4
    assert moved == {
        "patch_sum": ((2 * 6 * 196,), 6 * coarse),
        "patch_mean": ((2 * 4 * 196,), 4 * coarse),
        "patch_expand": ((6 * coarse,), 2 * 6 * 196),
        "tap_sum": ((108,), 12),
        "tap_broadcast": ((12,), 108),
        "channel_sum": ((2 * 4 * 196,), 4),
    }
    for op in passes:
        assert op is not None
        for role in Role:
            if role is not op.role:
                with pytest.raises(OperatorError, match="does not exist"):
                    op.work(role)
    assert spec.saved.with_batch(5).output == (5, 6, 4, 4)
    assert spec.saved.batch == 2


def test_arrays_of_another_shape_are_refused() -> None:
    spec = FilteredConv(Conv2d(n=1, c_in=2, h=6, w=6, c_out=2, k=3, pad=1), 2)
    with pytest.raises(ArrayError, match="x has shape"):
        fp32.patch_sum(np.zeros((1, 6, 5, 2), np.float32), spec.saved)
    with pytest.raises(ArrayError, match="y is int8"):
        fp32.patch_expand(np.zeros((1, 3, 3, 2), np.int8), spec.expand)
    with pytest.raises(ArrayError, match="x has shape"):
        int8.patch_mean(QTensor(np.zeros((1, 3, 3, 2), np.int8), 0), spec.error)
