"""Numbers from bundles: the sum of coefficients, its spread and source, and what is refused."""

from __future__ import annotations

import json
from math import log, prod
from pathlib import Path
from typing import Any

import pytest
import yaml

from cost_models.bundle import FOLDER as BUNDLES
from cost_models.bundle import Bundle
from cost_models.calibrated import BundleUse
from cost_models.device import FOLDER, device_names, load_device
from cost_models.errors import CalibrationError, DeviceError, LibraryError
from cost_models.library import FOLDER as LIBRARIES
from cost_models.library import library_names, load_library
from cost_models.model import CostModel

SIZE = "fastrpc-size/boosted"
ROWS = [
    [0, {}],
    [1, {f"{SIZE}.buffer_us": 1}],
    [1048576, {f"{SIZE}.buffer_us": 1, f"{SIZE}.line_us_per_mib": 1}],
]


def tree_of(name: str = "snapdragon-865") -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))
    return tree


def written(tmp_path: Path, tree: dict[str, Any]) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), "utf-8")
    return path


def refusal(tmp_path: Path, tree: dict[str, Any]) -> str:
    with pytest.raises(DeviceError) as told:
        load_device(written(tmp_path, tree))
    message = str(told.value)
    assert message.startswith("mine.yaml: ")
    assert "\n" not in message
    return message


def null(tree: dict[str, Any], **calibrated: Any) -> dict[str, Any]:
    """Put a calibrated empty call without QoS into a device."""
    tree["fastrpc"]["modes"]["none"]["null_us"] = {"unit": "us", "calibrated": calibrated}
    return tree


def test_a_sum_of_coefficients_with_its_source() -> None:
    bundle = Bundle.load("fastrpc-qos")
    wake, deeper = (bundle.coefficient(name).value for name in ("wake_us", "deeper_us"))
    found = load_device("snapdragon-865").quantities()["fastrpc.modes.none.null_us"]
    assert found.value == pytest.approx(92 + wake + 2.4423 * deeper)
    assert found.kind == "derived"
    for words in ("fastrpc-qos/wake_us", "soc SM8150", "held-out error 9.4 %", "2 groups"):
        assert words in found.source


def test_a_table_by_law_stands_in_place_of_interpolated_rows() -> None:
    bundle = Bundle.load("fastrpc-size")
    buffer, line, page = (
        bundle.coefficient(f"boosted.{name}").value
        for name in ("buffer_us", "line_us_per_mib", "page_us_per_mib")
    )
    device = load_device("snapdragon-865")
    assert device.fastrpc is not None
    table = device.fastrpc.modes["pm_qos"].per_mib
    assert [size for size, _ in table.rows] == [0, 1, 1 << 20, 8 << 20]
    expected = [0, buffer, buffer + line, buffer + line + 7 * page]
    assert [us for _, us in table.rows] == pytest.approx(expected, rel=1e-5)


def test_the_spread_is_what_the_fit_leaves_open(tmp_path: Path) -> None:
    bundle = Bundle.load("dsp-networks")
    rate = bundle.coefficient("rate_gmacs")
    assert rate.high is not None
    share = load_library("hexagon_nn").efficiency["int8"].conv.forward
    # Of another library: no less than what any assumed number has.
    assert share.factor == max(1.75, rate.high / rate.value) == 1.75
    tree = null(tree_of(), terms={f"{SIZE}.buffer_us": 1})
    tree["fastrpc"]["modes"]["adaptive"]["null_us"] = {
        "unit": "us",
        "calibrated": {"terms": {"fastrpc-qos/wake_us": 1}},
    }
    phone = load_device(written(tmp_path, tree))
    buffer = Bundle.load("fastrpc-size").coefficient("boosted.buffer_us")
    assert buffer.high is not None
    found = phone.quantities()["fastrpc.modes.none.null_us"]
    assert found.spread == pytest.approx(buffer.high / buffer.value)


