"""The packet model: what it predicts of shapes that no fit has seen, and what it counts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cost_models.bundle import Bundle
from cost_models.dsp import padded_macs
from cost_models.errors import CalibrationError
from cost_models.fitting import Grouping, calibrate
from cost_models.fitting.conformal import groups_needed, interval_of
from cost_models.packets import PacketModel, PacketShape
from cost_models.packets.laws import TERMS, packet_law, packet_table, packing_packets
from cost_models.packets.loops import _phases, loops_of
from cost_models.packets.products import Pieces
from cost_models.packets.rates import share_table
from cost_models.packets.shapes import FORMS, SIZES, architecture
from cost_models.samples import Fingerprint, Sample
from experiments.packets import STORE, read_counts
from hw_bridge.samples import SampleStore
from kernels.conv import Conv2d
from kernels.operators import Role

MEDIAN, WORST = 0.05, 0.15
QUICK = ("amax", "rescale", "add", "wide_update")
"""Families that are fitted in a second."""
PAGE = Path(__file__).parent.parent.parent / "docs" / "background" / "packets.md"
counts = cache(read_counts)


@cache
def committed() -> Bundle:
    return Bundle.load("packets")


def rows_of(family: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Groups, held-out predictions, counts and names of a family's rows."""
    found = [row for row in committed().rows if row.block == family]
    held = [row.held_out for row in found]
    assert None not in held
    groups = np.array([row.group for row in found])
    measured = np.array([row.measured for row in found])
    return groups, np.array(held, np.float64), measured, [row.name for row in found]


@pytest.mark.parametrize("family", list(SIZES))
def test_unseen_shapes_are_predicted(family: str) -> None:
    """Whole architectures and size octaves held out: 5 % in the median, 15 % at worst."""
    _, predicted, measured, names = rows_of(family)
    errors = np.abs(predicted / measured - 1)
    assert len(errors) >= 50
    assert np.median(errors) <= MEDIAN
    assert errors.max() <= WORST, names[int(errors.argmax())]


@pytest.mark.parametrize("family", list(SIZES))
def test_intervals_cover(family: str) -> None:
    """Each group against the interval that the others give: 80 to 99 % of rows lie within."""
    groups, predicted, measured, _ = rows_of(family)
    names = sorted(set(groups))
    assert {"vgg", "resnet", "drawn 2^10"} - set(names) <= {"vgg"}  # an addition is in no VGG
    own = committed().interval_of(f"{family}.call")
    assert own is not None
    if len(names) < groups_needed() + 1:
        assert (family, own.kind) == ("add", "range" if len(names) < 9 else "conformal")
        return
    assert own.kind == "conformal"
    inside = []
    for name in names:
        own = groups == name
        found = interval_of(groups[~own], predicted[~own], measured[~own])
        ratio = measured[own] / predicted[own]
        inside.append(np.mean((found.low <= ratio) & (ratio <= found.high)))
    assert 0.80 <= np.mean(inside) <= 0.99


def test_no_group_knows_a_shape_of_another() -> None:
    keys = [sample.key for sample in counts().samples]
    assert len(set(keys)) == len(keys)
    shapes = [PacketShape.of_document(sample.config) for sample in counts().samples]
    assert [shape.key for shape in shapes] == keys
    assert {shape.family for shape in shapes} == set(SIZES)
    for family, forms in FORMS.items():
        assert {shape.form for shape in shapes if shape.family == family} == set(forms)


def test_the_committed_bundle_is_of_the_committed_counts() -> None:
    assert committed().table_sha256 == counts().sha256
    assert committed().met
    measured = {row.name: row.measured for row in committed().rows}
    assert measured == {sample.key: sample.raw[0] for sample in counts().samples}


@pytest.mark.parametrize("family", QUICK)
def test_committed_coefficients_are_recomputed(family: str) -> None:
    """If this fails: ``mandheling calibrate packets -o cost_models/bundles``, and look."""
    table = packet_table(family, counts().samples, counts().sha256)
    found = calibrate(
        packet_law(family), table, (Grouping("architecture", MEDIAN),),
        file=STORE.name, fitted_on=(counts().fitted_on,),
    )  # fmt: skip
    known = {each.name: each for each in committed().coefficients}
    for each in found.coefficients:
        before = known[f"{family}.{each.name}"]
        assert before.at_bound is each.at_bound
        if not each.at_bound:
            assert each.value == pytest.approx(before.value, rel=2e-3)


