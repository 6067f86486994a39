"""Errors of softmax cross-entropy: the released formulas word for word, and the exact one."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import exp, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_cases import ACCEPT_CASES, CASES, Check, compare, int8s

import kernels.rounding_oracle as oracle
from kernels.arrays import ArrayError
from kernels.int8.draws import draw_oracle
from kernels.int8.loss import (
    cross_entropy,
    exp2_negative,
    exponentials,
    loss_error,
    mandheling_error,
    niti_v1_error,
    niti_v2_error,
    softmax_error,
)
from kernels.int8.rescale import rescale
from kernels.profiles import PROFILES
from kernels.quantised import QTensor, QuantError

quick = settings(max_examples=120, derandomize=True, deadline=None)
Rows = list[list[int]]


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n, classes = draw(st.integers(1, 5)), draw(st.integers(2, 12))
    seed, spread = draw(st.integers(0, 999)), draw(st.sampled_from([1, 9, 128]))
    rng = np.random.default_rng(seed)
    logits = rng.integers(-spread, spread, (n, classes)).astype(np.int8)
    return logits, rng.integers(0, classes, n)


def c_int32(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def c_divide(a: int, b: int) -> int:
    if b == 0:
        return 0
    return (abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1)


def written_out(logits: Rows, e: int, labels: list[int], *, literals: bool) -> Rows:
    """``NITI_CPULossGrad_Int8.cpp`` before its last shift, row by row, on Python integers.

    ``literals``: whether ``1 << count`` has 32 bits, as there; NITI has 64.
    """

    def one_shifted(count: int) -> int:
        return c_int32(1 << count % 32) if literals else 1 << count

    result = []
    for row, label in zip(logits, labels, strict=True):
        if e > -7:
            z = [c_divide(s * 47274, 1 << 15) for s in row]
            z = [v * one_shifted(e) if e >= 0 else c_divide(v, 1 << -e) for v in z]
            offset = max(z) - 10
            p = [(1 << max(v - offset, 0)) - 1 for v in z]
        else:
            base, middle = one_shifted(1 - 2 * e), one_shifted(1 - e)
            p = [base + s * middle + s * s for s in row]
        total = sum(p)
        shares = [c_divide(v * (1 << 11), total) for v in p]
        shares[label] -= sum(shares)
        result.append([c_int32(v) for v in shares])
    return result


def clip(value: int) -> int:
    return min(max(value, -127), 127)


def in_floats(logits: Rows, e: int, labels: list[int]) -> Rows:
    """``ti_loss.py`` at d097335 before its last shift: float32 scalars, one operation at a time.

    Its sums are int64: of whole parts where the terms are floats. A row that float32 leaves
    nothing of has no error.
    """
    single = np.float32
    result = []
    for row, label in zip(logits, labels, strict=True):
        if e > -7:
            z = [single(np.ldexp(single(s * 47274) / single(1 << 15), e)) for s in row]
            offset = max(z) - single(10)
            p = [np.exp2(max(v - offset, single(0))) - single(1) for v in z]
            total, scaled = sum(int(v) for v in p), [v * single(1 << 11) for v in p]
        else:
            exact = [(1 << 1 - 2 * e) + s * (1 << 1 - e) + s * s for s in row]
            total, scaled = sum(exact), [single(np.int64(v << 11)) for v in exact]
        shares = [v / single(np.int64(total)) if total else single(0) for v in scaled]
        shares[label] -= single(sum(int(v) for v in shares))
        result.append([int(v) for v in shares])
    return result


def softmax_in_integers(logits: Rows, e: int, labels: list[int]) -> Rows:
    """Shares in units of ``2^-20``, over the batch, from exponentials in units of ``2^-30``."""
    half, batch = Fraction(1, 2), len(logits)
    unit = 2 ** (batch - 1).bit_length()
    by_batch = floor(Fraction(unit << 30, batch) + half)
    table = exponentials(e).tolist()
    result = []
    for row, label in zip(logits, labels, strict=True):
        powers = [table[max(row) - s] for s in row]
        total = sum(powers)
        shares = [((power << 20) + total // 2) // total for power in powers]
        shares[label] -= 1 << 20
        result.append([oracle.half_up(share * by_batch, 30) for share in shares])
    return result


def draw_batch(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
    """Logits, labels and a key."""
    n, classes = int(rng.integers(1, 6)), int(rng.integers(2, 13))
    labels = rng.integers(0, classes, n).astype([np.uint8, np.int32, np.int64][rng.integers(3)])
    return int8s(rng, (n, classes)), labels, int(rng.integers(0, 2**64, dtype=np.uint64))


def with_draws(shares: Rows, key: int) -> Rows:
    """NITI's ``StoShift`` by 4 bits, element ``i`` with draw ``i``, and its clip."""
    numbered = iter(range(sum(len(row) for row in shares)))
    return [
        [clip(oracle.stochastic(v, 4, draw_oracle(key, next(numbered)) >> 60)) for v in row]
        for row in shares
    ]