def test_coefficients_multiply_with_their_ranges(tmp_path: Path) -> None:
    rates, networks = Bundle.load("packet-rates"), Bundle.load("dsp-networks")
    mine, forward = (rates.coefficient(f"conv.{k}.share") for k in ("input_grad", "forward"))
    rate = networks.coefficient("rate_gmacs")
    share = load_library("hexagon_nn").efficiency["int8"].conv.input_grad
    assert share.value == pytest.approx(rate.value / 716.8 * mine.value / forward.value)
    assert "dsp-networks/rate_gmacs x packet-rates/conv.input_grad.share / packet" in share.source
    tree = yaml.safe_load((LIBRARIES / "hexagon_nn.yaml").read_text("utf-8"))
    calibrated = tree["efficiency"]["int8"]["conv"]["input_grad"]["calibrated"]
    ranges = [each.high / each.value for each in (rate, mine, forward) if each.high is not None]
    own = rates.interval_of("conv.input_grad.share")
    assert own is not None
    assert own.kind == "range"
    assert share.spread == pytest.approx(max(own.high, 1 / own.low, prod(ranges)), rel=1e-5)
    del calibrated["note"]
    with pytest.raises(LibraryError, match="say the arithmetic in a note"):
        load_library(written(tmp_path, tree))
    calibrated |= {"note": "cubed twice", "times": {"packet-rates/conv.forward.share": 6}}
    with pytest.raises(LibraryError, match="6 is not allowed; input should be less than or equal"):
        load_library(written(tmp_path, tree))


def test_what_a_device_rests_on_is_kept_with_it() -> None:
    uses = {use.name: use for use in load_device("snapdragon-865").bundles}
    assert uses["fastrpc-size"].sha256 == Bundle.load("fastrpc-size").sha256
    assert [on.block for on in uses["fastrpc-size"].fitted_on] == ["boosted"]
    assert uses["fastrpc-size"].mismatches({"soc": "SM8250", "hexagon": "v66"}) == []
    assert uses["fastrpc-qos"].mismatches({"soc": "SM8250"}) == ["soc SM8150, not SM8250"]


def test_another_bundle_gives_the_device_another_digest(tmp_path: Path) -> None:
    content = json.loads((BUNDLES / "fastrpc-size.json").read_text("utf-8"))
    content["coefficients"][1]["value"] *= 1.1
    (tmp_path / "own.json").write_text(json.dumps(content), "utf-8")
    tree = tree_of()
    same = load_device(written(tmp_path, tree))
    tree["bundles"][0]["name"] = "own.json"
    assert load_device(written(tmp_path, tree)).sha256 != same.sha256


def test_every_mismatch_of_what_comes_with_the_sandbox_has_a_reason() -> None:
    for device in map(load_device, device_names()):
        assert all("accepted: " in note for note in device.calibration_notes())
    for library in map(load_library, library_names()):
        assert all("accepted: " in note for note in library.calibration_notes())


def test_the_notes_of_a_model_name_chip_and_version() -> None:
    notes = CostModel.of(load_device("snapdragon-888")).calibration_notes()
    assert len(notes) == 2
    for words in ("dsp-networks", "soc QCS8250, not SM8350", "hexagon v66, not v68"):
        assert words in notes[0]
    assert "packet-rates was fitted on hexagon v66, not v68" in notes[1]
    own = CostModel.of(load_device("snapdragon-855")).calibration_notes()
    assert any("fastrpc-size was fitted on soc SM8250, not SM8150" in note for note in own)
    assert not any("fastrpc-qos" in note for note in own)


def test_a_mismatch_is_refused_unless_the_file_says_why(tmp_path: Path) -> None:
    tree = tree_of()
    del tree["bundles"][1]["accept"]
    message = refusal(tmp_path, tree)
    assert "fastrpc-qos was fitted on soc SM8150, not SM8250" in message
    assert "say under accept" in message
    tree = tree_of()
    tree["dsp"]["arch"] = "v68"
    assert "fastrpc-size was fitted on hexagon v66, not v68" in refusal(tmp_path, tree)


def test_a_library_refuses_what_was_fitted_on_another(tmp_path: Path) -> None:
    tree = yaml.safe_load((LIBRARIES / "hexagon_nn.yaml").read_text("utf-8"))
    del tree["bundles"][0]["accept"]
    with pytest.raises(LibraryError, match="vendor's delegate, not hexagon_nn; calibrate on this"):
        load_library(written(tmp_path, tree))


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({f"{SIZE}.buffers_us": 1}, "coefficient of fastrpc-size: 'boosted.buffers_us' is unknown"),
        ({"fastrpc/empty_us": 1}, "bundle of a term: 'fastrpc' is unknown"),
        ({"fastrpc-size/default.page_us_per_mib": 1}, "at its bound: the rows do not identify it"),
        ({f"{SIZE}.line_us_per_mib": 1}, "is in 'us/MiB', not 'us'; say the arithmetic in a note"),
        ({f"{SIZE}.buffer_us": float("inf")}, "comes to inf; correct the weights"),
        ({f"{SIZE}.buffer_us": -9}, "value -411.9"),
        ({}, "terms: {} is not allowed"),
    ],
)
def test_a_wrong_sum_is_refused(tmp_path: Path, terms: dict[str, float], said: str) -> None:
    message = refusal(tmp_path, null(tree_of(), terms=terms))
    assert "fastrpc.modes.none.null_us" in message
    assert said in message


