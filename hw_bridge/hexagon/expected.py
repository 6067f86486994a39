"""What every HVX kernel must give, from :mod:`kernels`, for inputs drawn by a seed.

Each check draws inputs, runs one kernel, and gives pairs (got, wanted). Products and
rounding are compared with their plain definitions (:mod:`kernels.int8.conv_oracle`,
:mod:`kernels.rounding`), everything else with the kernel of :mod:`kernels.int8` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_bridge.hexagon import draws
from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.protocol import Counts, Kernel
from hw_bridge.hexagon.words import add_lefts, update_shifts
from kernels.int8 import conv_oracle
from kernels.int8.pointwise import relu_forward, relu_input_grad
from kernels.int8.pool import max_pool_forward, max_pool_input_grad
from kernels.int8.rescale import rescale
from kernels.int8.stored import Store, Stored
from kernels.int8.sums import AlignedSum, add
from kernels.int8.update import VELOCITY_BITS, niti_update, wide_update, wide_weight
from kernels.quantised import QTensor
from kernels.rounding import ceil_log2, shift_right

Pair = tuple[Any, Any]
Found = tuple[Sequence[Pair], Counts]
Check = Callable[[np.random.Generator, HexagonKernels], Found]
_EXACT = np.float64  # conv_oracle's products on BLAS: no sum here comes near 2^53


def stored(acc: NDArray[np.int64], store: Store | None) -> Stored:
    """Accumulators stored by the words of the rules, in int64."""
    amax = max(int(acc.max()), -int(acc.min()))
    if store is None:
        return Stored(acc.astype(np.int32), amax)
    if store.shift > 0:
        rounded = shift_right(acc, store.shift, store.rounding)
    else:
        rounded = acc << min(-store.shift, 31)
    clipped = np.clip(rounded, *store.clip)
    lost = int(np.count_nonzero((rounded == 0) & (acc != 0)))
    return Stored(clipped.astype(np.int8), amax, int(np.count_nonzero(clipped != rounded)), lost)


def _pairs(got: Stored, want: Stored) -> list[Pair]:
    numbers = [(one.amax, one.saturated, one.lost) for one in (got, want)]
    return [(got.values, want.values), (numbers[0], numbers[1])]


def _maybe_store(rng: np.random.Generator, depth: int) -> Store | None:
    return draws.store(rng, ceil_log2(depth) // 2 + 7) if rng.integers(3) else None


def _gemm(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    m, k, n = (int(2 ** rng.uniform(0, most)) for most in (6, 9, 8))
    a, b, store = draws.int8s(rng, m, k), draws.int8s(rng, k, n), _maybe_store(rng, k)
    ran = dsp.gemm(a, b, store)
    acc = (a.astype(_EXACT) @ b.astype(_EXACT)).astype(np.int64)
    return _pairs(ran.result, stored(acc, store)), ran.counts


def _conv_forward(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    op = draws.conv(rng)
    x = draws.int8s(rng, op.n, op.h, op.w, op.c_in)
    w = draws.int8s(rng, op.c_out, op.k_h, op.k_w, op.c_in // op.groups)
    bias = rng.integers(-(2**20), 2**20, op.c_out).astype(np.int32) if rng.integers(2) else None
    store = _maybe_store(rng, op.k_h * op.k_w * op.c_in // op.groups)
    ran = dsp.conv_forward(x, w, op, bias=bias, store=store)
    acc = conv_oracle.conv_forward(x, w, op, _EXACT) + (0 if bias is None else bias)
    return _pairs(ran.result, stored(acc, store)), ran.counts


def _conv_input_grad(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    op = draws.conv(rng)
    e = draws.int8s(rng, op.n, op.h_out, op.w_out, op.c_out)
    w = draws.int8s(rng, op.c_out, op.k_h, op.k_w, op.c_in // op.groups)
    store = _maybe_store(rng, op.k_h * op.k_w * op.c_out // op.groups)
    ran = dsp.conv_input_grad(e, w, op, store=store)
    acc = conv_oracle.conv_input_grad(e, w, op, _EXACT)
    return _pairs(ran.result, stored(acc, store)), ran.counts


def _conv_weight_grad(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    op = draws.conv(rng)
    x = draws.int8s(rng, op.n, op.h, op.w, op.c_in)
    e = draws.int8s(rng, op.n, op.h_out, op.w_out, op.c_out)
    acc = conv_oracle.conv_weight_grad(x, e, op, _EXACT)
    into = rng.integers(-(2**29), 2**29, acc.shape).astype(np.int32) if rng.integers(2) else None
    ran = dsp.conv_weight_grad(x, e, op, into=into)
    return _pairs(ran.result, stored(acc + (0 if into is None else into), None)), ran.counts


def _acc(rng: np.random.Generator) -> NDArray[np.int32]:
    return draws.int32s(rng, int(rng.integers(1, 1200)))


def _amax(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    acc = _acc(rng)
    ran = dsp.amax(acc)
    return [(ran.result, QTensor(acc, 0).amax())], ran.counts


def _requantise(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    acc, store = _acc(rng), draws.store(rng)
    ran = dsp.requantise(acc, store)
    return _pairs(ran.result, stored(acc.astype(np.int64), store)), ran.counts


def _rescale(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    acc, rule = _acc(rng), draws.rule(rng)
    if rng.integers(3) == 0:
        acc >>= rng.integers(16, 32)  # small values: casts, clips, left shifts, dropped ones
    ran, want = dsp.rescale(acc, rule), rescale(acc, 0, rule, threads=1)
    wanted = Stored(want.tensor.int8, want.amax, want.saturated, want.lost)
    return [(ran.result.shift, want.shift), *_pairs(ran.result.stored, wanted)], ran.counts


def _relu_forward(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    x = draws.int8s(rng, int(rng.integers(1, 2000)))
    ran = dsp.relu_forward(x)
    return [(ran.result, relu_forward(x, threads=1))], ran.counts


def _relu_input_grad(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    e = draws.int8s(rng, int(rng.integers(1, 2000)))
    y, bound = draws.int8s(rng, e.size), int(rng.integers(1, 129))
    ran = dsp.relu_input_grad(e, y, bound)
    return [(ran.result, relu_input_grad(e, y, threads=1, bound=bound))], ran.counts


def _max_pool_forward(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    op = draws.max_pool(rng)
    x = draws.int8s(rng, op.n, op.h, op.w, op.c)
    ran = dsp.max_pool_forward(x, op)
    return [(ran.result, max_pool_forward(x, op, threads=1))], ran.counts


def _max_pool_input_grad(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    op = draws.max_pool(rng)
    x, e = (
        draws.int8s(rng, op.n, op.h, op.w, op.c),
        draws.int8s(rng, op.n, op.h_out, op.w_out, op.c),
    )
    ran = dsp.max_pool_input_grad(x, e, op)
    return [(ran.result, max_pool_input_grad(x, e, op, threads=1))], ran.counts


def _add(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    size, rule = int(rng.integers(1, 1000)), draws.rule(rng)
    count = 2 if rng.integers(2) else int(rng.integers(1, 6))
    reach = int(rng.integers(0, 40))
    terms = [
        QTensor(draws.int8s(rng, size), int(rng.integers(-reach, reach + 1))) for _ in range(count)
    ]
    shift = int(rng.integers(-8, 32)) if rng.integers(2) else None
    aligned = AlignedSum(terms, rule.rounding)
    lefts = add_lefts(terms, aligned.exponent)
    ran = dsp.add([term.int8 for term in terms], lefts, rule, shift)
    want = add(terms, rule, threads=1, shift=shift)
    wanted = Stored(want.tensor.int8, want.amax, want.saturated, want.lost)
    return [(ran.result.shift, want.shift), *_pairs(ran.result.stored, wanted)], ran.counts


def _transpose(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    rows, columns = (int(2 ** rng.uniform(0, 9)) for _ in range(2))
    x = draws.int8s(rng, int(rng.integers(1, 4)), rows, columns)
    ran = dsp.transpose(x)
    return [(ran.result, x.transpose(0, 2, 1))], ran.counts


def _deep(x: NDArray[np.int8]) -> NDArray[np.int8]:
    n, h, w, c = x.shape
    slices = -(-c // 32)
    full = np.pad(x, ((0, 0), (0, 0), (0, 0), (0, 32 * slices - c)))
    return np.ascontiguousarray(full.reshape(n, h, w, slices, 32).transpose(0, 1, 3, 2, 4))


def _map(rng: np.random.Generator) -> NDArray[np.int8]:
    n, h, w, c = (int(rng.integers(1, most)) for most in (4, 7, 9, 140))
    return draws.int8s(rng, n, h, w, c)


def _to_d32(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    x = _map(rng)
    ran = dsp.to_d32(x)
    return [(ran.result, _deep(x))], ran.counts


def _from_d32(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    x = _map(rng)
    ran = dsp.from_d32(_deep(x), x.shape[3])
    return [(ran.result, x)], ran.counts


def _rotate180(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    w = draws.int8s(rng, *(int(rng.integers(1, most)) for most in (9, 6, 6, 200)))
    ran = dsp.rotate180(w)
    return [(ran.result, w[:, ::-1, ::-1])], ran.counts


def _niti_update(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    w = draws.int8s(rng, int(rng.integers(1, 2000)))
    g, wrap = draws.int8s(rng, w.size), bool(rng.integers(2))
    ran = dsp.niti_update(w, g, wrap=wrap)
    return [(ran.result, niti_update(w.copy(), g, wrap=wrap, threads=1))], ran.counts


def _wide_update(rng: np.random.Generator, dsp: HexagonKernels) -> Found:
    size = int(rng.integers(1, 800))
    master, velocity = draws.int32s(rng, size), draws.int32s(rng, size)
    np.maximum(master, -(2**31) + 1, out=master)
    gradient = (draws.int8s, draws.int32s)[rng.integers(2)](rng, size)
    rates = tuple(int(rng.integers(0, most + 1)) for most in (1 << 24, 1 << 16, 1 << 24))
    exponent, left = int(rng.integers(-40, 1)), int(rng.integers(-70, 50))
    # A copy: the kernel of this repository works in place.
    weight = wide_weight(master.copy(), velocity.copy(), exponent, threads=1)
    given = left + exponent - VELOCITY_BITS
    shifts = update_shifts(weight, given)
    ran = dsp.wide_update(master, velocity, gradient, shifts, (rates[0], rates[1], rates[2]))
    saturated = wide_update(
        weight, gradient, given,
        rate_q24=rates[0], momentum_q16=rates[1], decay_q32=rates[2], threads=1,
    )  # fmt: skip
    answer, shift, count = ran.result
    wanted = (weight.master, weight.velocity, weight.working.int8)
    pairs = list(zip(answer.tensors, wanted, strict=True))
    return [*pairs, ((shift, count), (weight.working.exponent - exponent, saturated))], ran.counts


CHECKS: dict[Kernel, Check] = {
    Kernel.GEMM: _gemm,
    Kernel.CONV_FORWARD: _conv_forward,
    Kernel.CONV_INPUT_GRAD: _conv_input_grad,
    Kernel.CONV_WEIGHT_GRAD: _conv_weight_grad,
    Kernel.AMAX: _amax,
    Kernel.REQUANTISE: _requantise,
    Kernel.RESCALE: _rescale,
    Kernel.RELU_FORWARD: _relu_forward,
    Kernel.RELU_INPUT_GRAD: _relu_input_grad,
    Kernel.MAX_POOL_FORWARD: _max_pool_forward,
    Kernel.MAX_POOL_INPUT_GRAD: _max_pool_input_grad,
    Kernel.ADD: _add,
    Kernel.TRANSPOSE: _transpose,
    Kernel.TO_D32: _to_d32,
    Kernel.FROM_D32: _from_d32,
    Kernel.ROTATE180: _rotate180,
    Kernel.NITI_UPDATE: _niti_update,
    Kernel.WIDE_UPDATE: _wide_update,
}
"""Every kernel but ``INFO``, with its check."""