def check_niti_v1(rng: np.random.Generator) -> None:
    (logits, labels, key), e = draw_batch(rng), int(rng.integers(-24, 41))
    got = niti_v1_error(QTensor(logits, e), labels, key)
    shares = written_out(logits.tolist(), e, labels.tolist(), literals=False)
    assert got.mantissa.tolist() == with_draws(shares, key), e
    assert (got.mantissa.dtype, got.exponent) == (np.int8, 0)


def check_niti_v2(rng: np.random.Generator) -> None:
    (logits, labels, key), e = draw_batch(rng), int(rng.integers(-24, 41))
    got = niti_v2_error(QTensor(logits, e), labels, key)
    shares = in_floats(logits.tolist(), e, labels.tolist())
    assert got.mantissa.tolist() == with_draws(shares, key), e
    assert (got.mantissa.dtype, got.exponent) == (np.int8, 0)


def check_mandheling(rng: np.random.Generator) -> None:
    (logits, labels, _), e = draw_batch(rng), int(rng.integers(-60, 61))
    got = mandheling_error(QTensor(logits, e), labels)
    shares = written_out(logits.tolist(), e, labels.tolist(), literals=True)
    assert got.mantissa.tolist() == [[clip(oracle.psto(v, 4)) for v in row] for row in shares], e
    assert (got.mantissa.dtype, got.exponent) == (np.int8, 0)


def check_softmax(rng: np.random.Generator) -> None:
    """The integers, and how near they are to the real softmax."""
    (logits, labels, _), e = draw_batch(rng), int(rng.integers(-24, 9))
    got = softmax_error(QTensor(logits, e), labels)
    assert got.mantissa.tolist() == softmax_in_integers(logits.tolist(), e, labels.tolist()), e
    assert got.mantissa.dtype == np.int32
    n = len(logits)
    assert got.exponent == -20 - (n - 1).bit_length()
    real = softmax(logits * 2.0**e)
    real[np.arange(n), labels] -= 1
    assert abs(got.dequantise() - real / n).max() * n < 2.0**-19, e


CHECKS: dict[str, Check] = {
    "niti_v1": check_niti_v1,
    "niti_v2": check_niti_v2,
    "mandheling": check_mandheling,
    "softmax": check_softmax,
}


@pytest.mark.parametrize("rule", CHECKS)
def test_every_rule_equals_its_oracle(rule: str) -> None:
    assert compare(CHECKS[rule], CASES, seed=59) == CASES