def test_a_number_is_written_or_calibrated(tmp_path: Path) -> None:
    tree = null(tree_of(), terms={f"{SIZE}.buffer_us": 1})
    tree["fastrpc"]["modes"]["none"]["null_us"]["value"] = 3.0
    assert "null_us: has value and calibrated; keep one of them" in refusal(tmp_path, tree)


def test_a_calibrated_table_obeys_the_rules_of_tables(tmp_path: Path) -> None:
    tree = tree_of()
    table = {"unit": "bytes, us", "calibrated": {"rows": ROWS[1:], "note": "by line"}}
    tree["fastrpc"]["modes"]["none"]["per_mib"] = table
    assert "it must be [0, 0]: add that row" in refusal(tmp_path, tree)
    table["calibrated"] = {"rows": ROWS}
    assert "is in 'us/MiB', not 'us'" in refusal(tmp_path, tree)


@pytest.mark.parametrize(
    ("bundles", "said"),
    [
        ([{"name": "fastrpc-sise"}], "calibration bundle: 'fastrpc-sise' is unknown"),
        ([{"name": "none.json"}], "none.json: cannot be read"),
        (
            [{"name": "fastrpc-size"}, {"name": "fastrpc-size"}],
            "bundle 'fastrpc-size' is listed twice; keep one",
        ),
        ([{"name": "fastrpc-size", "sha256": "0"}], "bundles.0: sha256: unknown key"),
        ("fastrpc-size", "bundles: 'fastrpc-size' is no list"),
        ([{"name": "core-power"}], "'fastrpc-qos' is unknown; allowed: core-power"),
    ],
)
def test_a_wrong_list_of_bundles_is_refused(tmp_path: Path, bundles: Any, said: str) -> None:
    tree = tree_of()
    tree["bundles"] = bundles
    assert said in refusal(tmp_path, tree)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"terms": {"fastrpc-qos/wake_us": True}}, "True is not allowed"),
        ({"terms": {"fastrpc-qos/wake_us": 1}, "plus": "92"}, "'92' is not allowed"),
        ({"terms": {"fastrpc-qos/wake_us": 1}, "spread": True}, "True is not allowed"),
        ({"terms": {f"{SIZE}.buffer_us": 1}, "times": {f"{SIZE}.buffer_us": "1"}}, "'1' is not a"),
        ({"rows": [[0, {}], [True, {f"{SIZE}.buffer_us": 1}]]}, "True is not allowed"),
        ({"rows": [[0, {}], [1, {f"{SIZE}.buffer_us": "1"}]]}, "'1' is not allowed"),
    ],
)
def test_weights_are_numbers(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    assert said in refusal(tmp_path, null(tree_of(), **given))


def test_a_bundle_that_is_listed_and_not_used_is_refused(tmp_path: Path) -> None:
    tree = tree_of()
    tree["bundles"].append({"name": "core-power"})
    assert "core-power is listed and not used; remove it" in refusal(tmp_path, tree)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: len(text) // 2], "own.json: is not JSON"),
        (lambda text: text.replace('"fitted_on"', '"measured_on"'), "own.json: fitted_on: is miss"),
        (lambda text: text.replace('"schema_version": 3', '"schema_version": 2'), "schema_version"),
        (lambda text: text.replace("45.7699", "NaN", 1), "own.json: coefficients.1.value"),
        (lambda text: text.replace("45.7699", "-45.7", 1), "-45.7 is not allowed"),
    ],
)
def test_a_damaged_bundle_is_refused_by_file_and_field(
    tmp_path: Path, damage: Any, said: str
) -> None:
    text = (BUNDLES / "fastrpc-size.json").read_text("utf-8")
    (tmp_path / "own.json").write_text(damage(text), "utf-8")
    tree = tree_of()
    tree["bundles"][0]["name"] = "own.json"
    message = refusal(tmp_path, tree)
    assert "bundles.0: " in message
    assert said in message


