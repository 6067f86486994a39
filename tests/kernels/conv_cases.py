"""Drawn convolutions and their tensors, shared by the tests of the INT8 convolution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kernels.conv import Conv2d
from kernels.int8 import conv_oracle
from kernels.int8.stored import Store, Stored
from kernels.operators import OperatorError
from kernels.rounding import Rounding, shift_right

RULES = [rule for rule in Rounding if rule is not Rounding.STOCHASTIC]


def extremes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Full-range int8; often nothing but the extremes, where sums are largest."""
    kind = rng.integers(4)
    if kind == 0:
        return rng.choice(np.array([-128, 127], np.int8), shape)
    if kind == 1:
        return np.full(shape, rng.choice([-128, 127]), np.int8)
    return rng.integers(-128, 128, shape).astype(np.int8)


def small(rng: np.random.Generator, most: int) -> int:
    """1 to ``most``, small ones more often."""
    return int(np.exp(rng.uniform(0, np.log(most + 0.5))))


def draw_conv(rng: np.random.Generator) -> Conv2d:
    """Odd sizes, every stride, dilation, padding and grouping; depthwise now and then."""
    while True:
        kind = rng.integers(6)
        groups = 1 if kind < 3 else small(rng, 70) if kind == 3 else small(rng, 4)
        ins = 1 if kind == 3 else small(rng, 80)
        outs = small(rng, 3) if kind == 3 else small(rng, 140)
        try:
            op = Conv2d(
                n=small(rng, 9), c_in=groups * ins, h=small(rng, 12), w=small(rng, 12),
                c_out=groups * outs, k=(small(rng, 5), small(rng, 5)),
                stride=int(rng.choice([1, 1, 1, 2, 2, 3])), dilation=int(rng.choice([1, 1, 2, 3])),
                pad=(int(rng.integers(0, 4)), int(rng.integers(0, 4))), groups=groups,
            )  # fmt: skip
        except OperatorError:  # a kernel larger than its padded input
            continue
        if op.n * op.h_out * op.w_out * op.c_out * op.k_h * op.k_w * ins < 1 << 23:
            return op


def draw_deep(rng: np.random.Generator) -> Conv2d:
    """Sums up to 3 x 3 x 512 long, over few positions."""
    k = int(rng.choice([1, 3]))
    return Conv2d(
        n=small(rng, 5), c_in=int(rng.integers(256, 513)), h=3, w=int(rng.integers(3, 6)),
        c_out=int(rng.integers(256, 513)), k=k, pad=int(rng.integers(0, 2)),
    )  # fmt: skip


def draw_store(rng: np.random.Generator) -> Store | None:
    """No store, or any rule with a shift of -3 to 24 and a clip of one of the two ranges."""
    if rng.integers(4) == 0:
        return None
    return Store(
        int(rng.integers(-3, 25)), RULES[rng.integers(len(RULES))],
        ((-127, 127), (-128, 127))[rng.integers(2)],
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One convolution with its tensors and what the oracle makes of them."""

    op: Conv2d
    x: np.ndarray
    w: np.ndarray
    e: np.ndarray
    number: conv_oracle.Number = np.float64

    @cached_property
    def forward(self) -> np.ndarray:
        return conv_oracle.conv_forward(self.x, self.w, self.op, self.number)

    @cached_property
    def input_grad(self) -> np.ndarray:
        return conv_oracle.conv_input_grad(self.e, self.w, self.op, self.number)

    @cached_property
    def weight_grad(self) -> np.ndarray:
        return conv_oracle.conv_weight_grad(self.x, self.e, self.op, self.number)


def tensors(rng: np.random.Generator, op: Conv2d) -> Case:
    """Input, weights and error of ``op``."""
    shape = (op.c_out, op.k_h, op.k_w, op.c_in // op.groups)
    return Case(
        op,
        extremes(rng, (op.n, op.h, op.w, op.c_in)),
        extremes(rng, shape),
        extremes(rng, (op.n, op.h_out, op.w_out, op.c_out)),
    )


def cases(seed: int, count: int) -> Iterator[tuple[np.random.Generator, Case]]:
    """``count`` drawn cases, each with the generator to draw more from."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        yield rng, tensors(rng, draw_deep(rng) if number % 16 == 15 else draw_conv(rng))


def assert_stored(got: Stored, acc: np.ndarray, store: Store | None, note: object) -> None:
    """``got`` is what ``acc`` (int64) gives by ``store``, value for value and count for count."""
    assert got.amax == max(int(acc.max()), -int(acc.min())), note
    if store is None:
        assert got.values.dtype in (np.int32, np.int64), note
        assert np.array_equal(got.values, acc), note
        assert (got.saturated, got.lost) == (0, 0), note
        return
    shift = store.shift
    rounded = shift_right(acc, shift, store.rounding) if shift > 0 else acc << -shift
    want = np.clip(rounded, *store.clip)
    assert got.values.dtype == np.int8, note
    assert np.array_equal(got.values, want), note
    assert got.saturated == np.count_nonzero(want != rounded), note
    assert got.lost == np.count_nonzero((want == 0) & (acc != 0)), note
