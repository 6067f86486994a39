"""HVX kernels equal this repository's, bit for bit, in the real emulator."""

from __future__ import annotations

import numpy as np
import pytest
from hexagon_cases import KERNELS, need_tools

from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.errors import KernelError
from hw_bridge.hexagon.expected import CHECKS, stored
from hw_bridge.hexagon.protocol import Kernel, Status
from hw_bridge.hexagon.runner import Runner
from hw_bridge.hexagon.toolchain import ARCHITECTURES
from hw_bridge.hexagon.verify import run_case, verify
from hw_bridge.hexagon.words import ROUNDINGS
from kernels.conv import Conv2d
from kernels.int8.stored import Store
from kernels.rounding import NITI_CLIP

QUICK_CASES, ACCEPT_CASES = 6, 10_000
WORST = Conv2d(n=8, c_in=8, h=4, w=4, c_out=8, k=3, pad=1)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name.lower())
def test_drawn_cases_agree(runner: Runner, kernel: Kernel) -> None:
    assert all(run_case(runner, kernel, seed=1, case=case)[0] for case in range(QUICK_CASES))


@pytest.mark.parametrize("arch", ARCHITECTURES[1:])
def test_later_builds_agree(arch: str) -> None:
    need_tools()
    verdicts = verify(arch, len(KERNELS), KERNELS, seed=2)
    assert [v.kernel for v in verdicts if v.mismatches] == []


@pytest.mark.accept
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_many_cases_agree(arch: str, record_property: pytest.RecordProperty) -> None:  # type: ignore[name-defined]
    need_tools()
    verdicts = verify(arch, ACCEPT_CASES, KERNELS)
    record_property("cases", sum(v.cases for v in verdicts))
    assert [v.examples for v in verdicts if v.mismatches] == []


def test_every_kernel_has_a_check() -> None:
    assert set(CHECKS) == set(KERNELS)


@pytest.mark.parametrize("rule", ROUNDINGS)
def test_every_shift_at_the_ends_of_int32(runner: Runner, rule: object) -> None:
    powers = [1 << bit for bit in range(31)]
    ends = [-(2**31), 2**31 - 1, 0]
    near = {p + d for p in powers for d in (-1, 0, 1)} | {
        -p - d for p in powers for d in (-1, 0, 1)
    }
    acc = np.array(sorted({*ends, *near}), np.int32)
    dsp = HexagonKernels(runner)
    for shift in range(-31, 32):
        store = Store(shift, rule, NITI_CLIP)  # type: ignore[arg-type]
        got, want = dsp.requantise(acc, store).result, stored(acc.astype(np.int64), store)
        assert np.array_equal(got.values, want.values)
        assert (got.amax, got.saturated, got.lost) == (want.amax, want.saturated, want.lost)


def test_the_worst_products_are_exact(runner: Runner) -> None:
    """All operands -128, where the zero point would saturate anything narrower."""
    dsp, op = HexagonKernels(runner), WORST
    x = np.full((op.n, op.h, op.w, op.c_in), -128, np.int8)
    w = np.full((op.c_out, 3, 3, op.c_in), -128, np.int8)
    assert dsp.conv_forward(x, w, op).result.amax == 9 * 8 * 2**14
    assert dsp.conv_weight_grad(x, x, op).result.amax == 8 * 16 * 2**14
    deep = np.full((1, 131_071), -128, np.int8)
    assert dsp.gemm(deep, deep.T.copy()).result.values.item() == 131_071 * 2**14


def test_threads_and_splits_change_no_bit(runner: Runner) -> None:
    rng = np.random.default_rng(0)
    op = Conv2d(n=24, c_in=33, h=5, w=6, c_out=65, k=3, pad=1)
    x = rng.integers(-128, 128, (op.n, op.h, op.w, op.c_in), np.int8)
    e = rng.integers(-128, 128, (op.n, op.h, op.w, op.c_out), np.int8)
    whole = HexagonKernels(runner).conv_weight_grad(x, e, op).result.values
    part, total = op.with_batch(8), None
    for first in range(0, op.n, 8):
        samples = slice(first, first + 8)
        dsp = HexagonKernels(runner, threads=1 + first // 8)
        total = dsp.conv_weight_grad(x[samples], e[samples], part, into=total).result.values
    assert np.array_equal(whole, total)


def test_threads_in_turn_repeat_their_counts(runner: Runner) -> None:
    """The busiest of several threads: near its share, never below it; and bits as ever."""
    op = Conv2d(n=16, c_in=64, h=8, w=8, c_out=64, k=3, pad=1)
    rng = np.random.default_rng(7)
    x, w = (rng.integers(-128, 128, s, np.int8) for s in ((16, 8, 8, 64), (64, 3, 3, 64)))
    one = HexagonKernels(runner, threads=1).conv_forward(x, w, op)
    assert one.counts.busiest == one.counts.packets
    for threads in (2, 4):
        real = HexagonKernels(runner, threads).conv_forward(x, w, op)
        turn, again = (
            HexagonKernels(runner, threads, in_turn=True).conv_forward(x, w, op) for _ in range(2)
        )
        assert turn.counts == again.counts
        assert np.array_equal(turn.result.values, one.result.values)
        assert (
            turn.counts.packets / threads
            < turn.counts.busiest
            < turn.counts.packets / threads * 1.5
        )
        assert real.counts.busiest == pytest.approx(turn.counts.busiest, rel=0.05)


def test_a_sum_that_leaves_int32_is_refused(runner: Runner) -> None:
    x = np.full((8, 4, 4, 8), 127, np.int8)
    into = np.full((8, 3, 3, 8), 2**31 - 5, np.int32)
    with pytest.raises(KernelError, match="left int32") as caught:
        HexagonKernels(runner).conv_weight_grad(x, x, WORST, into=into)
    assert caught.value.status == Status.WRAPPED


def test_a_longer_sum_than_int32_holds_is_refused(runner: Runner) -> None:
    op = Conv2d(n=2, c_in=1, h=257, w=256, c_out=1, k=1)
    x = np.zeros((2, 257, 256, 1), np.int8)
    with pytest.raises(KernelError, match="split the batch"):
        HexagonKernels(runner).conv_weight_grad(x, x, op)


def test_packets_do_not_depend_on_values(runner: Runner) -> None:
    dsp, rng = HexagonKernels(runner), np.random.default_rng(3)
    a, b = (rng.integers(-128, 128, (40, 40), np.int8) for _ in range(2))
    assert dsp.gemm(a, b).counts == dsp.gemm(b, a).counts


def test_verify_sees_a_difference(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself: a reference that is off by one in one value is noticed."""
    check = CHECKS[Kernel.RELU_FORWARD]

    def off_by_one(rng: np.random.Generator, dsp: HexagonKernels) -> object:
        ((got, want),), counts = check(rng, dsp)
        want[-1] ^= 1
        return [(got, want)], counts

    monkeypatch.setitem(CHECKS, Kernel.RELU_FORWARD, off_by_one)  # type: ignore[arg-type]
    assert not run_case(runner, Kernel.RELU_FORWARD, 0, 0)[0]
