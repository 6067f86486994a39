"""Instruction counts of matrix-product kernels, sharing among cores, and the fitted constants."""

from __future__ import annotations

import numpy as np
import pytest

from cost_models.device import load_device, mcu_names
from cost_models.fitting.crossval import errors_of
from cost_models.mcu.counts import Constants, Counts
from cost_models.mcu.fitted import LAW, fitted_constants, held_out, released_cycles
from cost_models.mcu.products import (
    KERNELS,
    MatMul,
    fitting_kernel,
    product_counts,
    share_out,
    simd_2x4,
    simd_4x8,
    unrolled,
)

FREE = Constants(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("size", "published"),
    [((1, 1), 3.0), ((2, 1), 2.5), ((1, 4), 2.25), ((8, 1), 2.125), ((2, 2), 2.0),
     ((2, 4), 1.75), ((4, 4), 1.5)],
)  # fmt: skip
def test_instructions_per_mac_of_unrolled_loops(size: tuple[int, int], published: float) -> None:
    assert unrolled(*size).instructions_per_mac() == published


def test_instructions_per_mac_of_simd_loops() -> None:
    assert simd_2x4().instructions_per_mac(transposed=True) == 5 / 4
    assert simd_2x4().instructions_per_mac(transposed=False) == 7 / 4
    assert simd_4x8().instructions_per_mac(transposed=True) == 14 / 16
    assert simd_4x8().instructions_per_mac(transposed=False) == 18 / 16


def test_ideal_rate_of_eight_cores() -> None:
    """The published ideals, MAC per cycle; long sums, so that what surrounds them is nothing."""
    product = MatMul(16, 4096, 4, transposed=True)
    for kernel, fpus, ideal in ((simd_4x8(), 8, 9.14), (simd_4x8(), 4, 8.0)):
        cycles = FREE.cycles(product_counts(product, kernel, 8, fpus), 8)
        assert product.macs / cycles == pytest.approx(ideal, rel=0.01)
    cycles = FREE.cycles(product_counts(product, unrolled(2, 4), 8, 4), 8)
    assert product.macs / cycles == pytest.approx(4.0, rel=0.01)  # four FPUs, one each cycle
    plain = MatMul(16, 4096, 4)
    cycles = FREE.cycles(product_counts(plain, unrolled(2, 4), 8, 8), 8)
    assert plain.macs / cycles == pytest.approx(4.57, rel=0.01)


def test_more_sums_than_registers_cost_loads_and_stores() -> None:
    assert unrolled(2, 4).spilled == 0
    assert unrolled(4, 4).round_cycles(False, 1) > 2 * unrolled(2, 4).round_cycles(False, 1)


def test_uneven_splits_leave_cores_idle() -> None:
    assert share_out(MatMul(9, 4, 4), 8, by_columns=False).idle_cores == 3
    assert share_out(MatMul(16, 4, 4), 8, by_columns=False).idle_cores == 0
    assert share_out(MatMul(1, 4, 64), 8, by_columns=True).columns == 8
    nine, sixteen = (
        FREE.cycles(product_counts(MatMul(n, 64, 8), unrolled(1, 1), 8, 8), 8) for n in (9, 16)
    )
    assert nine == sixteen


def test_kernels_fall_back_where_they_do_not_fit() -> None:
    assert fitting_kernel(simd_4x8(), MatMul(15, 9, 8, True), 8).name == "simd_2x4"
    assert fitting_kernel(simd_4x8(), MatMul(16, 9, 8, True), 8).name == "simd_4x8"
    assert fitting_kernel(simd_4x8(), MatMul(16, 9, 1), 8).name == "naive"
    assert fitting_kernel(unrolled(8, 1), MatMul(16, 9, 8), 8).name == "unroll_2x1"
    assert fitting_kernel(unrolled(2, 4), MatMul(16, 9, 3), 8).name == "unroll_2x2"
    assert fitting_kernel(unrolled(2, 4, True), MatMul(1, 9, 64), 8).name == "unroll_1x4_m"


def test_every_kernel_computes_odd_sizes() -> None:
    for kernel in KERNELS.values():
        counts = product_counts(MatMul(3, 5, 7), kernel, 8, 8)
        assert counts.issued > 0
        assert counts.calls == 1


def test_released_counts_are_predicted_within_the_bounds() -> None:
    table = released_cycles()
    for by, rows in (("case", 16), ("workload", 14)):
        errors = errors_of(table.names, held_out(by).predicted, table.values)
        assert errors.rows == rows
        assert errors.median < 0.10
        assert abs(errors.worst) < 0.20
    assert held_out("workload").missing == {"conv_forward": ("window",)}


def test_a_law_without_stalls_would_not_keep_them() -> None:
    """The counts decide: instructions alone miss the naive loops by a quarter."""
    table = released_cycles()
    naive = table.labels["kernel"] == "naive"
    bare = table.with_numbers({"issued": table.numbers["issued"] * np.where(naive, 3 / 4, 1.0)})
    theta = np.array([getattr(fitted_constants(), c.name) for c in LAW.coefficients])
    worst = np.abs(LAW.predict(theta, bare) / table.values - 1).max()
    assert worst > 0.20


@pytest.mark.parametrize("name", mcu_names())
def test_devices_have_the_fitted_constants(name: str) -> None:
    mcu, fitted = load_device(name).mcu, fitted_constants()
    assert mcu is not None
    for field in ("block", "output", "window", "compare", "call", "contention"):
        assert getattr(mcu.constants, field) == pytest.approx(getattr(fitted, field), rel=0.01)


def test_counts_add_up() -> None:
    one = Counts(issued=3, blocks=1, calls=1)
    assert one + one == Counts(issued=6, blocks=2, calls=2)
    constants = Constants(2.0, 0.0, 0.0, 0.0, 10.0, 0.14)
    assert constants.cycles(one, 1) == 15
    assert constants.cycles(one, 8) == pytest.approx(5 * 1.14 + 10)
