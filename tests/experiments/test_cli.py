"""What each command prints: the JSON's schema and values, and tables that fit the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import sim
from cost_models.device import mcu_names
from cost_models.library import load_library
from experiments.cli import app
from experiments.cli_memory import subgraph_visits
from experiments.compare import WORLDS
from sim.lowering import lowering

SMALL = ["-m", "lenet", "-d", "snapdragon-865", "-b", "4"]


def run(*arguments: str, columns: str = "80") -> str:
    """Run a command that must succeed; return its stdout."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": columns})
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result.stdout


def run_json(*arguments: str) -> dict[str, Any]:
    """Run a command with ``--json``; stdout must be JSON and nothing else."""
    document: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return document


def assert_integers(document: object, path: str = "") -> None:
    """Everything with a unit of the core in its name is an integer, wherever it is."""
    if isinstance(document, dict):
        for key, value in document.items():
            assert_integers(value, f"{path}.{key}")
            if key.endswith(("_ns", "_pj", "_bytes")) and not isinstance(value, dict | list):
                assert type(value) is int, f"{path}.{key} = {value!r}"
    elif isinstance(document, list):
        for index, value in enumerate(document):
            assert_integers(value, f"{path}[{index}]")


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    return run_json("compare", *SMALL, "--fairness")


def test_compare_has_the_documented_keys(compared: dict[str, Any]) -> None:
    assert set(compared) == {
        *("note", "model", "device", "batch", "reference", "budget_bytes", "rows", "missing"),
        "failed",
        *("waterfalls", "calibration_notes", "manifest", "fairness", "hvx_only"),
    }
    assert compared["note"] == "predicted, not measured"
    assert (compared["model"], compared["device"]) == ("lenet", "snapdragon-865")
    assert compared["reference"] == "mnn-fp32"
    assert set(compared["rows"][0]) == {
        *("name", "summary", "time_ns", "time_interval_ns", "energy_pj", "peak_bytes"),
        *("over_budget", "speedup", "speedup_interval", "energy_ratio", "breakdown_ns"),
        *("energy_ratio_interval", "evidence", "first_step_ns", "p50_ns", "p95_ns", "adoptions"),
    }
    assert_integers(compared)


def test_compare_rows_add_up(compared: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in compared["rows"]}
    base = rows["mnn-fp32"]
    for row in rows.values():
        assert sum(row["breakdown_ns"].values()) == row["time_ns"]
        assert sum(row["evidence"].values()) == pytest.approx(1)
        assert row["speedup"] == base["time_ns"] / row["time_ns"]
        assert row["energy_ratio"] == base["energy_pj"] / row["energy_pj"]
        assert row["over_budget"] == (row["peak_bytes"] > compared["budget_bytes"])
        low, high = row["time_interval_ns"]
        assert low <= high
        for one in row["adoptions"]:
            assert one["adopted"] == (one["proposed_ns"] < one["before_ns"])
    assert rows["mandheling"]["time_ns"] <= rows["dsp-int8"]["time_ns"]
    assert len(compared["waterfalls"]) == 2
    for fall in compared["waterfalls"]:
        times = fall["times_ns"]
        assert len(times) == len(fall["order"]) + 1
        assert sum(fall["deltas_ns"]) == times[-1] - times[0]


def test_compare_tells_the_terms(compared: dict[str, Any]) -> None:
    terms = {one["name"]: one for one in compared["fairness"]}
    assert terms["mnn-fp32"]["precision"] == "FP32"
    assert terms["mnn-fp32"]["libraries"] == {"mnn": "NC4HW4"}
    assert set(terms["tflite-fp32"]["libraries"]) == {"tflite"}
    assert terms["dsp-int8"]["precision"] == "INT8"
    assert terms["dsp-int8"]["libraries"]["hexagon_nn"] == "D32"
    graph = sim.training_graph(sim.load_model("lenet", 4))
    assert terms["mnn-fp32"]["units"] == {"cpu:4": len(graph.nodes)}
    for one in terms.values():
        shares = [constant["share"] for constant in one["constants"]]
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1 + 1e-9


def test_compare_lists_what_a_device_cannot_run() -> None:
    found = run_json("compare", "-m", "lenet", "-d", "laptop", "-b", "2")
    assert found["missing"]["mandheling"] == "laptop has no dsp"
    assert found["waterfalls"] == []
    assert {row["name"] for row in found["rows"]} == {"tflite-fp32", "mnn-fp32", "mnn-int8"}
    assert "laptop has no dsp" in run("compare", "-m", "lenet", "-d", "laptop", "-b", "2")


