"""The study of gradient filtering: bounds met, what was fitted said, and counts by hand."""

from __future__ import annotations

import pytest

from experiments.reproduce.gradient_filtering import study
from experiments.reproduce.gradient_filtering.counts import gradient_operations, graph_of
from experiments.reproduce.gradient_filtering.speedups import (
    SPLITS,
    counts,
    held_out_rows,
    layers,
    seen,
)
from kernels.conv import Conv2d
from kernels.operators import Role


def test_the_bounds_asked_of_it_are_met() -> None:
    found = study()
    assert [check.label for check in found.checks if not check.met] == []
    assert len(found.checks) == 5
    known = [row for row in found.rows if row.note == "known to differ"]
    assert {row.label for row in known} == {"mobilenet-v2, all layers, exact"}
    assert all(abs(row.error or 0) > 0.02 for row in known)


def test_half_of_the_speed_ups_are_predicted_by_fits_that_have_not_seen_them() -> None:
    found = layers()
    assert len(found) == 56
    assert sum(each.fitted for each in found) == 29
    assert all(each.fitted is seen(each.patch, each.case) for each in found)
    for device in {each.device for each in found}:
        assert 3 <= sum(each.device == device and each.fitted for each in found) <= 7


def test_held_out_errors_are_shown_for_other_splits_too() -> None:
    """Each split and its reverse hold every row out once; none of them is far from the others."""
    (used, reverse, odd, even), rows = SPLITS.values(), held_out_rows()
    assert used is seen
    assert [int(row.note.split()[0]) for row in rows] == [27, 29, 32, 24]
    for patch in (2, 4):
        for case in range(7):
            assert used(patch, case) is not reverse(patch, case)
            assert odd(patch, case) is not even(patch, case)
    wrong = [abs(e.ours / e.published - 1) for e in layers(reverse) if not e.fitted]
    assert rows[1].ours == pytest.approx(100 * sorted(wrong)[14])
    assert rows[0].ours == pytest.approx(
        100 * next(check.value for check in study().checks if "median" in check.label)
    )
    assert max(row.ours for row in rows) < 1.25 * min(row.ours for row in rows)


def test_operations_of_a_convolution_by_hand() -> None:
    """One channel in, two out, 4 x 4 with 3 x 3 taps: sums written out."""
    op = Conv2d(n=1, c_in=1, h=4, w=4, c_out=2, k=3, pad=1)
    assert gradient_operations(op, Role.WEIGHT_GRAD, 1) == 2 * (9 * 16 + 15) + 2 * 16
    assert gradient_operations(op, Role.INPUT_GRAD, 1) == 2 * 9 * 16 * 2
    assert gradient_operations(op, Role.WEIGHT_GRAD, 2) == 2 * (2 * 4 - 1) + 2 * 16
    assert gradient_operations(op, Role.INPUT_GRAD, 2) == 4 * 1 * (2 * 2 - 1) + 8 * 2


def test_trained_layers_are_the_last_ones_and_the_deepest_has_no_input_gradient() -> None:
    graph = graph_of("resnet18-imagenet", 10, 4)
    nodes = [n for n in graph.nodes if isinstance(n.op, Conv2d)]
    trained = [n.layer for n in nodes if n.role is Role.WEIGHT_GRAD]
    assert trained == [
        *("layer4-1/conv2", "layer4-1/conv1", "layer4-0/conv2", "layer4-0/conv1"),
    ]
    assert [n.layer for n in nodes if n.role is Role.INPUT_GRAD] == trained[:-1]


def test_what_was_measured_is_counted() -> None:
    first = counts(0, 4)
    assert first["vanilla_macs"] == 2 * 32 * 128**2 * 9 * 120 * 160
    assert first["vanilla_macs"] / first["macs"] == pytest.approx(9 * 16)