def test_the_model_gives_what_the_fit_gave() -> None:
    model = PacketModel.load()
    fitted = {row.name: row.fitted for row in committed().rows}
    for sample in counts().samples[::97]:
        found = model.predict(PacketShape.of_document(sample.config))
        assert found.expected == pytest.approx(fitted[sample.key], rel=1e-4)
        assert found.low <= found.expected <= found.high


def test_a_bundle_of_something_else_is_refused() -> None:
    with pytest.raises(CalibrationError, match="calibrate packets"):
        PacketModel.load("fastrpc-qos")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("conv", (1,), ""), "kernel family: 'conv' is unknown"),
        (("requantise", (8,), "trunc"), "form of requantise: 'trunc' is unknown"),
        (("relu_forward", (8,), "int8"), "form of relu_forward"),
        (("relu_forward", (8, 8), ""), "integers elements"),
        (("relu_forward", (-1,), ""), "0 .. 2\\^28"),
        (("relu_forward", (True,), ""), "0 .. 2\\^28"),
        (("forward", (1, 2, 2, 8, 8, 5, 5, 1, 0, 0, 1, 1), "int32"), "sizes make no layer"),
    ],
)
def test_shapes_that_are_none_are_refused(
    arguments: tuple[str, tuple[int, ...], str], message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        PacketShape(*arguments)


def test_samples_of_something_else_are_refused() -> None:
    with pytest.raises(CalibrationError, match="needed: family, form and sizes"):
        PacketShape.of_document({"family": "amax", "sizes": [4]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "banana"}, "has no samples of kind 'kernel'; kinds in it: banana"),
        ({"unit": "ns", "raw": (9, 9, 9)}, "unit: 'ns' is not allowed; allowed: .'packets'"),
        ({"raw": (0,)}, "raw: has median 0; sample it again"),
        ({"family": "zz"}, "config: kernel family: 'zz' is unknown; allowed: gemm"),
        ({"group": None}, "config: group: None is not allowed; give the network"),
    ],
)
def test_a_store_of_other_samples_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path, shape = tmp_path / "counts.jsonl", PacketShape("amax", (64,))
    config = {**shape.document(), "group": "drawn 2^6"}
    fields = {"key": shape.key, "kind": "kernel", "unit": "packets", "raw": (100,)}
    own = {name: value for name, value in change.items() if name in fields}
    config |= {name: value for name, value in change.items() if name not in fields}
    with SampleStore.open(path, Fingerprint("hexagon", {"hexagon": "v66"})) as store:
        store.add(Sample(**{**fields, **own}, config=config))
    with pytest.raises(CalibrationError, match=f"counts.jsonl: .*{message}"):
        read_counts(path)


def test_a_store_of_two_builds_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "counts.jsonl"
    for build in ("one", "two"):
        on = Fingerprint("hexagon", {"hexagon": "v66", "build": build})
        shape = PacketShape("amax", (64 if build == "one" else 65,))
        config = {**shape.document(), "group": "drawn"}
        with SampleStore.open(path, on, mixed=True) as store:
            store.add(Sample(shape.key, "kernel", "packets", (100,), config))
    with pytest.raises(CalibrationError, match="build"):
        read_counts(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"amax", b"amin", 1))
    with pytest.raises(CalibrationError, match="damaged"):
        read_counts(path)


def test_loops_of_a_product_by_hand() -> None:
    """20 rows, a depth of 17 and 70 columns: 3 x 2 tiles of 3 steps, 10 pairs, 2 half-filled."""
    found = loops_of(PacketShape("gemm", (20, 17, 70), "half_up"))
    assert (found["tiles"], found["tile_steps"]) == (6, 18)
    assert found["pairs_half_up"] == 2 * 10
    assert found["masked_rows"] == 2 * 20  # a row of 70 bytes is never a whole half of a vector
    assert (found["copies"], found["sum_blocks"]) == (20, 1)
    words = loops_of(PacketShape("gemm", (20, 16, 64), "int32"))
    assert (words["whole_tiles"], words["part_rows"], words["copies"]) == (2, 2 * 4, 0)


def test_every_loop_of_a_law_runs_somewhere() -> None:
    for family in SIZES:
        table = packet_table(family, counts().samples)
        assert all(table.numbers[name].any() for name in TERMS[family])


