"""The fully connected layer in 16-bit floats: three matrix-vector products for each sample.

Forward multiplies the weights by a column, so SIMD falls back to the scalar kernel; dW is an outer
product, without sums; dX multiplies a row by the weights (pulp-platform/pulp-trainlib,
``lib/sources/pulp_linear_fp16.c``).
"""

from __future__ import annotations

import numpy as np

from kernels.arrays import Floats, check_floats
from kernels.fp16.elementwise import add
from kernels.fp16.products import HalfRule, matmul
from kernels.linear import Linear


def linear_forward(
    x: Floats, w: Floats, op: Linear, rule: HalfRule, *,
    bias: Floats | None = None, threads: int | None = 1,
) -> Floats:  # fmt: skip
    """(n, outputs) of x (n, inputs) and w (outputs, inputs), float32 that carry the format.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order.
    """
    check_floats("x", x, (len(x), op.weights[0][1]))
    check_floats("w", w, op.weights[0])
    sums = [matmul(w[None], one[None, :, None], rule, threads=threads)[0, :, 0] for one in x]
    out = np.stack(sums)
    if bias is None:
        return out
    check_floats("bias", bias, op.weights[1])
    return add([out, bias], rule.form)


def linear_input_grad(
    error: Floats, w: Floats, op: Linear, rule: HalfRule, *, threads: int | None = 1
) -> Floats:
    """(n, inputs) of errors (n, outputs)."""
    check_floats("error", error, (len(error), op.weights[0][0]))
    check_floats("w", w, op.weights[0])
    sums = [matmul(one[None, None], w[None], rule, threads=threads)[0, 0] for one in error]
    return np.stack(sums)


def linear_weight_grad(
    x: Floats, error: Floats, op: Linear, rule: HalfRule, *, threads: int | None = 1
) -> Floats:
    """(outputs, inputs); samples are added one after the other, rounded each."""
    check_floats("x", x, (len(x), op.weights[0][1]))
    check_floats("error", error, (len(x), op.weights[0][0]))
    total: Floats | None = None
    for one, errors in zip(x, error, strict=True):
        grad = matmul(errors[None, :, None], one[None, None], rule, threads=threads)[0]
        total = grad if total is None else add([total, grad], rule.form)
    assert total is not None
    return total