@pytest.mark.accept
@pytest.mark.parametrize("rule", CHECKS)
def test_every_rule_equals_its_oracle_on_ten_thousand_cases(
    rule: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("cases", compare(CHECKS[rule], ACCEPT_CASES, seed=60))


@quick
@given(batches(), st.integers(-24, 20), st.integers(0, 2**64 - 1))
def test_niti_v1_follows_its_formula(
    batch: tuple[np.ndarray, np.ndarray], exponent: int, key: int
) -> None:
    logits, labels = batch
    shares = written_out(logits.tolist(), exponent, labels.tolist(), literals=False)
    flat = [v for row in shares for v in row]
    draws = [draw_oracle(key, i) >> 60 for i in range(len(flat))]
    wanted = [clip(oracle.stochastic(v, 4, d)) for v, d in zip(flat, draws, strict=True)]
    error = niti_v1_error(QTensor(logits, exponent), labels, key)
    assert error.mantissa.reshape(-1).tolist() == wanted
    assert error.exponent == 0
    assert all(sum(row) == 0 for row in shares)


@quick
@given(batches(), st.integers(-40, 40))
def test_mandheling_follows_its_c_code_overflow_included(
    batch: tuple[np.ndarray, np.ndarray], exponent: int
) -> None:
    logits, labels = batch
    shares = written_out(logits.tolist(), exponent, labels.tolist(), literals=True)
    wanted = [[clip(oracle.psto(v, 4)) for v in row] for row in shares]
    error = mandheling_error(QTensor(logits, exponent), labels)
    assert error.mantissa.tolist() == wanted


def test_32_bit_literals_differ_from_niti_from_exponent_minus_15_down() -> None:
    logits = [[127, -127, 5]]
    for exponent in (-14, -15):
        ours = written_out(logits, exponent, [0], literals=True)
        niti = written_out(logits, exponent, [0], literals=False)
        assert (ours == niti) is (exponent == -14)


@quick
@given(batches(), st.integers(-12, 2))
def test_niti_v2_is_v1_in_floats(batch: tuple[np.ndarray, np.ndarray], exponent: int) -> None:
    logits, labels = batch
    error = niti_v2_error(QTensor(logits, exponent), labels, 3).mantissa.astype(int)
    z = logits.astype(float) * 2.0**exponent
    if exponent > -7:
        z = np.maximum(z * 47274 / 2**15 - (z * 47274 / 2**15).max(axis=1)[:, None] + 10, 0)
        p = 2**z - 1
        total = np.floor(p).sum(axis=1)[:, None]
    else:
        p = 1 + z + z * z / 2
        total = p.sum(axis=1)[:, None]
    shares = p * 2**11 / total
    shares[np.arange(len(logits)), labels] -= np.floor(shares).sum(axis=1)
    assert abs(error - np.clip(shares / 16, -127, 127)).max() <= 1.001


def test_niti_v2_sums_whole_floats() -> None:
    """Both shares are 2^11 * 1023 / 2046 exactly; each error is then 64 away from 0."""
    error = niti_v2_error(QTensor(np.array([[9, 9]], np.int8), -2), np.array([1]), 0)
    assert error.mantissa.tolist() == [[64, -64]]


@quick
@given(st.integers(0, 70 << 40))
def test_powers_of_two_in_fixed_point(y: int) -> None:
    assert abs(exp2_negative(y, 40) - 2.0 ** (40 - y / 2**40)) <= 1


@pytest.mark.parametrize("exponent", [-126, -20, -9, -7, -4, -1, 0, 3, 127])
def test_exponentials_are_within_one_unit(exponent: int) -> None:
    table = exponentials(exponent)
    for d in range(256):
        real = exp(-min(d * 2.0**exponent, 700)) * 2**30
        assert abs(int(table[d]) - real) <= 1
    assert table[0] == 2**30


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("n", [1, 3, 64, 100])
def test_the_exact_error_is_within_its_bound(classes: int, n: int) -> None:
    rng = np.random.default_rng(classes + n)
    worst = 0.0
    for exponent in range(-20, 3):
        logits = rng.integers(-128, 128, (n, classes)).astype(np.int8)
        labels = rng.integers(0, classes, n)
        q = QTensor(logits, exponent)
        real = softmax(q.dequantise())
        real[np.arange(n), labels] -= 1
        worst = max(worst, abs(softmax_error(q, labels).dequantise() - real / n).max() * n)
    assert worst < 2.0**-19


def test_profiles_choose_the_rule() -> None:
    rng = np.random.default_rng(5)
    logits = QTensor(rng.integers(-128, 128, (8, 10)).astype(np.int8), -5)
    labels = rng.integers(0, 10, 8).astype(np.uint8)
    wanted = {
        "niti_v1": niti_v1_error(logits, labels, 9),
        "niti_v2": niti_v2_error(logits, labels, 9),
        "mandheling_cpu": mandheling_error(logits, labels),
        "mandheling_dsp": mandheling_error(logits, labels),
    }
    for name, error in wanted.items():
        chosen = loss_error(logits, labels, PROFILES[name], 9)
        np.testing.assert_array_equal(chosen.mantissa, error.mantissa)
    sandbox = PROFILES["sandbox"]
    exact = softmax_error(logits, labels)
    own = loss_error(logits, labels, sandbox)
    assert own.mantissa.dtype == np.int8
    assert own.exponent == rescale(exact.mantissa, exact.exponent, sandbox.error).tensor.exponent
    assert (
        abs(own.dequantise() - exact.dequantise()).max() <= 2.0**own.exponent
    )  # 1 of 128 may be clipped


def test_cross_entropy_is_that_of_floats() -> None:
    rng = np.random.default_rng(1)
    logits = QTensor(rng.integers(-128, 128, (20, 7)).astype(np.int8), -4)
    labels = rng.integers(0, 7, 20)
    real = -np.log(softmax(logits.dequantise())[np.arange(20), labels]).mean()
    assert cross_entropy(logits, labels) == pytest.approx(real, rel=1e-12)
    sure = QTensor(np.array([[127, -128]], np.int8), 120)
    assert cross_entropy(sure, np.array([0])) == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 3]), r"labels span 0 .. 3; allowed: 0 .. 2"),
        (np.array([-1, 0]), r"labels span -1 .. 0"),
        (np.array([0.0, 1.0]), "labels are float64"),
        (np.array([0]), r"labels have shape \(1,\); allowed: \(2,\)"),
    ],
)
def test_labels_not_allowed(labels: np.ndarray, message: str) -> None:
    logits = QTensor(np.zeros((2, 3), np.int8), 0)
    for profile in PROFILES.values():
        with pytest.raises(ArrayError, match=message):
            loss_error(logits, labels, profile)


def test_logits_not_allowed() -> None:
    flat = QTensor(np.zeros(3, np.int8), 0)
    with pytest.raises(ArrayError, match=r"logits have shape \(3,\)"):
        softmax_error(flat, np.zeros(3, int))
    tiny = QTensor(np.zeros((1, 3), np.int8), -25)
    for call in (niti_v1_error, niti_v2_error):
        with pytest.raises(QuantError, match="exponent -25; allowed: -24"):
            call(tiny, np.zeros(1, int), 0)