def test_compare_takes_plans_from_files_and_writes_what_it_prints(tmp_path: Path) -> None:
    path, target = tmp_path / "own.json", tmp_path / "out.json"
    path.write_text(run("plan", "show", *SMALL, "-p", "dsp-int8", "--json"))
    text = run("compare", *SMALL, "-p", "dsp-int8", "-p", str(path), "-o", str(target), "--json")
    assert target.read_text() == text
    rows = {row["name"]: row for row in json.loads(text)["rows"]}
    assert set(rows) == {"mnn-fp32", "dsp-int8", "dsp-int8 (own)"}
    own, named = rows["dsp-int8 (own)"], rows["dsp-int8"]
    assert own["summary"] == "your plan"
    assert (own["time_ns"], own["energy_pj"]) == (named["time_ns"], named["energy_pj"])


def test_a_manifest_tells_what_a_result_follows_from(compared: dict[str, Any]) -> None:
    manifest = compared["manifest"]
    graph = sim.training_graph(sim.load_model("lenet", 4))
    assert manifest["graph_sha256"] == graph.hash()
    assert manifest["device_sha256"] == sim.load_device("snapdragon-865").sha256
    assert manifest["seed"] == 0
    assert set(manifest["plan_sha256"]) == {row["name"] for row in compared["rows"]}
    packages = {"python", "mandheling-sandbox", "numpy", "numba", "simpy", "scipy"}
    assert set(manifest["versions"]) == packages
    # mnn-fp32 and the others, tflite-fp32; and what runs on GPU and DSP.
    assert manifest["library_sha256"] == {
        name: load_library(name).sha256 for name in ("hexagon_nn", "mnn", "mnn_opencl", "tflite")
    }
    assert manifest["config"] == {"worlds": WORLDS, "samples": 12}
    assert str(Path.cwd()) not in json.dumps(compared)


def test_the_same_command_prints_the_same_bytes() -> None:
    arguments = ("simulate", *SMALL, "-p", "dsp-int8+rescale", "-n", "3", "--json")
    assert run(*arguments) == run(*arguments)


@pytest.mark.parametrize("scenario", ["quiet", "sustained", "busy"])
def test_simulate_is_the_library_s_run(scenario: str) -> None:
    found = run_json("simulate", *SMALL, "-n", "6", "--seed", "3", "--scenario", scenario)
    graph = sim.training_graph(sim.load_model("lenet", 4))
    device = sim.load_device("snapdragon-865")
    plan = sim.build_plan("mandheling", graph, device)
    expected = sim.simulate(graph, plan, device, steps=6, seed=3, scenario=scenario)
    times = expected.step_ns.tolist()
    assert found["timeline_sha256"] == expected.sha256
    assert found["makespan_ns"] == sum(times) == expected.makespan_ns
    assert found["energy_pj"] == expected.energy_pj
    assert found["peak_bytes"] == expected.peak_bytes
    assert found["scans"] == expected.final.scans
    # Of five later steps the median is the 3rd and p95 the largest.
    later = sorted(times[1:])
    assert found["step_ns"] == {
        "first": times[0],
        "p50": later[2],
        "p95": later[4],
        "mean": sum(later) // 5,
    }
    assert (found["temperature_mc"] is not None) == (scenario == "sustained")
    busy = [expected.final.scenario.busy_cores(3, step) > 0 for step in range(6)]
    assert found["busy_steps"] == sum(busy)
    assert_integers(found)


def test_a_run_s_manifest_names_libraries_and_settings_of_its_plan() -> None:
    arguments = ("-p", "tflite-fp32", "-n", "2", "--engine", "simpy", "--scenario", "busy")
    manifest = run_json("simulate", *SMALL, *arguments)["manifest"]
    assert set(manifest["library_sha256"]) == {"hexagon_nn", "mnn_opencl", "tflite"}
    assert manifest["config"] == {"engine": "simpy", "scenario": "busy", "steps": 2}


def test_simulate_with_one_step_and_either_engine() -> None:
    one, other = (
        run_json("simulate", *SMALL, "-p", "dsp-int8", "-n", "1", "--engine", engine)
        for engine in ("compiled", "simpy")
    )
    assert one["timeline_sha256"] == other["timeline_sha256"]
    assert set(one["step_ns"].values()) == {one["makespan_ns"]}


