"""Sums, concatenation and split of INT8 tensors with exponents of their own."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_cases import (
    ACCEPT_CASES,
    CASES,
    CLIPS,
    RULES,
    Check,
    compare,
    int8s,
    magnitude,
    out_of,
    rescaled,
    shape_of,
    size_of,
    threads_of,
)

import kernels.rounding_oracle as oracle
from kernels.arrays import ArrayError
from kernels.int8.rescale import rescale
from kernels.int8.sums import AlignedSum, add, add_niti_v1, align_split_gradients, concat, split
from kernels.profiles import PROFILES, RescaleRule, Small
from kernels.quantised import QTensor
from kernels.rounding import HEXAGON_CLIP, NITI_CLIP, Rounding, ceil_log2, shift_right

quick = settings(max_examples=150, derandomize=True, deadline=None)
SANDBOX = PROFILES["sandbox"].activation


def drawn(seed: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(-128, 128, shape).astype(np.int8) >> np.int8(rng.integers(0, 8))


def exact_sum(terms: list[QTensor], i: int) -> Fraction:
    return sum(
        (Fraction(int(t.mantissa.reshape(-1)[i])) * Fraction(2) ** t.exponent for t in terms),
        Fraction(0),
    )


def exponents_of(rng: np.random.Generator, count: int) -> list[int]:
    """Equal, close, as far apart as INT32 bears, or a hundred apart."""
    spread = int(rng.choice([0, 3, 26, 100]))
    middle = int(rng.integers(-12, 4))
    return [middle + int(rng.integers(-spread, spread + 1)) for _ in range(count)]


def aligned_oracle(terms: list[QTensor], rounding: Rounding) -> tuple[np.ndarray, int]:
    """The INT64 sum and its exponent: the finest, unless INT32 cannot hold the sum there."""
    counted = [t.exponent for t in terms if t.mantissa.any()] or [terms[0].exponent]
    exponent = max(min(counted), max(counted) - (23 - ceil_log2(len(terms))))
    total = np.zeros(terms[0].shape, np.int64)
    for term in terms:
        gap = term.exponent - exponent
        if gap < 0:
            total += shift_right(term.mantissa, min(-gap, 62), rounding)
        elif term.mantissa.any():
            total += term.mantissa.astype(np.int64) << gap
    return total, exponent


def draw_rule(rng: np.random.Generator) -> RescaleRule:
    return RescaleRule(
        RULES[rng.integers(len(RULES))],
        clip=CLIPS[rng.integers(2)],
        small=[*Small][rng.integers(3)],
        one_becomes=int(rng.integers(1, 3)),
    )


def check_add(rng: np.random.Generator) -> None:
    """1 to 5 terms (each number is compiled); by a scan, or with a shift of an earlier step."""
    count, size = int(rng.integers(1, 6)), size_of(rng, chunk=4096)
    terms = [QTensor(int8s(rng, (size,)), e) for e in exponents_of(rng, count)]
    rule, known = draw_rule(rng), int(rng.integers(-8, 25)) if rng.integers(4) == 0 else None
    out = out_of(rng, (size,), np.int8)
    got = add(terms, rule, out, threads_of(rng), shift=known)
    total, exponent = aligned_oracle(terms, rule.rounding)
    values, shift, growth, saturated, lost = rescaled(total, rule, known)
    note = (rule, known, [t.exponent for t in terms])
    assert np.array_equal(got.tensor.int8, values), note
    assert out is None or got.tensor.mantissa is out
    assert (got.shift, got.tensor.exponent) == (shift, exponent + growth), note
    assert (got.amax, got.saturated, got.lost) == (magnitude(total), saturated, lost), note


def check_add_niti_v1(rng: np.random.Generator) -> None:
    shape, rounding = shape_of(rng, 6), RULES[rng.integers(len(RULES))]
    a, b = (QTensor(int8s(rng, shape), e) for e in exponents_of(rng, 2))
    clip = [NITI_CLIP, HEXAGON_CLIP][rng.integers(2)]
    low, high = clip
    pairs = [
        niti_block_add(x, a.exponent, y, b.exponent, rounding, clip)
        for x, y in zip(
            a.mantissa.reshape(-1).tolist(), b.mantissa.reshape(-1).tolist(), strict=True
        )
    ]
    totals, exponent = [total for total, _ in pairs], pairs[0][1]
    largest = max(abs(total) for total in totals)
    shift = 2 if largest > 127 else 0
    rounded = [getattr(oracle, rounding)(total, shift) for total in totals]
    values = [min(max(value, low), high) for value in rounded]
    got = add_niti_v1(a, b, RescaleRule(rounding, clip=clip))
    note = (rounding, a.exponent, b.exponent)
    assert got.tensor.mantissa.reshape(-1).tolist() == values, note
    assert got.tensor.shape == shape
    assert (got.tensor.exponent, got.shift, got.amax) == (exponent + shift, shift, largest), note
    assert got.saturated == sum(v != r for v, r in zip(values, rounded, strict=True)), note
    assert got.lost == sum(r == 0 and t != 0 for r, t in zip(rounded, totals, strict=True)), note


def check_concat(rng: np.random.Generator) -> None:
    """Each part is its term, rounded at the coarsest exponent; ``split`` gives it back."""
    lead, rounding = shape_of(rng, 5), RULES[rng.integers(len(RULES))]
    exponents = exponents_of(rng, int(rng.integers(1, 6)))
    terms = [QTensor(int8s(rng, (*lead, int(rng.integers(1, 9)))), e) for e in exponents]
    joined = concat(terms, rounding)
    assert joined.exponent == max(exponents)
    start = 0
    for term in terms:
        part = joined.int8[..., start : start + term.shape[-1]]
        gap = min(joined.exponent - term.exponent, 62)
        assert np.array_equal(part, shift_right(term.mantissa, gap, rounding)), (rounding, gap)
        start += term.shape[-1]
    assert joined.shape == (*lead, start)


def check_split(rng: np.random.Generator) -> None:
    lead, dtype = shape_of(rng, 5), [np.int8, np.int32][rng.integers(2)]
    widths = rng.integers(1, 9, rng.integers(1, 6)).tolist()
    e = int8s(rng, (*lead, sum(widths))).astype(dtype)
    parts, start = split(e, widths), 0
    for part, width in zip(parts, widths, strict=True):
        assert part.dtype == dtype
        assert part.flags.c_contiguous
        assert not np.shares_memory(part, e)
        assert part.shape == (*lead, width)
        for k in range(width):
            assert np.array_equal(part[..., k], e[..., start + k])
        start += width


def check_align_split_gradients(rng: np.random.Generator) -> None:
    count, shape = int(rng.integers(1, 6)), shape_of(rng, 6)
    parts = [int8s(rng, shape) for _ in range(count)]
    widths = rng.integers(0, rng.choice([4, 12, 32]), count).tolist()
    aligned = align_split_gradients(parts, widths)
    for got, part, width in zip(aligned, parts, widths, strict=True):
        wanted = np.sign(part) * (abs(part.astype(np.int64)) // 2 ** (max(widths) - width))
        assert got.dtype == np.int8
        assert np.array_equal(got, wanted), widths


CHECKS: dict[str, Check] = {
    "add": check_add,
    "add_niti_v1": check_add_niti_v1,
    "concat": check_concat,
    "split": check_split,
    "align_split_gradients": check_align_split_gradients,
}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kernel", CHECKS)
def test_every_kernel_equals_its_oracle(kernel: str) -> None:
    assert compare(CHECKS[kernel], CASES, seed=57) == CASES


@pytest.mark.accept
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kernel", CHECKS)
def test_every_kernel_equals_its_oracle_on_ten_thousand_cases(
    kernel: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("cases", compare(CHECKS[kernel], ACCEPT_CASES, seed=58))


@quick
@given(
    st.lists(st.integers(-16, 2), min_size=1, max_size=5),
    st.integers(1, 40),
    st.integers(0, 99),
    st.sampled_from(RULES),
)
def test_sums_are_exact_and_rounded_once(
    exponents: list[int], size: int, seed: int, rounding: Rounding
) -> None:
    terms = [QTensor(drawn(seed + k, size), e) for k, e in enumerate(exponents)]
    rule = RescaleRule(rounding, small=SANDBOX.small)
    done = add(terms, rule)
    sums = [exact_sum(terms, i) for i in range(size)]
    used = [t.exponent for t in terms if t.mantissa.any()] or [exponents[0]]
    unit = Fraction(2) ** min(used)
    totals = [int(s / unit) for s in sums]
    assert AlignedSum(terms).total().tolist() == totals
    largest = max(abs(t) for t in totals)
    shift = ceil_log2(largest) - 7 if largest else 0
    assert (done.amax, done.shift) == (largest, shift)
    assert done.tensor.exponent == min(used) + shift
    rounded = [getattr(oracle, rounding)(t, shift) if shift >= 0 else t << -shift for t in totals]
    clipped = [min(max(v, -127), 127) for v in rounded]
    assert done.tensor.mantissa.tolist() == clipped
    assert done.saturated == sum(a != b for a, b in zip(rounded, clipped, strict=True))
    assert done.lost == sum(r == 0 and t != 0 for r, t in zip(rounded, totals, strict=True))


@quick
@given(st.integers(2, 9), st.integers(1, 80), st.sampled_from(RULES), st.integers(0, 99))
def test_terms_too_fine_for_int32_are_rounded_first(
    count: int, gap: int, rounding: Rounding, seed: int
) -> None:
    terms = [QTensor(drawn(seed + k, 50), 0) for k in range(count - 1)]
    terms[0].mantissa[0] = 1
    fine = QTensor(np.full(50, -128, np.int8), -gap)
    room = 23 - ceil_log2(count)
    aligned = AlignedSum([*terms, fine], rounding)
    base = -min(gap, room)
    assert aligned.exponent == base
    kept = getattr(oracle, rounding)(-128, gap - min(gap, room))
    totals = [int(exact_sum(terms, i) / Fraction(2) ** base) + kept for i in range(50)]
    assert aligned.total().tolist() == totals


def test_int32_holds_the_most_terms_at_the_largest_gap() -> None:
    least = np.full(3, -128, np.int8)
    terms = [QTensor(least, 0) for _ in range(63)] + [QTensor(least, -17)]
    assert AlignedSum(terms).total().tolist() == [-128 * (63 * 2**17 + 1)] * 3
    with pytest.raises(ArrayError, match=r"terms are 65; allowed: 1 \.\. 64"):
        AlignedSum([terms[0]] * 65)


def test_threads_and_a_known_shift_give_the_same_bits() -> None:
    terms = [QTensor(drawn(k, 3, 70_001), -k) for k in range(3)]
    one, three = add(terms, SANDBOX, threads=1), add(terms, SANDBOX, threads=3)
    out = np.empty((3, 70_001), np.int8)
    known = add(terms, SANDBOX, out, threads=2, shift=one.shift)
    assert known.tensor.mantissa is out
    for other in (three, known):
        np.testing.assert_array_equal(one.tensor.mantissa, other.tensor.mantissa)
        assert (one.amax, one.saturated, one.lost) == (other.amax, other.saturated, other.lost)
    stale = add(terms, SANDBOX, shift=one.shift - 3)
    assert stale.saturated > one.saturated
    assert stale.tensor.exponent == one.tensor.exponent - 3


def test_zeros_have_no_say_in_the_exponent() -> None:
    zeros, x = QTensor(np.zeros(2, np.int8), -40), QTensor(np.array([3, -5], np.int8), 0)
    done = add([zeros, x], PROFILES["niti_v2"].activation)
    assert (done.tensor.mantissa.tolist(), done.tensor.exponent) == ([3, -5], 0)
    assert add([zeros, zeros], SANDBOX).tensor.mantissa.tolist() == [0, 0]


def test_a_cast_sum_of_128_wraps_as_in_niti() -> None:
    x = QTensor(np.array([64, -64, 1], np.int8), 0)
    done = add([x, x], PROFILES["niti_v2"].activation)
    assert done.tensor.mantissa.tolist() == [-128, -128, 2]


def niti_block_add(
    a: int,
    ea: int,
    b: int,
    eb: int,
    rounding: Rounding = Rounding.PSTO,
    clip: tuple[int, int] = NITI_CLIP,
) -> tuple[int, int]:
    """``forward_block_float_add`` at 03c3122, before its last step."""
    if ea < eb:
        a, ea, b, eb = b, eb, a, ea
    if ea - eb > 1:
        return a + min(max(getattr(oracle, rounding)(b, ea - eb), clip[0]), clip[1]), ea
    return (2 * a + b, eb) if ea - eb == 1 else (a + b, ea)


@quick
@given(st.integers(-9, 9), st.integers(0, 9), st.integers(1, 30))
def test_niti_v1_adds_as_its_code(gap: int, seed: int, size: int) -> None:
    a, b = drawn(seed, size), drawn(seed + 50, size)
    pairs = [niti_block_add(int(x), gap, int(y), 0) for x, y in zip(a, b, strict=True)]
    exponent = pairs[0][1]
    totals = [total for total, _ in pairs]
    if max(abs(t) for t in totals) > 127:
        totals = [min(max(oracle.psto(t, 2), -127), 127) for t in totals]
        exponent += 2
    done = add_niti_v1(QTensor(a, gap), QTensor(b, 0), PROFILES["niti_v1"].activation)
    assert done.tensor.mantissa.tolist() == totals
    assert done.tensor.exponent == exponent


@quick
@given(st.lists(st.integers(-20, 5), min_size=1, max_size=4), st.sampled_from(RULES))
def test_concat_aligns_to_the_largest_exponent(exponents: list[int], rounding: Rounding) -> None:
    rng = np.random.default_rng(1)
    arrays = [np.tile(EVERY, (2, 3, 1))[..., : rng.integers(1, 257)] for _ in exponents]
    terms = [QTensor(np.ascontiguousarray(a), e) for a, e in zip(arrays, exponents, strict=True)]
    joined = concat(terms, rounding)
    assert joined.exponent == max(exponents)
    parts = split(joined.mantissa, [a.shape[-1] for a in arrays])
    for part, array, exponent in zip(parts, arrays, exponents, strict=True):
        gap = joined.exponent - exponent
        wanted = [getattr(oracle, rounding)(int(v), gap) for v in array.reshape(-1)]
        assert part.reshape(-1).tolist() == wanted
        assert part.flags.c_contiguous


EVERY = np.arange(-128, 128).astype(np.int8)


def test_split_gradients_meet_by_c_division_and_differ_from_no_split() -> None:
    rule = RescaleRule(Rounding.PSTO, bits=3)
    accs = [np.array([900, -700, 5], np.int32), np.array([60, -61, 40], np.int32)]
    widths = [ceil_log2(int(abs(a).max())) for a in accs]
    parts = [rescale(a, 0, rule).tensor.mantissa for a in accs]
    aligned = align_split_gradients(parts, widths)
    assert widths == [10, 6]
    wanted = [oracle.psto(v, 3) for v in (60, -61, 40)]
    assert parts[1].tolist() == wanted
    assert aligned[1].tolist() == [oracle.trunc(v, 4) for v in wanted] == [0, 0, 0]
    assert aligned[0].tolist() == parts[0].tolist()
    with pytest.raises(ArrayError, match="widths are 1; allowed: 2"):
        align_split_gradients(parts, [3])


def test_what_is_not_allowed() -> None:
    x, y = QTensor(drawn(0, 2, 3), 0), QTensor(drawn(0, 3, 2), 0)
    with pytest.raises(ArrayError, match=r"terms\[1\] has shape \(3, 2\)"):
        add([x, y], SANDBOX)
    with pytest.raises(ArrayError, match="terms are 0"):
        concat([])
    with pytest.raises(ArrayError, match="equal but for the last axis"):
        concat([x, y])
    with pytest.raises(ArrayError, match=r"terms\[0\] is int32"):
        add([QTensor(np.ones(2, np.int32), 0)], SANDBOX)
    for widths in ([1, 1], [0, 3], [4, -1]):
        with pytest.raises(ArrayError, match="3 in all"):
            split(x.mantissa, widths)
