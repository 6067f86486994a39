"""A whole study on a few images: searched, trained, thinned out, resumed, and told."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.combinations.__main__ import main
from experiments.combinations.analysis import (
    validated,
)
from experiments.combinations.combination import REMOVABLE, Combination, candidates, named
from experiments.combinations.drawn import draw
from experiments.combinations.projection import projected_s, total_s
from experiments.combinations.schedules import graph_of, searched
from experiments.combinations.settings import MIB, StudySettings
from experiments.combinations.shown import (
    BEGIN,
    END,
    NOT_TRAINED,
    combinations_table,
    renew,
    report,
)
from experiments.combinations.study import (
    RESULT,
    CombinationStudy,
    costs,
    fits,
    memory_of,
    neighbours,
)
from experiments.combinations.training import Training
from experiments.dynamic.loops import Data
from experiments.results import read_result
from experiments.training.checkpoint import CheckpointError
from experiments.training.config import ConfigError
from sim import expect, load_device
from sim.aspects.backward import patch_of
from sim.memory import peak_bytes
from sim.plan import Plan

ROOT = Path(__file__).parents[3]
SMALL = StudySettings(
    dataset="shapes32",
    sizes=(200, 40),
    energy_j=0.6,
    memory_mib=9.0,
    widths=(1,),
    patches=(1, 2),
    batch=8,
    validation=40,
    warmup=4,
    rungs=(0.5, 1.0),
    points=4,
    period=2,
    shards=1,
    evaluations=64,
    turns=2,
)
DEVICE = load_device(SMALL.device)
Content = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small study; its figures are in ``figures.json``."""
    made = tmp_path_factory.mktemp("combinations")
    study(made).run()
    return made


@pytest.fixture(scope="module")
def content(folder: Path) -> Content:
    return read_result(folder / "figures.json")


def study(
    folder: Path, settings: StudySettings = SMALL, said: list[str] | None = None
) -> CombinationStudy:
    say = (lambda text: None) if said is None else said.append
    return CombinationStudy(settings, folder, folder / "figures.json", threads=1, say=say)


def plan_of(folder: Path, stage: Combination) -> Plan:
    return Plan.read(study(folder).plan_path(stage))


def test_schedules_keep_what_the_combination_says(folder: Path, content: Content) -> None:
    for name, row in content["schedules"].items():
        stage = named(name)
        plan, graph = plan_of(folder, stage), graph_of(stage, SMALL)
        rules = plan.aspect("backward").values()
        assert max(map(patch_of, rules), default=1) == stage.patch
        assert ("int8" in plan.aspect("precision").values()) is (stage.precision == "int8")
        if stage.split == "whole":
            assert not plan.aspect("batch_split")
        expected = expect(graph, plan, DEVICE)
        assert (expected.energy_pj, expected.time_ns) == (row["energy_pj"], row["time_ns"])
        assert max(map(peak_bytes, expected.timelines)) == row["memory_bytes"]
        if row["memory_bytes"] <= SMALL.memory_bytes:
            assert row["energy_pj"] <= row["base_pj"]


def test_a_schedule_is_within_the_memory_budget_or_the_leanest() -> None:
    one = Combination(1, "int8", 1, "whole")
    roomy, tight, none = (
        searched(one, replace(SMALL, memory_mib=mib), DEVICE) for mib in (9.0, 4.0, 0.5)
    )
    assert roomy.memory_bytes > 4 << 20
    assert tight.memory_bytes <= 4 << 20
    assert tight.energy_pj > roomy.energy_pj
    assert 1 << 19 < none.memory_bytes <= tight.memory_bytes


def test_known_plans_are_taken_over_whatever_their_filter(folder: Path) -> None:
    exact, rough = (Combination(1, "fp32", patch, "whole") for patch in (1, 2))
    brief = replace(SMALL, evaluations=1)
    alone = searched(rough, brief, DEVICE)
    helped = searched(rough, brief, DEVICE, [plan_of(folder, exact)])
    assert helped.energy_pj < alone.energy_pj


