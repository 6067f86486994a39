"""FP32 pooling, pointwise operators, batch norm, loss, update and initial weights."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.arrays import ArrayError
from kernels.conv import Conv2d
from kernels.fp32 import init, loss, norm, oracle, pointwise, pool
from kernels.fp32.update import sgd_update
from kernels.int8.pointwise import dropout_mask
from kernels.linear import Linear
from kernels.loss import SoftmaxCrossEntropy
from kernels.norm import BatchNorm2d
from kernels.operators import OperatorError
from kernels.pool import AvgPool2d, GlobalAvgPool, MaxPool2d

THREADS = (1, 2, 3)
MANY = 70_001  # elements for which threads are really used; odd


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def pools(kind: type, cases: int, seed: int) -> list:
    """Drawn poolings of odd sizes, with padding, overlap, gaps and partial windows."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < cases:
        sizes = {name: int(rng.integers(1, 15)) for name in ("h", "w")}
        try:
            found.append(
                kind(
                    n=int(rng.integers(1, 5)),
                    c=int(rng.integers(1, 40)),
                    **sizes,
                    k=(int(rng.integers(1, 5)), int(rng.integers(1, 5))),
                    stride=int(rng.integers(1, 5)),
                    pad=(int(rng.integers(0, 3)), int(rng.integers(0, 3))),
                    ceil_mode=bool(rng.integers(2)),
                )
            )
        except OperatorError:
            continue
    return found


def test_max_pooling_equals_the_oracle_ties_included() -> None:
    ops = [
        *pools(MaxPool2d, 150, 1),
        MaxPool2d(n=5, c=64, h=33, w=33, k=3, stride=2, pad=1, ceil_mode=True),
        MaxPool2d(n=9, c=96, h=16, w=16, k=2, stride=2),
    ]
    for seed, op in enumerate(ops):
        x = np.rint(2 * draw(seed, op.n, op.h, op.w, op.c))  # many ties
        e = np.rint(9 * draw(seed + 1, op.n, op.h_out, op.w_out, op.c))  # exact sums
        for threads in THREADS:
            assert np.array_equal(
                pool.max_pool_forward(x, op, threads=threads), oracle.max_pool_forward(x, op)
            ), op
            assert np.array_equal(
                pool.max_pool_input_grad(x, e, op, threads=threads),
                oracle.max_pool_input_grad(x, e, op),
            ), op


def test_average_pooling_equals_the_oracle() -> None:
    ops = [
        *pools(AvgPool2d, 150, 2),
        AvgPool2d(n=5, c=64, h=33, w=33, k=3, stride=2, pad=1, ceil_mode=True),
    ]
    for seed, op in enumerate(ops):
        x, e = draw(seed, op.n, op.h, op.w, op.c), draw(seed + 1, op.n, op.h_out, op.w_out, op.c)
        want = (oracle.avg_pool_forward(x, op), oracle.avg_pool_input_grad(e, op))
        seen = set()
        for threads in THREADS:
            y = pool.avg_pool_forward(x, op, threads=threads)
            dx = pool.avg_pool_input_grad(e, op, threads=threads)
            np.testing.assert_allclose(y, want[0], atol=1e-6, err_msg=str(op))
            np.testing.assert_allclose(dx, want[1], atol=3e-6, err_msg=str(op))
            seen.add(y.tobytes() + dx.tobytes())
        assert len(seen) == 1


def test_a_window_over_the_edge_divides_by_what_it_covers_with_padding() -> None:
    """``torch.nn.AvgPool2d(3, 2, 1, ceil_mode=True)`` on a 4x4 map of ones."""
    op = AvgPool2d(n=1, c=1, h=4, w=4, k=3, stride=2, pad=1, ceil_mode=True)
    y = pool.avg_pool_forward(np.ones((1, 4, 4, 1), np.float32), op)[0, :, :, 0]
    want = np.outer([2 / 3, 1, 1 / 2], [2 / 3, 1, 1 / 2])
    np.testing.assert_allclose(y, want, rtol=1e-6)


