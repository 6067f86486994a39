"""Libraries: all load, and shares, threads and rates are looked up, never guessed."""

from __future__ import annotations

import pytest

from cost_models.errors import LibraryError
from cost_models.library import Library, library_names, load_library
from cost_models.quantity import DEFAULT_SPREAD


@pytest.fixture(params=library_names())
def library(request: pytest.FixtureRequest) -> Library:
    return load_library(request.param)


def test_the_libraries_that_come_with_the_sandbox() -> None:
    assert library_names() == ("hexagon_nn", "mnn", "mnn_opencl", "tflite")


def test_file_name_is_library_name(library: Library) -> None:
    assert load_library(library.name) is library


def test_every_number_has_evidence(library: Library) -> None:
    for path, quantity in library.quantities().items():
        assert quantity.unit, path
        assert quantity.kind in DEFAULT_SPREAD, path
        assert len(quantity.source) >= 8, path
        assert "/work" not in quantity.source, path


def test_shares_of_every_family_and_role(library: Library) -> None:
    for dtype in library.efficiency:
        for family in ("conv", "depthwise", "linear"):
            for role in ("forward", "input_grad", "weight_grad"):
                assert 0 < library.share(dtype, family, role) <= 1.5


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (("fp32", "conv", "forward"), "allowed: int8"),
        (("int8", "pool", "forward"), "allowed: conv, depthwise, linear"),
        (("int8", "conv", "update"), "allowed: forward, input_grad, weight_grad"),
    ],
)
def test_shares_that_do_not_exist(question: tuple[str, str, str], said: str) -> None:
    with pytest.raises(LibraryError, match=said):
        load_library("hexagon_nn").share(*question)


def test_parallel_share_is_linear_between_counts_and_stays_beyond() -> None:
    mnn = load_library("mnn")
    assert mnn.parallel_share(1) == 1.0
    assert mnn.parallel_share(3) == pytest.approx((0.87 + 0.75) / 2)
    assert mnn.parallel_share(4) == 0.75
    assert mnn.parallel_share(64) == 0.5
    assert load_library("hexagon_nn").parallel_share(4) == 1.0
    with pytest.raises(LibraryError, match="1 or more"):
        mnn.parallel_share(0)


def test_more_threads_are_never_slower() -> None:
    mnn = load_library("mnn")
    speeds = [threads * mnn.parallel_share(threads) for threads in range(1, 9)]
    assert speeds == sorted(speeds)


def test_dynamic_rescaling_moves_17_bytes_per_element() -> None:
    passes = load_library("hexagon_nn").int32_passes
    assert passes is not None
    parts = (passes.clear, passes.write, passes.scan, passes.read, passes.result)
    assert [part.value for part in parts] == [4, 4, 4, 4, 1]
    assert passes.scan_contexts == 1


def test_strided_kernels_run_at_a_share_or_at_a_rate_of_their_own() -> None:
    assert load_library("mnn").gather_bytes_per_us(10_000) == 2_500.0
    assert load_library("hexagon_nn").gather_bytes_per_us(15_400) == 569.0
    assert load_library("hexagon_nn").gather_bytes_per_us(100) == 100.0


def test_stride_penalty_is_of_gradients_only() -> None:
    hexagon = load_library("hexagon_nn")
    assert hexagon.strided_share("forward") == 1.0
    assert load_library("mnn").strided_share("input_grad") == 1.0
    with pytest.raises(LibraryError, match="allowed: input_grad, weight_grad"):
        hexagon.strided_share("update")


def test_alu_rates_are_looked_up() -> None:
    assert load_library("hexagon_nn").alu_elements("fp32") == 32.0
    assert load_library("mnn").alu_elements("int32") == 4.0
    assert load_library("mnn").launch_ns == 490_000
    with pytest.raises(LibraryError, match="allowed: fp32"):
        load_library("mnn_opencl").alu_elements("int8")