def test_combinations_beyond_the_memory_budget_are_left_out(content: Content) -> None:
    rows = content["schedules"]
    assert all(fits(one, rows, SMALL) for one in SMALL.combinations)
    most = max(row["memory_bytes"] for row in rows.values())
    less = replace(SMALL, memory_mib=(most - 1) / MIB)
    beyond = {one.name for one in SMALL.combinations if not fits(one, rows, less)}
    assert beyond
    assert all(memory_of(named(name), rows) == most for name in beyond)
    lines = combinations_table(content, less).splitlines()
    told = {line.split()[0] for line in lines if "infeasible: 0.00 MiB over" in line}
    assert told == beyond


def test_candidates_are_trained_and_no_others_but_neighbours(content: Content) -> None:
    rows = content["schedules"]
    first = candidates({one: costs(one, rows) for one in SMALL.combinations})
    assert content["candidates"] == [one.name for one in first]
    trained = {name.rpartition("-seed")[0] for name in content["trainings"]}
    beside = {one.name for one in neighbours(named(content["best"])).values()}
    assert trained <= {one.name for one in first} | beside
    assert {one.name for one in first} <= trained


def test_trainings_end_where_the_energy_is_used_up(content: Content) -> None:
    best = content["best"]
    for rung in SMALL.rung_pj:
        for row in (kept["tested"].get(str(rung)) for kept in content["trainings"].values()):
            if row is not None:
                last = row["energy_pj"] - rung
                assert 0 <= last < row["energy_pj"] / row["steps"] * 8
    kept = content["trainings"][f"{best}-seed0"]
    assert len(kept["points"]) == SMALL.points
    assert kept["ddr_bytes"] > 0
    assert f"{best}-seed1" in content["trainings"]


def test_fewer_go_on_from_the_first_rung(content: Content) -> None:
    low, high = map(str, SMALL.rung_pj)
    seed0 = {n: kept for n, kept in content["trainings"].items() if n.endswith("seed0")}
    reached = {n for n, kept in seed0.items() if high in kept["tested"]}
    assert len(content["candidates"]) > 1
    assert all(low in kept["tested"] for kept in seed0.values())
    best_first = max(
        (f"{name}-seed0" for name in content["candidates"]),
        key=lambda n: seed0[n]["tested"][low]["validation"],
    )
    assert best_first in reached


def test_a_finished_study_is_not_repeated(folder: Path, content: Content) -> None:
    said: list[str] = []
    assert study(folder, said=said).run() == content
    assert said == []
    with pytest.raises(ConfigError, match=r"holds another study: energy_j was 0.6 and is 0.7"):
        study(folder, replace(SMALL, energy_j=0.7))


def test_a_training_that_diverges_later_ranks_as_before_at_the_rungs_below(
    content: Content,
) -> None:
    """What goes on follows from settings and images, not from how far a stopped study had come."""
    low, high = SMALL.rung_pj
    leader = f"{content['best']}-seed0"
    kept = content["trainings"][leader]
    assert kept["tested"][str(high)]["steps"] == kept["steps"] > kept["tested"][str(low)]["steps"]
    lost = {**content, "trainings": {**content["trainings"], leader: {**kept, "diverged": True}}}
    one = named(content["best"])
    assert validated(lost, one, low, 0) == validated(content, one, low, 0) > 0
    assert validated(lost, one, high, 0) == -1


def data() -> Data:
    return Data.load(SMALL.training(None, 0, 1), (32, 32, 3))


def training(folder: Path, plans: Path, one: Combination, images: Data) -> Training:
    found = tuple(plan_of(plans, stage) for stage in one.stages)
    return Training(one, found, SMALL, images, DEVICE, folder, threads=1)


