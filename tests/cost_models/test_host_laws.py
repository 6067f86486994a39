"""Laws of the host: counts of kernels, and fits that recover what rows were made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cost_models.cost import KernelCall
from cost_models.fitting import CalibrationError
from cost_models.host import Forms, Row, Tiles, Work, fit_laws, work_of
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Role
from kernels.pointwise import Relu

TILES = Tiles()


def work(op: Conv2d | Linear | Relu, role: Role, dtype: str, **how: object) -> Work:
    call = KernelCall(op, role, dtype, **how)  # type: ignore[arg-type]
    return work_of(call, Forms(), TILES)


def test_products_count_whole_tiles() -> None:
    op = Linear(n=7, c_in=10, c_out=65)
    counted = work(op, Role.FORWARD, "int8", rescaling="dynamic")
    assert counted.family == "product.forward.int8"
    assert counted.counts["macs"] == 12 * 12 * 128, "6 rows, 4 products, 64 columns at a time"
    assert counted.counts["tiles"] == 2 * 2
    assert (counted.counts["wide"], counted.counts["narrow"]) == (7 * 65, 0)
    floats = work(op, Role.FORWARD, "fp32")
    assert floats.counts["macs"] == 8 * 10 * 96
    assert floats.counts["map"] == 0, "a 1x1 convolution reads its rows where they lie"


def test_a_strided_input_gradient_is_a_product_for_each_phase() -> None:
    op = Conv2d(n=2, c_in=8, h=8, w=8, c_out=16, k=3, stride=2, pad=1)
    counted = work(op, Role.INPUT_GRAD, "int8", rescaling="fused")
    taps = 9 * 2 * 16  # samples, output channels: each tap meets one phase of 4 x 4 inputs
    padded = 36 / 32  # 32 positions take 6 tiles of 6 rows
    assert counted.counts["macs"] == taps * 16 * 64 * padded
    assert counted.counts["narrow"] == 2 * 8 * 8 * 8


def test_micro_batches_that_add_read_what_is_there() -> None:
    op = Conv2d(n=2, c_in=4, h=6, w=6, c_out=4, k=3)
    first = work(op, Role.WEIGHT_GRAD, "int8").counts["wide"]
    later = work(op, Role.WEIGHT_GRAD, "int8", accumulates=True).counts
    assert later["wide"] == later["added"] == first == 144


def test_what_is_handed_on_costs_its_copy_alone() -> None:
    call = KernelCall(Relu((2, 8)), Role.FORWARD, "int8")
    assert work_of(call, Forms(handed_on=True, copied=64), TILES) == Work(
        "handed_on", {"bytes": 64}
    )


def test_results_beyond_the_cache_are_counted() -> None:
    op = Linear(n=8, c_in=1024, c_out=1024)
    assert work(op, Role.WEIGHT_GRAD, "fp32").counts["far"] == 1024 * 1024 - (1 << 18)
    assert work(op, Role.FORWARD, "int8", rescaling="fused").counts["far"] == 0


def made(family: str, seed: int, count: int = 60) -> list[Row]:
    """Rows of a family whose times follow 20 us + 0.01 ns per MAC + 0.5 ns per element."""
    random = np.random.default_rng(seed)
    rows = []
    for k in range(count):
        macs, elements = (float(v) for v in np.exp(random.uniform((10, 7), (17, 13))))
        noise = float(np.exp(random.normal(0, 0.02)))
        ns = (20_000 + 0.01 * macs + 0.5 * elements) * noise
        counts = {"macs": macs, "elements": elements}
        rows.append(Row(Work(family, counts), ns, 0.0, 0.0, f"net{k % 10}", f"row{k}"))
    return rows


def sleepers(seed: int) -> list[Row]:
    """Rows that took 30 us and 80 ns for each root of a ns that their process slept before."""
    slept = np.exp(np.random.default_rng(seed).uniform(9, 16, 40))
    return [
        Row(Work("repack", {}), 30_000 + 80 * float(ns) ** 0.5, float(ns), 0.0, "net0", f"sleep{k}")
        for k, ns in enumerate(slept)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_fits_recover_the_coefficients(seed: int) -> None:
    laws = fit_laws([*made("product.forward.int8", seed), *sleepers(seed)])
    law = laws.families["product.forward.int8"]
    assert law["macs"] == pytest.approx(0.01, rel=0.05)
    assert law["elements"] == pytest.approx(0.5, rel=0.25)
    assert laws.wake_ns(1e6) == pytest.approx(30_000 + 80_000, rel=0.02)


def test_a_count_that_is_another_in_disguise_has_no_coefficient() -> None:
    rows = [
        replace(r, work=Work("x", {**r.work.counts, "map": 3 * r.work.counts["macs"]}))
        for r in made("x", 1)
    ]
    assert "map" not in fit_laws(rows).families["x"]


def test_rows_after_sleep_do_not_disturb_the_other_laws() -> None:
    rows = made("x", 2)
    late = [replace(r, ns=9 * r.ns, slept_ns=1e5) for r in rows]
    assert fit_laws([*rows, *late, *sleepers(2)]).families["x"] == fit_laws(rows).families["x"]


def test_rows_beside_the_other_process_tell_the_slowdown() -> None:
    rows = made("x", 4)
    slower = [replace(r, ns=1.2 * r.ns, beside=1.0) for r in rows]
    laws = fit_laws([*rows, *slower])
    assert laws.families["x"] == fit_laws(rows).families["x"]
    assert laws.slowdown == pytest.approx(1.2, rel=0.02)
    assert fit_laws(rows).slowdown == 1.0


def test_an_unknown_family_is_refused() -> None:
    laws = fit_laws(made("x", 3))
    with pytest.raises(CalibrationError, match="family 'y' has no law; calibrate with a model"):
        laws.ns(Work("y", {}))
