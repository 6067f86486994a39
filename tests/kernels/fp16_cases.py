"""Drawn values, shapes and expected sums for the tests of 16-bit floats."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Floats
from kernels.conv import Conv2d
from kernels.fp16 import oracle
from kernels.fp16.formats import BF16, FP16, HalfFormat, decode, encode, round_to
from kernels.fp16.products import KERNELS, HalfRule, order_of

QUICK, ACCEPT = 120, 10_000
Case = Callable[[np.random.Generator], None]


def run_cases(case: Case, count: int) -> None:
    """Run a case ``count`` times; a failure names the seed that repeats it."""
    with np.errstate(all="ignore"):
        for seed in range(count):
            try:
                case(np.random.default_rng(seed))
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error


def values(rng: np.random.Generator, shape: tuple[int, ...], form: HalfFormat) -> Floats:
    """Any bits, or numbers of one size, or small integers, or such that sums cancel or overflow."""
    kind = rng.integers(6)
    if kind == 0:
        return decode(rng.integers(0, 1 << 16, shape, dtype=np.uint16), form)
    if kind == 1:
        return rng.integers(-3, 4, shape).astype(np.float32)
    if kind == 2:  # one of three exponents, far apart
        scale = 2.0 ** rng.choice([-20, 0, 15], shape)
        return round_to(rng.standard_normal(shape) * scale, form)
    if kind == 3:  # few bits: products and sums meet the middles of values
        return round_to((1 + rng.integers(0, 64, shape) / 64) * rng.choice([-1, 1], shape), form)
    if kind == 4 and form is BF16:  # products whose middles tiny sums decide
        scale = 2.0 ** rng.choice([-40, -30, 0, 30], shape)
        return round_to((1 + rng.integers(0, 16, shape) / 16) * scale, form)
    return round_to(rng.standard_normal(shape), form)


def any_form(rng: np.random.Generator) -> HalfFormat:
    return (FP16, BF16)[rng.integers(2)]


def any_rule(rng: np.random.Generator) -> HalfRule:
    kernel = str(rng.choice(KERNELS))
    return HalfRule(any_form(rng), kernel, bool(rng.integers(2)), int(rng.choice([1, 2, 8])))


def assert_bits(got: Floats, wanted: NDArray[np.float64] | list[float], form: HalfFormat) -> None:
    """The same bits, the sign of zero included; every NaN is the one of RISC-V."""
    expected = np.asarray(wanted, np.float64).astype(np.float32).reshape(got.shape)
    np.testing.assert_array_equal(encode(got, form), encode(expected, form))


def expected_product(a: Floats, b: Floats, rule: HalfRule, transposed: bool) -> list[float]:
    """``A B`` of one group by the oracle, row by row."""
    (n, k), m = a.shape, b.shape[1]
    order, columns = order_of(rule, n, k, m, transposed)
    return [
        oracle.dot(
            a[i].tolist(), b[:, j].tolist(), rule.form,
            order if j < columns else "sequential", rule.fused,
        )
        for i in range(n)
        for j in range(m)
    ]  # fmt: skip


def draw_conv(rng: np.random.Generator) -> Conv2d:
    """Small convolutions with every stride, dilation, padding and grouping."""
    groups = int(rng.choice([1, 1, 2, 3]))
    each_in, each_out = (1, 1) if rng.integers(3) == 0 else rng.integers(1, 4, 2).tolist()
    k, dilation = (int(rng.integers(1, 4)), int(rng.integers(1, 3))), int(rng.choice([1, 1, 2]))
    pad = (int(rng.integers(0, 3)), int(rng.integers(0, 3)))
    least = [max(1, (size - 1) * dilation + 1 - 2 * p) for size, p in zip(k, pad, strict=True)]
    if rng.integers(4) == 0:
        k, dilation, pad, least = (1, 1), 1, (0, 0), [1, 1]
    return Conv2d(
        n=int(rng.integers(1, 3)), c_in=groups * each_in, c_out=groups * each_out,
        h=least[0] + int(rng.integers(0, 3)), w=least[1] + int(rng.integers(0, 3)), k=k,
        stride=int(rng.choice([1, 1, 2])), pad=pad, dilation=dilation, groups=groups,
    )  # fmt: skip


def taps(op: Conv2d) -> Iterator[tuple[int, int]]:
    """Taps of the window, row by row."""
    for p in range(op.k_h):
        for q in range(op.k_w):
            yield p, q


def at(x: Floats, row: int, column: int, channel: int) -> float:
    """A value of a map, zero outside."""
    inside = 0 <= row < x.shape[0] and 0 <= column < x.shape[1]
    return float(x[row, column, channel]) if inside else 0.0


def window_row(x: Floats, op: Conv2d, group: int, i: int, j: int) -> list[float]:
    """What output (i, j) of a group multiplies: channels first, then the window."""
    each = op.c_in // op.groups
    return [
        at(x, i * op.stride + p * op.dilation - op.pad_h,
           j * op.stride + q * op.dilation - op.pad_w, c)
        for c in range(group * each, (group + 1) * each)
        for p, q in taps(op)
    ]  # fmt: skip


def error_row(e: Floats, op: Conv2d, group: int, i: int, j: int) -> list[float]:
    """The errors around input (i, j), zeros between strides: the last tap comes first."""
    each = op.c_out // op.groups
    row = []
    for c in range(group * each, (group + 1) * each):
        for p, q in taps(op):
            down = i + op.pad_h - (op.k_h - 1 - p) * op.dilation
            right = j + op.pad_w - (op.k_w - 1 - q) * op.dilation
            whole = down % op.stride == 0 and right % op.stride == 0
            row.append(at(e, down // op.stride, right // op.stride, c) if whole else 0.0)
    return row


def transposed(op: Conv2d) -> bool:
    """Whether forward and input gradient find the windows row by row."""
    return not (op.pointwise or op.depthwise)