def test_a_training_that_was_killed_ends_in_the_same_bits(folder: Path, tmp_path: Path) -> None:
    """Stopped at half of the energy, with a checkpoint from before as after a kill: all the same.

    The rule takes whatever diversity comes after the first as a reason to switch.
    """
    one, images = Combination(1, "switch", 2, "split"), data()

    def eager(where: str) -> Training:
        made = training(tmp_path / where, folder, one, images)
        rule = made.levels.rule
        made.levels.rule = replace(rule, resolution=2, patience=1, alpha=0.0, beta=0.0)
        return made

    straight = eager("a")
    done = straight.until(SMALL.energy_pj)
    eager("b").until(SMALL.energy_pj // 4)
    older = (tmp_path / "b/checkpoint.npz").read_bytes()
    eager("b").until(SMALL.energy_pj // 2)
    (tmp_path / "b/checkpoint.npz").write_bytes(older)
    last = eager("b")
    again = last.until(SMALL.energy_pj)
    assert again.points == done.points
    assert (again.steps, again.energy_pj, again.switched) == (
        done.steps,
        done.energy_pj,
        done.switched,
    )
    shas = [made.levels.session.executor.parameters.sha256() for made in (straight, last)]
    assert shas[0] == shas[1]
    assert len(done.switched) == 1
    weights = straight.levels.session.executor.parameters.trained.values()
    assert {each.floats().dtype.name for each in weights} == {"float32"}


def test_checkpoints_of_others_and_damaged_ones_are_refused(folder: Path, tmp_path: Path) -> None:
    one, images = Combination(1, "int8", 2, "split"), data()
    training(tmp_path / "a", folder, one, images).until(SMALL.energy_pj // 8)
    with pytest.raises(ConfigError, match="holds another training: combination was"):
        training(tmp_path / "a", folder, replace(one, split="whole"), images)
    (tmp_path / "a/checkpoint.npz").write_bytes(b"no archive")
    with pytest.raises(CheckpointError, match="is damaged"):
        training(tmp_path / "a", folder, one, images)


def test_a_missing_plan_is_not_searched_anew_behind_the_figures(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "figures.json", tmp_path / "figures.json")
    with pytest.raises(ConfigError, match=r"is not there, and .* has its figures"):
        study(tmp_path).run()


def test_the_report_is_put_between_the_marks(content: Content, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    renew(page, content)
    text = page.read_text(encoding="utf-8")
    assert text == f"before\n{BEGIN}\n{report(content)}\n{END}\nafter\n"
    assert content["best"] in text
    assert report({}) == NOT_TRAINED
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ConfigError, match="lacks <!-- study: begin -->"):
        renew(page, content)


def test_the_page_shows_what_is_kept() -> None:
    """``--table --page docs/background/combinations.md`` renews it."""
    text = (ROOT / "docs/background/combinations.md").read_text(encoding="utf-8")
    shown = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == report(read_result(ROOT / RESULT)).strip()


def test_the_picture_is_the_same_bytes_for_the_same_figures(content: Content) -> None:
    pytest.importorskip("matplotlib")
    first = draw(content)
    assert first == draw(content)
    assert b"simulated energy of the training" in first


def test_the_projection_counts_the_images_that_there_are(folder: Path) -> None:
    """40 images are 5 batches, at two rungs; a set of as many again adds as many batches."""
    made = study(folder)
    classifying = {stage: (0.0, 1.0) for one in SMALL.combinations for stage in one.stages}
    few, more = (total_s(made, classifying, images) for images in (40, 80))
    count = len(made.content["candidates"])
    beside = SMALL.seeds * (1 + len(REMOVABLE))
    tests = count + -(-count // SMALL.keep) + 2 * beside
    assert more - few == pytest.approx(5 * tests)
    training_alone = dict.fromkeys(classifying, (1.0, 0.0))
    assert total_s(made, training_alone, 40) == total_s(made, training_alone, 80) > 0
    assert projected_s(made) > 0


def test_budgets_that_no_integer_holds_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--energy-j", "inf", "--result", str(tmp_path / "none.json")])
    assert "error: energy_j: inf; allowed: a number above" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--widths", "9" * 5000, "--result", str(tmp_path / "none.json")])
    assert "give whole numbers with commas between" in capsys.readouterr().err


def test_a_data_set_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--result", str(tmp_path / "none.json"), "--runs", str(tmp_path)]
    narrow = ["--widths", "1", "--patches", "1", "--precisions", "int8", "--batch", "8"]
    with pytest.raises(SystemExit):
        main(["--cifar10", str(tmp_path / "none"), *narrow, *given])
    assert "error: " in capsys.readouterr().err


def test_the_command_prints_what_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--result", str(tmp_path / "none.json"), "--runs", str(tmp_path)]
    assert main(["--table", *given]) == 0
    assert capsys.readouterr().out.strip() == NOT_TRAINED
    with pytest.raises(SystemExit) as end:
        main(["--widths", "1,many", *given])
    assert end.value.code == 2
    assert "widths: '1,many'; give whole numbers" in capsys.readouterr().err
