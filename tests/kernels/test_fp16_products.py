"""Matrix products in 16-bit floats against exact fractions, NumPy and ml_dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from fp16_cases import (
    ACCEPT,
    QUICK,
    any_rule,
    assert_bits,
    expected_product,
    run_cases,
    values,
)

from kernels.arrays import ArrayError
from kernels.fp16 import oracle
from kernels.fp16.formats import BF16, FP16, HalfFormat, round_to
from kernels.fp16.products import KERNELS, HalfRule, matmul, order_of

DTYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
counts = pytest.mark.parametrize(
    "count", [QUICK, pytest.param(ACCEPT, marks=pytest.mark.accept)], ids=["quick", "accept"]
)


def product_case(rng: np.random.Generator) -> None:
    rule, transposed = any_rule(rng), bool(rng.integers(2))
    n, k, m = (int(size) for size in rng.integers(1, 8, 3))
    a, b = values(rng, (2, n, k), rule.form), values(rng, (2, k, m), rule.form)
    got = matmul(a, b, rule, transposed=transposed)
    for group in range(2):
        wanted = expected_product(a[group], b[group], rule, transposed)
        assert_bits(got[group], wanted, rule.form)


@counts
def test_products_equal_the_oracle(count: int) -> None:
    run_cases(product_case, count)


def unfused_case(rng: np.random.Generator) -> None:
    """NumPy and ml_dtypes multiply, then add: the same bits as our unfused sums."""
    rule = HalfRule((FP16, BF16)[rng.integers(2)], "unrolled", fused=False)
    n, k, m = (int(size) for size in rng.integers(1, 9, 3))
    a, b = values(rng, (1, n, k), rule.form), values(rng, (1, k, m), rule.form)
    dtype = DTYPES[rule.form.name]
    total = np.zeros((n, m), dtype)
    for step in range(k):
        left, right = a[0, :, step].astype(dtype), b[0, step].astype(dtype)
        total = total + left[:, None] * right[None]
    assert_bits(matmul(a, b, rule)[0], total.astype(np.float64), rule.form)


@counts
def test_unfused_products_equal_numpy_and_ml_dtypes(count: int) -> None:
    run_cases(unfused_case, count)


@pytest.mark.parametrize(
    ("form", "a", "b", "c", "fused", "unfused"),
    [
        (FP16, 1 + 2**-10, 1 + 2**-10, -1 - 2**-9, 2**-20, 0.0),
        (BF16, 1.0 + 2**-7, 1.5, 2.0**-70, 1.5 + 2**-6, 1.5 + 2**-6),
        (BF16, 1.0 + 2**-4, 1.0 + 2**-4, 2.0**-70, 1 + 2**-3 + 2**-7, 1 + 2**-3),
        (BF16, 1.0 + 2**-4, 1.0 + 2**-4, -(2.0**-70), 1 + 2**-3, 1 + 2**-3),
    ],
)
def test_one_rounding_differs_from_two(
    form: HalfFormat, a: float, b: float, c: float, fused: float, unfused: float
) -> None:
    left, right = np.array([[[c, a]]], np.float32), np.array([[[1.0], [b]]], np.float32)
    for one_rounding, wanted in ((True, fused), (False, unfused)):
        rule = HalfRule(form, "naive", fused=one_rounding)
        assert matmul(left, right, rule)[0, 0, 0] == wanted
    assert oracle.multiply_add(a, b, c, form) == fused


def test_lanes_meet_at_the_end() -> None:
    a = np.array([[[2048.0, 1, 1, 1, 1]] * 16], np.float32)
    b = np.ones((1, 5, 4), np.float32)
    first = {k: float(matmul(a, b, HalfRule(kernel=k), transposed=True)[0, 0, 0]) for k in KERNELS}
    # along k every 1 is lost; in lanes 2048 meets 1 + 1
    assert first["naive"] == first["unrolled"] == 2048
    assert first["simd_4x8"] == 2050
    assert first["simd_2x4"] == 2052


def test_wide_kernels_fall_back_on_few_rows_or_columns() -> None:
    rule = HalfRule(kernel="simd_4x8", cores=8)
    assert order_of(rule, 16, 9, 6, True) == ("lanes", 4)
    assert order_of(rule, 15, 9, 7, True) == ("lanes_apart", 6)
    assert order_of(rule, 16, 9, 6, False) == ("sequential", 6)
    assert order_of(rule, 16, 1, 6, True) == ("product", 6)
    assert order_of(HalfRule(kernel="naive_m"), 16, 1, 6, True) == ("sequential", 6)


def test_threads_change_no_bit() -> None:
    rng = np.random.default_rng(1)
    a, b = (round_to(rng.standard_normal(s), FP16) for s in ((2, 40, 30), (2, 30, 50)))
    one = matmul(a, b, HalfRule(), transposed=True, threads=1)
    np.testing.assert_array_equal(one, matmul(a, b, HalfRule(), transposed=True, threads=3))


def test_bad_input_is_refused() -> None:
    one = np.ones((1, 2, 2), np.float32)
    with pytest.raises(ArrayError, match="allowed: naive"):
        HalfRule(kernel="fast")
    with pytest.raises(ArrayError, match="cores"):
        HalfRule(cores=0)
    with pytest.raises(ArrayError, match="reshape"):
        matmul(one, one[:, :1], HalfRule())
