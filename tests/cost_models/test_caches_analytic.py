"""The working-set rule against the simulator, and on cases that can be worked out by hand."""

from __future__ import annotations

from statistics import median

import pytest
from cache_cases import CPU_CACHES, DSP_CACHES, cases

from cost_models.caches import (
    CacheError,
    Hierarchy,
    Level,
    device_hierarchy,
    estimate,
    kernel_nests,
    simulate,
    split_point,
)
from cost_models.caches.analytic import accesses, footprint
from cost_models.caches.nest import Arena, Axis, Loop, Nest, Ref
from cost_models.caches.splits import with_scratchpad
from cost_models.caches.trace import trace
from cost_models.cost import KernelCall
from cost_models.device import load_device
from kernels.conv import Conv2d
from kernels.layout import LayoutTranspose
from kernels.operators import Role

KIB = 1024
PLAIN = Hierarchy((Level("L1", 4 * KIB, 4, 64),))


def repeated(size: int) -> list[Nest]:
    """A nest that reads ``size`` bytes four times over."""
    axes = (Axis((("pass", 4),)), Axis((("i", size // 64),)))
    array = Arena().array("x", size)
    return [Nest("n", axes, (Loop(0), Loop(1)), (Ref(array, {"i": 64}, 64, 2),))]


@pytest.mark.parametrize(
    ("size", "passes"),
    [(2 * KIB, 1), (4 * KIB, 1), (8 * KIB, 4), (64 * KIB, 4), (4 * KIB + 512, 1.0 + 3 * 5 / 9)],
)
def test_what_fits_is_loaded_once(size: int, passes: float) -> None:
    expected = estimate(repeated(size), PLAIN).memory_bytes
    found = simulate(repeated(size), PLAIN).memory_bytes
    assert found == pytest.approx(passes * size, abs=64)
    assert expected == pytest.approx(found, rel=0.15)


def test_columns_of_a_power_of_two_matrix_need_more_ways() -> None:
    op = LayoutTranspose((128, 128), (1, 0))  # a column's 128 lines fall into 8 of the 16 sets
    nests = kernel_nests(KernelCall(op, Role.FORWARD, "int8"), "cpu")
    found, expected = simulate(nests, PLAIN), estimate(nests, PLAIN)
    assert found.memory_bytes > 60 * 128 * 128
    assert expected.memory_bytes == pytest.approx(found.memory_bytes, rel=0.05)


def test_lines_of_unaligned_runs_count_the_lines_they_straddle() -> None:
    level = Level("L1", 4 * KIB, 4, 64)
    assert footprint([(256, 4)], 64, level, start=0).lines == 4
    assert footprint([(256, 4)], 64, level, start=32).lines == 8
    assert footprint([(96, 4)], 64, level).lines == pytest.approx(6)


def test_agrees_with_the_simulator_on_all_golden_kernels() -> None:
    errors = []
    for name, nests, caches in cases():
        if not name.endswith("phone caches") or "fp32" in name:
            continue
        found, expected = simulate(nests, caches), estimate(nests, caches)
        assert expected.scratchpad_read_bytes == found.scratchpad_read_bytes
        assert expected.scratchpad_written_bytes == found.scratchpad_written_bytes
        errors += [
            abs(guess.moved_bytes / level.moved_bytes - 1)
            for level, guess in zip(found.levels, expected.levels, strict=True)
            if level.moved_bytes
        ]
    assert len(errors) > 200
    assert median(errors) < 0.05
    assert sorted(errors)[len(errors) * 9 // 10] < 0.25


def test_accesses_are_counted_exactly() -> None:
    for name, nests, caches in cases():
        if name.startswith(("conv of an image", "average pool", "linear")) and "small" in name:
            length = sum(len(chunk.addresses) for chunk in trace(nests, caches))
            assert accesses(nests) == length, name


def test_a_split_that_fits_vtcm_stops_streaming_errors_again() -> None:
    op = Conv2d(64, 32, 14, 14, 32, 3, pad=1)  # 392 KiB a slice at batch 64, 196 KiB at 32
    caches = with_scratchpad(
        Hierarchy((DSP_CACHES[0].levels[0], Level("L2", 128 * KIB, 8, 64)), 0, 1), 256 * KIB
    )
    whole = split_point(op, 64, caches, simulated=False)
    split = split_point(op, 32, caches, simulated=False)
    assert (whole.fits, split.fits) == (False, True)
    assert whole.memory_bytes > 4 * split.memory_bytes
    assert whole.vtcm_bytes == 0 < split.vtcm_bytes
    ample = split_point(op, 64, with_scratchpad(caches, 8 << 20), simulated=False)
    assert ample.memory_bytes < split.memory_bytes
    with pytest.raises(CacheError, match="micro_batch = 48; allowed: a divisor of the batch 64"):
        split_point(op, 48, caches, simulated=False)


def test_splits_agree_with_the_simulator() -> None:
    op = Conv2d(32, 8, 6, 6, 32, 3, pad=1)
    for micro in (8, 32):
        points = [split_point(op, micro, DSP_CACHES[0], simulated=s) for s in (True, False)]
        assert points[0].vtcm_bytes == points[1].vtcm_bytes
        assert points[1].memory_bytes == pytest.approx(points[0].memory_bytes, rel=0.1)


def test_hierarchies_of_devices() -> None:
    phone = load_device("snapdragon-865")
    cpu, dsp = device_hierarchy(phone, "cpu"), device_hierarchy(phone, "dsp")
    assert [level.size_bytes for level in cpu.levels] == [64 * KIB, 256 * KIB, 5632 * KIB]
    assert [level.size_bytes for level in dsp.levels] == [32 * KIB, 1024 * KIB]
    assert (dsp.scratchpad_bytes, dsp.vector_level) == (256 * KIB, 1)
    assert cpu == CPU_CACHES[0]
    with pytest.raises(CacheError, match="unit = 'dsp': laptop has none; use 'cpu'"):
        device_hierarchy(load_device("laptop"), "dsp")
