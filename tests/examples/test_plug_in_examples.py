"""The examples, installed as the plug-ins that they are, keep to the rules and do what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from cost_models.device import load_device
from experiments import cli
from experiments.search.result import SearchResult
from sim.autodiff import training_graph
from sim.plan import Plan
from sim.policies import POLICIES, RECIPES, build_plan
from sim.policies.conformance import check_policy, check_recipe
from sim.policies.rule_conformance import check_rule
from sim.rescaling import RULES
from sim.zoo import load_model

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ORIGIN = "mandheling-examples 0.1.0"
CapSys = pytest.CaptureFixture[str]


def install(source: Path, folder: Path) -> None:
    """Let pip install a distribution into a folder."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    ran = subprocess.run(
        [*pip, *offline, "--target", str(folder), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which pip has installed the examples."""
    folder = tmp_path_factory.mktemp("examples")
    install(EXAMPLES, folder)
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
def test_a_search_takes_the_rule_where_it_is_asked_for(tmp_path: Path, capsys: CapSys) -> None:
    def search(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            cli.app(["search", *words, "--backend", "serial", "--no-robust", "--no-why"])
        assert isinstance(end.value.code, int)
        return end.value.code, capsys.readouterr().err

    held = [f"--hold={a}" for a in ("placement", "grouping", "precision", "batch_split")]
    small = ("--model=lenet", "--batch=8", "--objectives=time", "--evaluations-per-shard=256")
    ruled = ("--rule", "cautious:2048", "--limit", "risk=100%")
    target = tmp_path / "run.json"
    words = (*small, *held, *ruled, "--budget=1-shard", "-o", str(target))
    assert search(*words)[0] == 0
    found = SearchResult.read(target)
    assert found.manifest.problem["rules"] == ["cautious:2048"]
    assert "--rule cautious:2048" in found.manifest.command
    assert found.manifest.versions["mandheling-examples"] == "0.1.0"
    plan = Plan.from_json(json.dumps(found.best.plan))
    assert "cautious:2048" in plan.aspect("rescale").values()
    assert found.bound is not None
    assert found.bound.time_ns <= found.best.time_ns
    assert search("--resume", f"{target}.journal", "--budget=2-shards")[0] == 0
    assert SearchResult.read(target).manifest.shards == 2
    assert search("--resume", f"{target}.journal", "--rule", "fixed:24")[0] == 2
    code, said = search(*small, "--rule", "careless:3")
    assert code == 2
    assert "rule: rescale rule 'careless:3': choose one of" in said


@pytest.mark.usefixtures("examples")
def test_the_command_lists_and_checks_them(monkeypatch: pytest.MonkeyPatch, capsys: CapSys) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["mandheling", "plugins", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0
        return capsys.readouterr().out

    listing = run()
    assert max(map(len, listing.splitlines())) <= 80
    found = [line.split() for line in listing.splitlines()]
    theirs = [line[:2] for line in found if "mandheling-examples" in line]
    assert theirs == [[name, "mandheling-examples"] for name in ("spill", "spill", "cautious")]
    assert ["annealing", "built", "in"] in [line[:3] for line in found]
    assert run("cautious:4").count("keeps to the rules") == 1
    assert run("random").count("keeps to the rules") == 1


def test_the_guide_can_be_installed_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/guides/plug-in.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(toml|python)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (project,) = [text for kind, text in blocks if kind == "toml"]
    module = [text for _, text in blocks if text.startswith("# my_plug_ins.py")]
    source, site = tmp_path / "my-plug-ins", tmp_path / "site"
    source.mkdir()
    (source / "pyproject.toml").write_text(project, encoding="utf-8")
    (source / "my_plug_ins.py").write_text("\n".join(module), encoding="utf-8")
    install(source, site)
    monkeypatch.syspath_prepend(str(site))
    assert RECIPES.origin("my-plan") == RULES.origin("patient") == "my-plug-ins 0.1.0"
    check_recipe(RECIPES["my-plan"])
    check_rule("patient:8")
