"""The examples, installed as the plug-ins that they are, keep to the rules and do what they say."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from cost_models.device import load_device
from experiments import cli
from sim.autodiff import training_graph
from sim.policies import POLICIES, RECIPES, build_plan
from sim.policies.conformance import check_policy, check_recipe
from sim.policies.rule_conformance import check_rule
from sim.rescaling import RULES
from sim.zoo import load_model

EXAMPLES = Path(__file__).parents[2] / "examples"
ORIGIN = "mandheling-examples 0.1.0"
CapSys = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which pip has installed the examples."""
    folder = tmp_path_factory.mktemp("examples")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    ran = subprocess.run(
        [*pip, *offline, "--target", str(folder), str(EXAMPLES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture
def examples(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))


@pytest.mark.usefixtures("examples")
def test_they_are_found_like_the_built_in_ones() -> None:
    assert (RECIPES.origin("spill"), POLICIES.origin("spill")) == (ORIGIN, ORIGIN)
    assert RULES.origin("cautious") == ORIGIN
    graph = training_graph(load_model("lenet", batch=4))
    assert build_plan("spill", graph, load_device("snapdragon-865")).name == "spill"


@pytest.mark.usefixtures("examples")
def test_they_conform() -> None:
    check_policy(POLICIES["spill"])
    check_recipe(RECIPES["spill"])
    check_rule("cautious:1")
    check_rule("cautious:16")


@pytest.mark.usefixtures("examples")
def test_the_scheduling_example_compares(capsys: CapSys) -> None:
    main = import_module("new_scheduling_policy").main
    main(["--model", "lenet", "--batch", "8", "--worlds", "2"])
    title, heads, *rows = capsys.readouterr().out.splitlines()
    assert title == "lenet, batch 8, on snapdragon-865: predicted, not measured"
    assert heads.split() == ["plan", "ms", "J", "speed-up", "90", "%"]
    times = {row.split()[0]: float(row.split()[1]) for row in rows}
    assert set(times) == {"my-spill", "mnn-fp32", "released", "latency", "heft", "mandheling"}
    assert list(times.values()) == sorted(times.values())


@pytest.mark.usefixtures("examples")
def test_the_policy_takes_work_off_the_dsp() -> None:
    graph, phone = training_graph(load_model("vgg11", batch=32)), load_device("snapdragon-865")
    spilled = build_plan("spill", graph, phone).aspect("placement")
    faster = build_plan("latency", graph, phone).aspect("placement")
    moved = set(faster) - set(spilled)
    assert moved
    assert all(subject.endswith(".weight_grad") for subject in moved)


@pytest.mark.usefixtures("examples")
def test_the_rescaling_example_trains(tmp_path: Path, capsys: CapSys) -> None:
    main = import_module("new_rescaling_policy").main
    main([
        *("--model", "lenet", "--batch", "8", "--epochs", "1", "--out", str(tmp_path / "runs")),
        *("--rules", "cautious:8", "every"),
    ])  # fmt: skip
    _, heads, *rows = capsys.readouterr().out.splitlines()
    assert heads.split()[:3] == ["rule", "step", "ms"]
    table = {row.split()[0]: [float(cell) for cell in row.split()[1:]] for row in rows}
    cautious, every = table["cautious:8"], table["every"]
    assert cautious[0] < every[0]
    assert every[3] == 100.0
    assert 100 / 8 <= cautious[3] < 100 / 8 + 5
    assert min(cautious[2], every[2]) > 50


@pytest.mark.usefixtures("examples")
def test_the_command_lists_and_checks_them(monkeypatch: pytest.MonkeyPatch, capsys: CapSys) -> None:
    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["mandheling", "plugins", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0
        return capsys.readouterr().out

    listed = [line.split() for line in run().splitlines()]
    assert [line[:3] for line in listed if "mandheling-examples" in line] == [
        ["plan", "spill", "mandheling-examples"],
        ["policy", "spill", "mandheling-examples"],
        ["rescale", "rule", "cautious"],
    ]
    assert run("cautious:4").count("keeps to the rules") == 1