def test_pieces_are_counted_one_by_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        count, stride = int(rng.integers(1, 400)), int(rng.integers(1, 700))
        start, width = int(rng.integers(0, 300)), int(rng.integers(1, 128))
        at = [(start + i * stride) % 128 for i in range(count)]
        wanted = Pieces(sum(a == 0 for a in at), sum(a + width > 128 for a in at))
        assert Pieces.of(count, stride, start, width) == wanted


def test_phases_share_out_inputs_and_taps() -> None:
    """Every input and tap belongs to one phase; together they make the layer's products."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        k, stride, dilation = (int(rng.integers(1, most)) for most in (8, 5, 4))
        pad, size = int(rng.integers(0, 5)), int(rng.integers(1, 30))
        phases = _phases(size, k, stride, pad, dilation)
        seen = {(i + pad) % stride for i in range(size)}
        wanted = {d: sum(dilation * t % stride == d for t in range(k)) for d in seen}
        assert sorted(taps for taps, _, _, _ in phases) == sorted(n for n in wanted.values() if n)
        assert sum(places for _, places, _, _ in phases) == sum(
            wanted[(i + pad) % stride] > 0 for i in range(size)
        )


def test_a_stride_multiplies_no_zeros() -> None:
    """Steps of the depth stay near the layer's own MAC, at any stride."""
    for stride in (1, 2, 3):
        op = Conv2d(n=8, c_in=64, h=24, w=24, c_out=64, k=3, pad=1, stride=stride)
        steps = loops_of(PacketShape.of_conv("input_grad", op, "int32"))["tile_steps"]
        macs = steps * 8 * 8 * 64
        assert 1 <= macs / op.work(Role.INPUT_GRAD).macs <= 1.2


def test_the_page_states_the_figures_of_the_bundle() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    found = {each.by: each for each in committed().validations[1:]}
    assert [name for name, _ in rows] == list(SIZES)
    for name, row in rows:
        each, easier = found[f"{name}.architecture"], found[f"{name}.group"]
        assert row.split(" | ") == [
            f"{each.groups} / {each.rows}",
            f"{100 * each.median:.1f} %",
            f"{100 * each.p90:.1f} %",
            f"{100 * each.worst:+.1f} %",
            f"`{each.worst_row}`",
            f"{100 * easier.median:.1f} %",
            f"{100 * easier.worst:+.1f} %",
        ]


def test_rates_are_of_batches_whose_depth_is_not_padded() -> None:
    """What a weight gradient is charged for padding is its width's, never its depth's."""
    samples = counts().samples
    table = share_table(samples, packing_packets(samples), "")
    shapes = {sample.key: PacketShape.of_document(sample.config) for sample in samples}
    padded = []
    for key, kind in zip(table.names.tolist(), table.labels["kind"].tolist(), strict=True):
        op = shapes[key].layer()
        assert isinstance(op, Conv2d)
        assert op.n % 32 == 0
        if kind == "conv.weight_grad":
            wide = -(-op.w_out // 4) * 4 / op.w_out
            padded.append(padded_macs(op, Role.WEIGHT_GRAD) / op.work(Role.WEIGHT_GRAD).macs / wide)
    assert len(padded) >= 9
    assert padded == pytest.approx([1.0] * len(padded))


def test_packing_is_not_in_the_shares() -> None:
    samples = counts().samples
    packing = packing_packets(samples)
    table = share_table(samples, packing, "")
    whole = {sample.key: sample.median for sample in samples}
    part: dict[str, list[float]] = {}
    for key, kind, packets in zip(
        table.names.tolist(), table.labels["kind"].tolist(), table.values.tolist(), strict=True
    ):
        assert packets == pytest.approx(whole[key] - packing[key])
        part.setdefault(kind, []).append(packing[key] / whole[key])
    assert np.mean(part["linear.forward"]) > 0.15
    assert np.median(part["conv.forward"]) < 0.05
    assert all(0 <= share < 0.9 for shares in part.values() for share in shares)


def test_versions_of_an_architecture_are_held_out_together() -> None:
    first, second = (each.by for each in committed().validations[1:3])
    assert (first, second) == ("gemm.architecture", "gemm.group")
    names = {str(sample.config["group"]) for sample in counts().samples}
    families = {architecture(name) for name in names if not name.startswith("drawn")}
    assert families == {
        "lenet", "vgg", "resnet", "alexnet", "squeezenet", "inception", "mobilenet"
    }  # fmt: skip
    assert {row.group for row in committed().rows} >= families
    assert not {"vgg11", "resnet18"} & {row.group for row in committed().rows}