def test_global_average_and_its_gradient() -> None:
    op = GlobalAvgPool(n=3, c=37, h=7, w=5)
    x, e = draw(0, 3, 7, 5, 37), draw(1, 3, 1, 1, 37)
    y = pool.avg_pool_forward(x, op)
    np.testing.assert_allclose(y, x.mean(axis=(1, 2), keepdims=True, dtype=float), atol=1e-6)
    dx = pool.avg_pool_input_grad(e, op)
    np.testing.assert_allclose(dx, np.broadcast_to(e / 35, x.shape), rtol=1e-6)


def test_nan_is_seen_by_pooling_and_relu() -> None:
    x = np.array([np.nan, 1, 2, 3], np.float32).reshape(1, 2, 2, 1)
    for order in (x, x[:, ::-1, ::-1].copy()):
        op = MaxPool2d(n=1, c=1, h=2, w=2, k=2, stride=2)
        assert np.isnan(pool.max_pool_forward(order, op)).all()
        assert np.isnan(pointwise.relu_forward(order)).sum() == 1
        assert np.isnan(pointwise.relu6_forward(order)).sum() == 1


@pytest.mark.parametrize("size", [1, 9, MANY])
def test_activations_and_sums_are_what_numpy_says(size: int) -> None:
    x, e = 4 * draw(0, size), draw(1, size)
    x[: size // 3] = np.repeat(np.array([0, 6, -1], np.float32), size)[: size // 3]
    for threads in THREADS:
        y = pointwise.relu_forward(x, threads=threads)
        assert np.array_equal(y, np.maximum(x, 0))
        assert np.array_equal(pointwise.relu_input_grad(e, y, threads=threads), e * (y > 0))
        y = pointwise.relu6_forward(x, threads=threads)
        assert np.array_equal(y, np.clip(x, 0, 6))
        masked = e * ((y > 0) & (y < 6))
        assert np.array_equal(pointwise.relu6_input_grad(e, y, threads=threads), masked)
        assert np.array_equal(pointwise.add([x, e], threads=threads), x + e)
        assert np.array_equal(pointwise.add([x, e, y, x], threads=threads), x + e + y + x)
    same = x.copy()
    assert pointwise.relu_forward(same, out=same) is same
    assert np.array_equal(same, np.maximum(x, 0))


@pytest.mark.parametrize("shape", [(3, 5), (7, 10_003)])
@pytest.mark.parametrize("shared", [False, True])
def test_dropout_doubles_what_the_mask_keeps(shape: tuple[int, ...], shared: bool) -> None:
    x = draw(0, *shape)
    mask = dropout_mask(shape, 99, shared=shared)
    for threads in THREADS:
        y = pointwise.dropout(x, mask, threads=threads)
        assert np.array_equal(y, 2 * x * mask)
    assert pointwise.dropout(x, mask, out=x) is x
    assert np.array_equal(x, y)


def test_concat_and_split_undo_each_other() -> None:
    parts = [draw(c, 2, 3, 3, c) for c in (5, 1, 7)]
    whole = pointwise.concat(parts)
    assert np.array_equal(whole, np.concatenate(parts, axis=-1))
    for part, back in zip(parts, pointwise.split(whole, (5, 1, 7)), strict=True):
        assert np.array_equal(part, back)
        assert back.flags.c_contiguous


NORMS = [
    BatchNorm2d(n=2, c=3, h=3, w=2),
    BatchNorm2d(n=1, c=1, h=1, w=2),
    BatchNorm2d(n=7, c=67, h=19, w=17),
]


@pytest.mark.parametrize("op", NORMS, ids=str)
def test_batch_norm_follows_its_formulas(op: BatchNorm2d) -> None:
    x = 3 * draw(0, op.n, op.h, op.w, op.c) + 100 * draw(4, op.c)
    gamma, beta, e = draw(1, op.c), draw(2, op.c), draw(3, *x.shape)
    running = norm.RunningStatistics.fresh(op)
    y, mean, inv_std = norm.norm_forward(x, gamma, beta, op, running=running)
    rows = x.reshape(-1, op.c).astype(float)
    var = rows.var(axis=0)
    hat = (rows - rows.mean(axis=0)) / np.sqrt(var + 1e-5)
    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(var + 1e-5), rtol=1e-6)
    np.testing.assert_allclose(y.reshape(-1, op.c), gamma * hat + beta, **close)
    np.testing.assert_allclose(running.mean, 0.1 * rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(running.var, 0.9 + 0.1 * rows.var(axis=0, ddof=1), rtol=1e-5)
    dgamma, dbeta = norm.norm_weight_grad(x, e, mean, inv_std, op)
    errors = e.reshape(-1, op.c).astype(float)
    np.testing.assert_allclose(dbeta, errors.sum(axis=0), **close)
    np.testing.assert_allclose(dgamma, (errors * hat).sum(axis=0), rtol=1e-4, atol=1e-3)
    dx = norm.norm_input_grad(x, e, gamma, mean, inv_std, dgamma, dbeta, op)
    centred = errors - errors.mean(axis=0) - hat * (errors * hat).mean(axis=0)
    want = gamma / np.sqrt(var + 1e-5) * centred
    np.testing.assert_allclose(dx.reshape(-1, op.c), want, rtol=1e-3, atol=1e-4)
    y = norm.norm_evaluate(x, gamma, beta, running, op)
    scale = gamma / np.sqrt(running.var.astype(float) + 1e-5)
    np.testing.assert_allclose(
        y.reshape(-1, op.c), (rows - running.mean) * scale + beta, rtol=1e-4, atol=1e-3
    )


def test_batch_norm_gradients_are_slopes() -> None:
    op, step = BatchNorm2d(n=2, c=2, h=2, w=3), 1e-4
    x, gamma, beta, e = draw(0, 2, 2, 3, 2), draw(1, 2), draw(2, 2), draw(3, 2, 2, 3, 2)

    def total(values: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> float:
        spread = np.sqrt(values.var(axis=(0, 1, 2)) + 1e-5)
        return float(((scale * (values - values.mean(axis=(0, 1, 2))) / spread + shift) * e).sum())

    _, mean, inv_std = norm.norm_forward(x, gamma, beta, op)
    dgamma, dbeta = norm.norm_weight_grad(x, e, mean, inv_std, op)
    dx = norm.norm_input_grad(x, e, gamma, mean, inv_std, dgamma, dbeta, op)
    wide = [a.astype(float) for a in (x, gamma, beta)]
    for number, grad in enumerate((dx, dgamma, dbeta)):
        for at in np.ndindex(grad.shape):
            ends = []
            for sign in (1, -1):
                moved = [a.copy() for a in wide]
                moved[number][at] += sign * step
                ends.append(total(*moved))
            assert grad[at] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-4)


def test_batch_norm_gives_the_same_bits_for_all_threads_and_runs() -> None:
    op = BatchNorm2d(n=6, c=33, h=31, w=29)
    x, gamma, e = draw(0, 6, 31, 29, 33), draw(1, 33), draw(3, 6, 31, 29, 33)
    seen = set()
    for threads in (*THREADS, 2):
        y, mean, inv_std = norm.norm_forward(x, gamma, gamma, op, threads=threads)
        sums = norm.norm_weight_grad(x, e, mean, inv_std, op, threads=threads)
        dx = norm.norm_input_grad(x, e, gamma, mean, inv_std, *sums, op, threads=threads)
        seen.add(b"".join(a.tobytes() for a in (y, mean, inv_std, *sums, dx)))
    assert len(seen) == 1


def test_loss_and_error_agree_with_each_other_and_with_the_formula() -> None:
    op = SoftmaxCrossEntropy(n=5, classes=7)
    logits, labels = 3 * draw(0, 5, 7), np.array([0, 6, 3, 3, 1])
    wide = np.exp(logits.astype(float))
    p = wide / wide.sum(axis=1, keepdims=True)
    assert loss.cross_entropy(logits, labels, op) == pytest.approx(
        -np.log(p[np.arange(5), labels]).mean()
    )
    np.testing.assert_allclose(
        loss.cross_entropy_grad(logits, labels, op), (p - np.eye(7)[labels]) / 5, atol=1e-7
    )
    far = logits.copy()
    far[0] = [1e4, -1e4, 0, 0, 0, 0, -1e4]
    labels[0] = 1
    assert loss.cross_entropy(far, labels, op) > 3999
    assert np.isfinite(loss.cross_entropy_grad(far, labels, op)).all()


@pytest.mark.parametrize("size", [3, MANY])
def test_update_follows_sgd_with_momentum_and_decay(size: int) -> None:
    start, gradients = draw(0, size), [draw(seed, size) for seed in (1, 2, 3)]
    seen = set()
    for threads in THREADS:
        w, v = start.copy(), np.zeros(size, np.float32)
        wide, speed = start.astype(float), 0.0
        for g in gradients:
            sgd_update(w, g, v, rate=0.1, momentum=0.9, weight_decay=5e-2, threads=threads)
            speed = 0.9 * speed + g + 5e-2 * wide
            wide = wide - 0.1 * speed
        np.testing.assert_allclose(w, wide, atol=1e-5)
        np.testing.assert_allclose(v, speed, atol=1e-5)
        seen.add(w.tobytes())
    assert len(seen) == 1
    plain = start.copy()
    sgd_update(plain, gradients[0], rate=0.5, weight_decay=0.1)
    np.testing.assert_allclose(plain, start - 0.5 * (gradients[0] + 0.1 * start), atol=1e-6)


@pytest.mark.parametrize("rule", init.RULES)
def test_initial_weights_have_the_spread_that_their_rule_states(rule: str) -> None:
    op = Conv2d(n=1, c_in=48, h=9, w=9, c_out=64, k=(3, 5), groups=2)
    w = init.initial_weight(op, rule, np.random.default_rng(7))
    assert (w.shape, w.dtype) == ((64, 3, 5, 24), np.float32)
    fan_in, fan_out = 24 * 15, 64 * 15
    std = np.sqrt(2 / fan_in if "he" in rule else 2 / (fan_in + fan_out))
    assert w.std() == pytest.approx(std, rel=0.02)
    assert abs(w.mean()) < 0.02 * std
    if rule.endswith("uniform"):
        assert np.abs(w).max() == pytest.approx(np.sqrt(3) * std, rel=1e-2)
        assert np.abs(w).max() <= np.sqrt(3) * std * (1 + 1e-6)
    assert np.array_equal(w, init.initial_weight(op, rule, np.random.default_rng(7)))
    assert init.initial_weight(
        Linear(n=1, c_in=4, c_out=3), rule, np.random.default_rng(0)
    ).shape == (3, 4)


def test_wrong_input_is_refused_by_name() -> None:
    x, op = draw(0, 1, 2, 2, 3), SoftmaxCrossEntropy(n=2, classes=3)
    batch, c = BatchNorm2d(n=1, c=3, h=2, w=2), draw(1, 3)
    logits = draw(2, 2, 3)
    bad = [
        (lambda: pool.max_pool_forward(x, MaxPool2d(n=1, c=2, h=2, w=2, k=2, stride=2)), "x has"),
        (lambda: pointwise.relu_forward(x.astype(np.float64)), "x is float64"),
        (lambda: pointwise.relu_input_grad(x, x[0]), "y has shape"),
        (lambda: pointwise.relu_forward(x, out=x[:]), "shares memory"),
        (lambda: pointwise.dropout(x, x > 0), "mask is bool"),
        (lambda: pointwise.add([x]), "terms has 1"),
        (lambda: pointwise.concat([]), "parts is empty"),
        (lambda: pointwise.concat([x, x[:, :1].copy()]), r"parts\[1\] has shape"),
        (lambda: pointwise.split(x, (1, 1)), "channels is"),
        (lambda: norm.norm_forward(x, c, c[:2].copy(), batch), "beta has shape"),
        (lambda: norm.norm_forward(x, c, c, batch, eps=0.0), "eps is 0.0"),
        (lambda: norm.norm_forward(x, c, c, batch, momentum=1.5), "momentum is 1.5"),
        (lambda: loss.cross_entropy(logits, np.array([0, 3]), op), r"labels span 0 \.\. 3"),
        (lambda: loss.cross_entropy(logits, np.array([0.0, 1.0]), op), "labels are float64"),
        (lambda: loss.cross_entropy_grad(logits, np.array([0]), op), "labels have shape"),
        (lambda: sgd_update(c, c.copy(), rate=-1), "rate is -1"),
        (lambda: sgd_update(c, c.copy(), rate=0.1, momentum=0.9), "without a velocity"),
        (lambda: init.initial_weight(Linear(n=1, c_in=1, c_out=1), "zeros", None), "rule is"),
    ]
    for call, message in bad:
        with pytest.raises(ArrayError, match=message):
            call()
