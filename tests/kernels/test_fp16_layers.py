"""Layers in 16-bit floats against written-out sums of exact fractions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from fp16_cases import (
    ACCEPT,
    QUICK,
    Case,
    any_form,
    any_rule,
    assert_bits,
    draw_conv,
    error_row,
    expected_product,
    run_cases,
    transposed,
    values,
    window_row,
)

from kernels.arrays import ArrayError, Floats
from kernels.conv import Conv2d
from kernels.fp16 import oracle
from kernels.fp16.conv import (
    bias_grad,
    conv_forward,
    conv_input_grad,
    conv_weight_grad,
)
from kernels.fp16.elementwise import (
    add,
    avg_pool_forward,
    avg_pool_input_grad,
    max_pool_input_grad,
    relu_forward,
    relu_input_grad,
    sgd_update,
)
from kernels.fp16.formats import FP16, encode
from kernels.fp16.linear import linear_forward, linear_input_grad, linear_weight_grad
from kernels.fp16.loss import cross_entropy_grad
from kernels.fp16.products import HalfRule
from kernels.linear import Linear
from kernels.operators import channels_last
from kernels.pool import AvgPool2d, GlobalAvgPool, MaxPool2d


def forward_case(rng: np.random.Generator) -> None:
    op, rule = draw_conv(rng), any_rule(rng)
    x = values(rng, channels_last(op.inputs[0]), rule.form)
    w = values(rng, channels_last(op.weights[0]), rule.form)
    bias = values(rng, (op.c_out,), rule.form) if rng.integers(2) else None
    got = conv_forward(x, w, op, rule, bias=bias)
    each = op.c_out // op.groups
    places = [(i, j) for i in range(op.h_out) for j in range(op.w_out)]
    for sample in range(op.n):
        for g in range(op.groups):
            rows = np.array([window_row(x[sample], op, g, i, j) for i, j in places], np.float32)
            filters = w[g * each : (g + 1) * each].transpose(0, 3, 1, 2).reshape(each, -1)
            sums = expected_product(filters, rows.T, rule, transposed(op))
            shaped = np.array(sums).reshape(each, op.h_out, op.w_out).transpose(1, 2, 0)
            if bias is not None:
                shaped = np.vectorize(lambda a, b: oracle.total(a, b, rule.form))(
                    shaped, bias[g * each : (g + 1) * each].astype(np.float64)
                )
            assert_bits(got[sample, ..., g * each : (g + 1) * each], shaped, rule.form)


def input_grad_case(rng: np.random.Generator) -> None:
    op, rule = draw_conv(rng), any_rule(rng)
    e = values(rng, channels_last(op.output), rule.form)
    w = values(rng, channels_last(op.weights[0]), rule.form)
    got = conv_input_grad(e, w, op, rule)
    outs, ins = op.c_out // op.groups, op.c_in // op.groups
    places = [(i, j) for i in range(op.h) for j in range(op.w)]
    for sample in range(op.n):
        for g in range(op.groups):
            rows = np.array([error_row(e[sample], op, g, i, j) for i, j in places], np.float32)
            turned = w[g * outs : (g + 1) * outs, ::-1, ::-1]
            filters = turned.transpose(3, 0, 1, 2).reshape(ins, -1)
            sums = expected_product(filters, rows.T, rule, transposed(op))
            shaped = np.array(sums).reshape(ins, op.h, op.w).transpose(1, 2, 0)
            assert_bits(got[sample, ..., g * ins : (g + 1) * ins], shaped, rule.form)


def weight_grad_case(rng: np.random.Generator) -> None:
    op, rule = draw_conv(rng), any_rule(rng)
    x = values(rng, channels_last(op.inputs[0]), rule.form)
    e = values(rng, channels_last(op.output), rule.form)
    got = conv_weight_grad(x, e, op, rule)
    outs, ins = op.c_out // op.groups, op.c_in // op.groups
    places = [(i, j) for i in range(op.h_out) for j in range(op.w_out)]
    for g in range(op.groups):
        total = None
        for sample in range(op.n):
            rows = np.array([window_row(x[sample], op, g, i, j) for i, j in places], np.float32)
            errors = e[sample, ..., g * outs : (g + 1) * outs].reshape(-1, outs).T
            sums = expected_product(errors, rows, rule, op.pointwise)
            pairs = zip(total or [], sums, strict=bool(total))
            total = [oracle.total(a, b, rule.form) for a, b in pairs] if total else sums
        shaped = np.array(total).reshape(outs, ins, op.k_h, op.k_w).transpose(0, 2, 3, 1)
        assert_bits(got[g * outs : (g + 1) * outs], shaped, rule.form)


def linear_case(rng: np.random.Generator) -> None:
    rule = any_rule(rng)
    outs, ins = (int(size) for size in rng.integers(1, 9, 2))
    op = Linear(1, ins, outs)
    x, w = values(rng, (1, ins), rule.form), values(rng, (outs, ins), rule.form)
    e = values(rng, (1, outs), rule.form)
    cases = (
        (linear_forward(x, w, op, rule), expected_product(w, x.T, rule, False)),
        (linear_input_grad(e, w, op, rule), expected_product(e, w, rule, False)),
        (linear_weight_grad(x, e, op, rule), expected_product(e.T, x, rule, False)),
    )
    for got, wanted in cases:
        assert_bits(got, wanted, rule.form)


def bias_case(rng: np.random.Generator) -> None:
    rule = any_rule(rng)
    e = values(rng, (1, 3, 2, 4), rule.form)
    ones = [1.0] * 6
    wanted = [
        oracle.dot(ones, e.reshape(6, 4)[:, c].tolist(), rule.form, "sequential", rule.fused)
        for c in range(4)
    ]
    assert_bits(bias_grad(e, rule), wanted, rule.form)


def add_case(rng: np.random.Generator) -> None:
    form = any_form(rng)
    a, b, c = (values(rng, (7,), form) for _ in range(3))
    wanted = [
        oracle.total(oracle.total(float(p), float(q), form), float(r), form)
        for p, q, r in zip(a, b, c, strict=True)
    ]
    assert_bits(add([a, b, c], form), wanted, form)


def numbers(x: Floats) -> Floats:
    """``x`` with 1 in the place of every NaN."""
    return np.where(np.isnan(x), np.float32(1), x)


def relu_case(rng: np.random.Generator) -> None:
    """Any bits, the negative zero and NaN included."""
    form = any_form(rng)
    x, e = (values(rng, (2, 3, 3, 2), form) for _ in range(2))
    y = relu_forward(x)
    kept = [value if value > 0 else 0.0 for value in x.reshape(-1).tolist()]
    assert_bits(y, kept, form)
    passed = zip(e.reshape(-1).tolist(), x.reshape(-1).tolist(), strict=True)
    assert_bits(relu_input_grad(e, y), [a if b > 0 else 0.0 for a, b in passed], form)


def pool_case(rng: np.random.Generator) -> None:
    form = any_form(rng)
    side = int(rng.integers(2, 5))
    x = values(rng, (1, side, side, 2), form)
    op: AvgPool2d | GlobalAvgPool = GlobalAvgPool(1, 2, side, side)
    steps = [(0, 0, side)]
    if rng.integers(2):
        op = AvgPool2d(1, 2, side, side, 2, 1)
        steps = [(i, j, 2) for i in range(side - 1) for j in range(side - 1)]
    wanted = []
    for i, j, k in steps:
        for c in range(2):
            total = 0.0
            for value in x[0, i : i + k, j : j + k, c].reshape(-1).tolist():
                total = oracle.total(total, value, form)
            finite = math.isfinite(total)
            exact = oracle.Fraction(total) / (k * k) if finite else None
            wanted.append(total if exact is None else oracle.rounded(exact, form, total))
    assert_bits(avg_pool_forward(x, op, form), wanted, form)


def pool_grad_case(rng: np.random.Generator) -> None:
    """Windows that do not overlap: one division, or one winner each, added to +0."""
    form = any_form(rng)
    e = numbers(values(rng, (1, 2, 2, 1), form)) + np.float32(0)  # of zeros, the positive one
    shares = [
        oracle.rounded(oracle.Fraction(v) / 4, form, v) if math.isfinite(v) else v
        for v in e.reshape(-1).tolist()
    ]
    wanted = np.array(shares).reshape(2, 2).repeat(2, 0).repeat(2, 1)
    assert_bits(avg_pool_input_grad(e, AvgPool2d(1, 1, 4, 4, 2, 2), form), wanted, form)
    x = rng.permutation(16).astype(np.float32).reshape(1, 4, 4, 1)
    tops = x.reshape(2, 2, 2, 2).max(axis=(1, 3)).repeat(2, 0).repeat(2, 1)
    spread = e.reshape(2, 2).repeat(2, 0).repeat(2, 1)
    wanted = np.where(x[0, :, :, 0] == tops, spread, 0.0)
    assert_bits(max_pool_input_grad(x, e, MaxPool2d(1, 1, 4, 4, 2, 2), form), wanted, form)


def update_case(rng: np.random.Generator) -> None:
    form = any_form(rng)
    w, g, v, lost = (values(rng, (5,), form) for _ in range(4))
    kept = bool(rng.integers(2))
    constants = values(rng, (3,), form)
    rate, momentum, decay = np.where(np.isfinite(constants), constants, 0.5).astype(float).tolist()
    if rng.integers(2):
        momentum = decay = 0.0
    weights, steps, losses = [], [], []
    for a, b, c, d in zip(w.tolist(), g.tolist(), v.tolist(), lost.tolist(), strict=True):
        step = oracle.multiply_add(decay, a, b, form) if decay else b
        step = oracle.multiply_add(momentum, c, step, form) if momentum else step
        steps.append(step if momentum else c)
        if not kept:
            weights.append(oracle.multiply_add(-rate, step, a, form))
            continue
        change = oracle.multiply_add(-rate, step, -d, form)
        weights.append(oracle.total(a, change, form))
        losses.append(oracle.total(oracle.total(weights[-1], -a, form), -change, form))
    hyper = {"rate": rate, "momentum": momentum, "weight_decay": decay}
    sgd_update(w, g, v, form, lost=lost if kept else None, **hyper)
    assert_bits(w, weights, form)
    if kept:
        assert_bits(lost, losses, form)
    assert_bits(v, steps, form)


def loss_case(rng: np.random.Generator) -> None:
    form = any_form(rng)
    logits = np.clip(np.nan_to_num(values(rng, (2, 5), form)), -60, 60)
    labels = rng.integers(0, 5, 2)
    wanted = []
    for row, label in zip(logits.astype(np.float64), labels, strict=True):
        powers = [math.exp(value - row.max()) for value in row.tolist()]
        whole = float(np.sum(powers))
        shares = [one / whole - (c == label) for c, one in enumerate(powers)]
        wanted += [oracle.rounded(oracle.Fraction(share / 2), form, 0.0) for share in shares]
    got = cross_entropy_grad(logits, labels, form)
    # exp of two libraries may differ in the last of 53 bits: the bits here by one in 2^40
    assert_bits(got, wanted, form)


CASES: dict[str, Case] = {
    "conv_forward": forward_case,
    "conv_input_grad": input_grad_case,
    "conv_weight_grad": weight_grad_case,
    "linear": linear_case,
    "bias_grad": bias_case,
    "add": add_case,
    "relu": relu_case,
    "avg_pool": pool_case,
    "pool_grad": pool_grad_case,
    "sgd_update": update_case,
    "cross_entropy": loss_case,
}


@pytest.mark.parametrize("name", CASES)
def test_layers_equal_the_oracle(name: str) -> None:
    run_cases(CASES[name], QUICK // 2)


@pytest.mark.accept
@pytest.mark.parametrize("name", CASES)
def test_layers_equal_the_oracle_on_many_cases(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    run_cases(CASES[name], ACCEPT)
    record_property("cases", ACCEPT)


def test_drawn_convolutions_cover_depthwise_and_pointwise() -> None:
    drawn = [draw_conv(np.random.default_rng(seed)) for seed in range(QUICK // 2)]
    assert sum(op.depthwise for op in drawn) > 3
    assert sum(op.pointwise for op in drawn) > 3
    assert sum(op.stride > 1 for op in drawn) > 3


def test_a_lost_step_leaves_the_weight() -> None:
    w, g = np.array([1.0], np.float32), np.array([1e-1], np.float32)
    sgd_update(w, g, np.zeros_like(w), FP16, rate=2.0**-10)
    assert w[0] == 1.0


def test_a_compensated_step_is_not_lost() -> None:
    w, g, lost = np.array([1.0], np.float32), np.array([1e-1], np.float32), np.zeros(1, np.float32)
    for _ in range(64):
        sgd_update(w, g, np.zeros_like(w), FP16, rate=2.0**-10, lost=lost)
    assert w[0] - lost[0] == pytest.approx(1 - 6.4 * 2.0**-10, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lost": np.zeros((3, 4), np.float32)}, r"lost has shape \(3, 4\)"),
        ({"weight": np.zeros((3, 4), np.float32).T}, "weight is not C-contiguous"),
        ({"grad": np.zeros((3, 2), np.float32)}, r"grad has shape \(3, 2\); allowed: \(4, 3\)"),
        ({"velocity": np.zeros(12, np.float32)}, r"velocity has shape \(12,\)"),
        ({"grad": np.zeros((4, 3))}, "grad is float64"),
    ],
)
def test_an_update_refuses_what_it_would_not_change_whole(
    change: dict[str, object], message: str
) -> None:
    names = ("weight", "grad", "velocity")
    arguments: dict[str, object] = {name: np.zeros((4, 3), np.float32) for name in names}
    arguments |= {"form": FP16, "rate": 0.1, "momentum": 0.9}
    with pytest.raises(ArrayError, match=message):
        sgd_update(**(arguments | change))  # type: ignore[arg-type]


def test_samples_of_a_batch_are_added_one_by_one() -> None:
    op = Conv2d(n=2, c_in=1, h=1, w=1, c_out=1, k=1)
    x = np.array([2048.0, 1.0], np.float32).reshape(2, 1, 1, 1)
    grad = conv_weight_grad(x, np.ones_like(x), op, HalfRule())
    assert encode(grad, FP16).tolist() == encode(np.full_like(grad, 2048.0), FP16).tolist()
