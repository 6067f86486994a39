"""Bits of a ReLU: the same errors pass as by its saved output."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.arrays import ArrayError
from kernels.fp32 import pointwise as fp32
from kernels.int8 import pointwise as int8
from kernels.operators import OperatorError, Role
from kernels.signs import MaskedGrad, SignMask, masked, pack_signs


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 40), st.sampled_from([127, 128])
)
def test_bits_pass_what_the_output_passes(seed: int, n: int, size: int, bound: int) -> None:
    rng = np.random.default_rng(seed)
    y, e = rng.integers(-128, 128, (2, n, size, 1)).astype(np.int8)
    want = int8.relu_input_grad(e, y, bound=bound)
    assert np.array_equal(masked(e, pack_signs(y, bound)), want)
    floats = y.astype(np.float32), e.astype(np.float32)
    got = masked(floats[1], pack_signs(floats[0]))
    assert got.dtype == np.float32
    assert np.array_equal(got, fp32.relu_input_grad(floats[1], floats[0]))


def test_sizes_and_work() -> None:
    op = SignMask((2, 3, 5, 7))
    assert pack_signs(np.ones((2, 5, 7, 3), np.int8)).shape == op.output == (2, 14)
    assert op.work(Role.FORWARD).writes == 28
    grad = MaskedGrad((2, 3, 5, 7))
    assert grad.work(Role.INPUT_GRAD).reads == (210, 28)
    with pytest.raises(OperatorError, match="does not exist"):
        grad.work(Role.FORWARD)
    with pytest.raises(ArrayError, match=r"signs are int8 \(2, 13\); allowed: int8 \(2, 14\)"):
        masked(np.ones((2, 5, 7, 3), np.int8), np.zeros((2, 13), np.int8))
