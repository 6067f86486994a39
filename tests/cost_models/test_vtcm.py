"""The VTCM rule against the table that follows from hexagon_nn's source, cell by cell."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.vtcm import (
    conv_slice_bytes,
    fits,
    largest_fitting_batch,
    micro_batch,
    round_up,
    slice_bytes,
)
from kernels.conv import Conv2d
from kernels.operators import Role
from sim.autodiff import training_graph
from sim.zoo import load_model, model_names

V66 = 256 * 1024
V68 = 4 * 2**20

# Map, then KiB at batch 32, 64 and 128, then the largest batch that fits 256 KiB.
TABLE = {
    4: ((16, 32, 64), 512),
    8: ((64, 128, 256), 128),
    14: ((196, 392, 784), 32),
    16: ((256, 512, 1024), 32),
    28: ((784, 1568, 3136), 0),
    32: ((1024, 2048, 4096), 0),
}


def square(size: int, batch: int, c_in: int = 64, c_out: int = 64, **more: int) -> Conv2d:
    return Conv2d(batch, c_in, size, size, c_out, k=3, pad=1, **more)


@pytest.mark.parametrize("size", TABLE)
def test_published_table(size: int) -> None:
    kibs, largest = TABLE[size]
    for batch, kib in zip((32, 64, 128), kibs, strict=True):
        conv = square(size, batch)
        assert conv_slice_bytes(conv, Role.WEIGHT_GRAD) == kib * 1024
        assert slice_bytes(size, size, batch) == kib * 1024
        assert fits(conv, Role.WEIGHT_GRAD, V66) == (kib <= 256)
    assert largest_fitting_batch(size, size, V66) == largest


def test_56_by_56_at_batch_64_needs_6_1_mib() -> None:
    assert conv_slice_bytes(square(56, 64), Role.WEIGHT_GRAD) == 6_422_528  # 56 x 56 x 64 x 32
    assert not fits(square(56, 64), Role.WEIGHT_GRAD, V68)


@pytest.mark.parametrize(
    ("role", "conv", "wanted"),
    [
        # k_h x k_w x roundup32(depth) x 32: depth is c_in forward and c_out in dX.
        (Role.FORWARD, Conv2d(64, 3, 32, 32, 64, 3), 3 * 3 * 32 * 32),
        (Role.FORWARD, Conv2d(64, 33, 32, 32, 64, 3), 3 * 3 * 64 * 32),
        (Role.INPUT_GRAD, Conv2d(64, 3, 32, 32, 64, 3), 3 * 3 * 64 * 32),
        (Role.FORWARD, Conv2d(64, 128, 8, 8, 256, (1, 7), pad=(0, 3)), 1 * 7 * 128 * 32),
        (Role.FORWARD, Conv2d(64, 512, 8, 8, 128, 1), 512 * 32),
        (Role.FORWARD, Conv2d(64, 64, 8, 8, 64, 3, groups=2), 3 * 3 * 32 * 32),
        # A map of 16 x 16 comes from 32 x 32 at stride 2; the stride itself does not count.
        (Role.WEIGHT_GRAD, Conv2d(64, 8, 32, 32, 8, 3, stride=2, pad=1), 16 * 16 * 64 * 32),
        (Role.WEIGHT_GRAD, Conv2d(1, 8, 16, 16, 8, 1), 16 * 16 * 32 * 32),
        (Role.WEIGHT_GRAD, Conv2d(33, 8, 5, 7, 8, 1), 5 * 7 * 64 * 32),
    ],
)
def test_slices_by_hand(role: Role, conv: Conv2d, wanted: int) -> None:
    assert conv_slice_bytes(conv, role) == wanted


def test_micro_batches_by_hand() -> None:
    assert micro_batch(square(16, 64), V66) == 32
    assert micro_batch(square(16, 48), V66) == 24  # the largest divisor of 48 up to 32
    assert micro_batch(square(16, 37), V66) == 1  # a prime batch
    assert micro_batch(square(8, 64), V66) == 64  # fits as it is
    assert micro_batch(square(28, 64), V66) is None
    assert micro_batch(square(28, 64), V68) == 64


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 300), st.sampled_from((V66, V68, 9_999))
)
def test_micro_batch_is_the_largest_divisor_that_fits(h: int, w: int, n: int, vtcm: int) -> None:
    conv = Conv2d(n, 1, h, w, 1, 1)
    fitting = [d for d in range(1, n + 1) if n % d == 0 and slice_bytes(h, w, d) <= vtcm]
    assert micro_batch(conv, vtcm) == max(fitting, default=None)
    multiples = [m for m in range(32, 4096, 32) if h * w * m * 32 <= vtcm]
    assert min(largest_fitting_batch(h, w, vtcm), 4064) == max(multiples, default=0)


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(st.integers(0, 10**9), st.integers(1, 4096))
def test_round_up(value: int, multiple: int) -> None:
    up = round_up(value, multiple)
    assert up % multiple == 0
    assert value <= up < value + multiple


def weight_grads(model: str, batch: int) -> list[Conv2d]:
    graph = training_graph(load_model(model, batch=batch))
    nodes = (n for n in graph.nodes if n.role is Role.WEIGHT_GRAD)
    return [n.op for n in nodes if isinstance(n.op, Conv2d)]


def test_v66_has_abnormal_convolutions_and_4_mib_none_for_small_maps() -> None:
    found = 0
    for model in model_names():
        for conv in weight_grads(model, 64):
            if conv.h_out <= 32 and conv.w_out <= 32:
                found += not fits(conv, Role.WEIGHT_GRAD, V66)
                assert fits(conv, Role.WEIGHT_GRAD, V68), (model, conv)  # 32 x 32 x 64 x 32 = 2 MiB
    assert found > 50


def test_abnormal_convolutions_of_vgg11_by_hand() -> None:
    # CIFAR-10: maps of 32, 16, 8, 8, 4, 4, 2, 2. At batch 64 the slice fits from 8 x 8 down.
    maps = {conv.h_out: fits(conv, Role.WEIGHT_GRAD, V66) for conv in weight_grads("vgg11", 64)}
    assert maps == {32: False, 16: False, 8: True, 4: True, 2: True}