def test_a_written_spread_may_only_widen(tmp_path: Path) -> None:
    terms = {"fastrpc-qos/wake_us": 1}
    spreads = [
        load_device(written(tmp_path, null(tree_of(), terms=terms, **given)))
        .quantities()["fastrpc.modes.none.null_us"]
        .spread
        for given in ({}, {"spread": 1.4}, {"spread": 30.0})
    ]
    assert spreads[0] is not None
    assert spreads[0] > 4
    assert spreads == [spreads[0], spreads[0], 30.0]


def test_nothing_that_comes_with_the_sandbox_is_surer_than_its_fit() -> None:
    for description in (*map(load_device, device_names()), *map(load_library, library_names())):
        for path, found in description.quantities().items():
            fit = sum(slope**2 for _, slope in found.common) ** 0.5
            assert log(found.factor) >= fit - 1e-5, path
            if found.common and found.kind == "assumed":
                assert found.factor >= 1.75, path


def test_what_another_library_was_fitted_on_is_assumed(tmp_path: Path) -> None:
    library = load_library("hexagon_nn")
    taken = {path: each for path, each in library.quantities().items() if each.common}
    assert {each.kind for each in taken.values()} == {"assumed"}
    assert "efficiency.int8.conv.forward" in taken
    assert (library.strided.input_grad.value, library.strided.input_grad.kind) == (0.25, "assumed")
    # Fitted on the library itself, the same number is derived, unless the file calls it assumed.
    content = json.loads((BUNDLES / "dsp-networks.json").read_text("utf-8"))
    for on in content["fitted_on"]:
        on["facts"]["library"] = "hexagon_nn"
    (tmp_path / "own.json").write_text(json.dumps(content), "utf-8")
    tree = yaml.safe_load((LIBRARIES / "hexagon_nn.yaml").read_text("utf-8"))
    tree["bundles"].append({"name": "own.json"})
    text = yaml.safe_dump(tree).replace("dsp-networks/", "own/")
    content["name"] = "own"
    (tmp_path / "own.json").write_text(json.dumps(content), "utf-8")
    tree = yaml.safe_load(text)
    tree["bundles"] = [b for b in tree["bundles"] if b["name"] != "dsp-networks"]
    shares = load_library(written(tmp_path, tree)).efficiency["int8"].conv
    assert (shares.forward.kind, shares.input_grad.kind) == ("derived", "assumed")
    tree["efficiency"]["int8"]["conv"]["forward"]["calibrated"]["kind"] = "assumed"
    assert load_library(written(tmp_path, tree)).efficiency["int8"].conv.forward.kind == "assumed"


def test_an_unknown_range_is_that_of_a_guess(tmp_path: Path) -> None:
    content = json.loads((BUNDLES / "fastrpc-qos.json").read_text("utf-8"))
    for each in content["coefficients"]:
        each |= {"low": None, "high": None}
    content["validations"][0] |= {"blocks": []}
    (tmp_path / "own.json").write_text(json.dumps(content), "utf-8")
    tree = null(tree_of(), terms={"fastrpc-qos/wake_us": 1})
    tree["bundles"][1]["name"] = "own.json"
    found = load_device(written(tmp_path, tree)).quantities()["fastrpc.modes.none.null_us"]
    assert found.spread == 1.75


@pytest.mark.parametrize(
    "facts",
    [{"backend": "board"}, {"backend": "host", "cpu": "AMD"}, {"SoC": "SM8250", "Hexagon": "v66"}],
)
def test_a_fact_that_a_bundle_does_not_tell_is_a_mismatch(
    tmp_path: Path, facts: dict[str, str]
) -> None:
    content = json.loads((BUNDLES / "fastrpc-size.json").read_text("utf-8"))
    for on in content["fitted_on"]:
        on["facts"] = facts
    (tmp_path / "own.json").write_text(json.dumps(content), "utf-8")
    tree = tree_of()
    tree["bundles"][0]["name"] = "own.json"
    message = refusal(tmp_path, tree)
    assert "fitted on soc not told, not SM8250, hexagon not told, not v66" in message


def test_coefficients_by_name() -> None:
    bundle = Bundle.load("fastrpc-size")
    with pytest.raises(CalibrationError, match=r"did you mean 'boosted\.empty_us'\?"):
        bundle.coefficient("boosted.empty")
    assert bundle.measured_on("boosted.empty_us").facts["soc"] == "SM8250"
    assert bundle.measured_on("default.empty_us").facts["soc"] == "not stated"


def test_a_fact_that_a_description_does_not_have_is_no_mismatch() -> None:
    use = BundleUse(name="x", fitted_on=Bundle.load("dsp-networks").fitted_on)
    assert use.mismatches({"library": "TFLite with the vendor's delegate"}) == []