def test_simulate_writes_a_trace_and_says_where_to_open_it(tmp_path: Path) -> None:
    target = tmp_path / "trace.json"
    arguments = ["simulate", *SMALL, "-p", "dsp-int8", "-n", "2", "--trace", str(target), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "ui.perfetto.dev" in result.stderr
    trace = json.loads(target.read_text())
    assert trace["otherData"]["makespan_ns"] == json.loads(result.stdout)["makespan_ns"]
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_devices() -> None:
    found = run_json("devices")["devices"]
    assert tuple(one["name"] for one in found) == (*sim.device_names(), *mcu_names())
    one = run_json("devices", "snapdragon-865")
    device = sim.load_device("snapdragon-865")
    assert set(one["quantities"]) == set(device.quantities())
    fact = one["quantities"]["dsp.vtcm_bytes"]
    assert (fact["value"], fact["unit"]) == (262144, "bytes")
    assert type(fact["value"]) is int
    for path, quantity in device.quantities().items():
        assert one["quantities"][path]["source"] == quantity.source
        assert one["quantities"][path]["kind"] == quantity.kind


def test_a_matrix_unit_that_is_not_modelled_is_named_where_there_is_one() -> None:
    said = "HVX only: the matrix unit (HMX) of this DSP is not modelled"
    for device, true in (("snapdragon-888", True), ("snapdragon-865", False), ("laptop", False)):
        assert (said in run("devices", device)) == true
        assert run_json("devices", device)["hvx_only"] == true
        small = ("compare", "-m", "lenet", "-d", device, "-b", "2", "-p", "mnn-int8")
        assert (said in run(*small)) == true
        assert run_json(*small)["hvx_only"] == true
    listed = " ".join(run("devices").split())
    assert f"{said}: qcs6490, snapdragon-888, snapdragon-8gen3" in listed


def test_models() -> None:
    found = run_json("models")["models"]
    assert tuple(one["name"] for one in found) == sim.model_names()
    one = run_json("models", "lenet", "--batch", "8")
    model = sim.load_model("lenet", 8)
    assert (one["params"], one["macs"], one["batch"]) == (model.params, model.macs, 8)
    assert sum(layer["macs"] for layer in one["layers"]) == model.macs
    assert sum(layer["params"] for layer in one["layers"]) == model.params


def test_plan_show_is_the_plan() -> None:
    graph = sim.training_graph(sim.load_model("lenet", 4))
    device = sim.load_device("snapdragon-865")
    plan = sim.build_plan("mandheling", graph, device)
    assert run("plan", "show", *SMALL, "--json") == plan.to_json()
    summary = run("plan", "show", *SMALL)
    for aspect in ("precision", "batch_split", "rescale", "placement", "grouping", "reuse"):
        assert aspect in summary


def test_plan_show_tells_each_choice_of_the_step_by_its_own_key(tmp_path: Path) -> None:
    graph = sim.training_graph(sim.load_model("lenet", 4))
    plan = sim.build_plan("dsp-int8", graph, sim.load_device("snapdragon-865"))
    chosen = {("operating_point", "cpu"): "75%", ("operating_point", "dsp"): "turbo_l1"}
    path = tmp_path / "own.json"
    path.write_text(plan.update(chosen).to_json())
    rows = [line.split() for line in run("plan", "show", *SMALL, "-p", str(path)).splitlines()]
    assert ["operating_point.cpu", "75%", "1", "-"] in rows
    assert ["operating_point.dsp", "turbo_l1", "1", "-"] in rows
    rows = [line.split() for line in run("plan", "show", *SMALL, "-p", "dsp-int8").splitlines()]
    assert ["operating_point.cpu", "max", "-", "1"] in rows
    assert ["operating_point.dsp", "max", "-", "1"] in rows


def test_plan_diff() -> None:
    found = run_json("plan", "diff", "dsp-int8", "dsp-int8+reuse", *SMALL)
    assert found["differences"] == [{"aspect": "reuse", "subject": "step", "a": None, "b": "mru"}]
    assert run_json("plan", "diff", "dsp-int8", "dsp-int8", *SMALL)["differences"] == []


def test_vtcm_is_the_published_table() -> None:
    found = run_json("vtcm")
    rows = {row["map"]: row for row in found["rows"]}
    # H_out * W_out * roundup32(batch) * 32 bytes, in KiB.
    expected = {4: (16, 32, 64), 8: (64, 128, 256), 14: (196, 392, 784), 16: (256, 512, 1024)}
    for side, sizes in expected.items():
        assert [size // 1024 for size in rows[side]["need_bytes"].values()] == list(sizes)
        assert list(rows[side]["fits"].values()) == [size <= 256 for size in sizes]
    assert {side: row["max_batch"] for side, row in rows.items()} == {
        **{4: 512, 8: 128, 14: 32, 16: 32},
        **{28: 0, 32: 0, 56: 0},
    }
    assert rows[56]["need_bytes"]["64"] == 56 * 56 * 64 * 32
    # 4 MiB hold 32x32 at batch 128 exactly.
    assert {r["map"]: r["max_batch"] for r in run_json("vtcm", "--vtcm-kib", "4096")["rows"]}[
        32
    ] == 128


def test_sweep_counts_abnormal_convolutions() -> None:
    found = run_json("sweep", "-m", "vgg11", "-d", "snapdragon-865", "--batches", "64,32")
    small, large = found["rows"]
    # Maps of VGG-11's convolutions: 32, 16, 8, 8, 4, 4, 2, 2. At batch 32 only 32x32 overflows
    # (1024 KiB, never saved); at batch 64 also 16x16 (512 KiB), which two halves save.
    assert (small["batch"], small["weight_grads"], small["abnormal"]) == (32, 8, 1)
    assert (large["batch"], large["abnormal"]) == (64, 2)
    assert len(large["saved_by_split"]) == len(large["not_saved"]) == 1
    assert small["not_saved"] == large["not_saved"]
    newer = run_json("sweep", "-m", "vgg11", "-d", "snapdragon-888", "--batches", "64")
    assert newer["rows"][0]["abnormal"] == 0


@pytest.mark.parametrize("per_layer", [False, True])
def test_reuse_counts_hits(per_layer: bool) -> None:
    flags = ["--per-layer"] if per_layer else []
    found = run_json("reuse", *SMALL, "--budget-mib", "0.001,4096", *flags)
    none, all_of_it = found["rows"]
    assert found["visits"] >= found["distinct"] > 0
    graph = sim.training_graph(sim.load_model("lenet", 4))
    device = sim.load_device("snapdragon-865")
    plan = sim.build_plan("mandheling", graph, device)
    visits = subgraph_visits(plan, graph, device, per_layer=per_layer)
    # In 1,049 bytes only subgraphs without weights (pooling, say), which hold nothing, stay.
    free = sum(size == 0 for _, size in visits)
    assert found["visits"] == len(visits)
    assert none["hits_per_cycle"] == {"none": 0, "lru": free, "mru": free, "belady": free}
    for rule in ("lru", "mru", "belady"):
        assert all_of_it["hits_per_cycle"][rule] == found["visits"]
        assert all_of_it["hits"][rule] == found["visits"] * all_of_it["cycles"]
    assert all_of_it["hits"]["none"] == 0
    assert all_of_it["bound_per_cycle"] == found["visits"]
    assert none["bound_per_cycle"] == free


def test_reuse_as_planned_visits_the_plan_s_subgraphs() -> None:
    graph = sim.training_graph(sim.load_model("lenet", 4))
    device = sim.load_device("snapdragon-865")
    visits = lowering(graph, sim.build_plan("mandheling", graph, device), device).visits
    found = run_json("reuse", *SMALL)
    assert (found["visits"], found["distinct"]) == (len(visits), len(dict(visits)))
    assert found["all_bytes"] == sum(dict(visits).values())
    layers = run_json("reuse", *SMALL, "--per-layer")
    assert layers["visits"] >= found["visits"]


@pytest.mark.parametrize("columns", ["80", "120"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", *SMALL, "--fairness"],
        ["simulate", *SMALL, "-n", "2", "--scenario", "sustained"],
        ["devices"],
        ["devices", "snapdragon-865"],
        ["models"],
        ["models", "lenet"],
        ["plan", "show", *SMALL],
        ["plan", "diff", "dsp-int8", "mandheling", *SMALL],
        ["explain", *SMALL],
        ["explain", *SMALL, "--op", "conv2.weight_grad"],
        ["vtcm"],
        ["sweep", "-m", "vgg11", "-d", "snapdragon-865"],
        ["reuse", *SMALL],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_tables_fit_the_terminal_and_lose_nothing(arguments: list[str], columns: str) -> None:
    text = run(*arguments, columns=columns)
    assert max(map(len, text.splitlines())) <= int(columns)
    assert "…" not in text
    predicting = ("compare", "simulate", "explain")
    assert ("predicted, not measured" in text) == (arguments[0] in predicting)


def test_version() -> None:
    assert run("--version").startswith("mandheling ")
