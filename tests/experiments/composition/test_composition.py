"""The table of techniques: complete, true to what runs, and able to find what is wrong."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cost_models.device import Device
from experiments.composition import Technique, Tried, judged, pairs, runs, techniques, uncovered
from experiments.composition.__main__ import main
from experiments.composition.pairs import APART, FAILED, ONE, REFUSED, RUNS, every_pair
from experiments.composition.table import (
    PAGE,
    kept_in,
    looked_up,
    message_of,
    pairs_in,
    reasons_in,
    renewed,
    shown,
)
from experiments.composition.techniques import (
    ARITHMETIC,
    CATALOGUE,
    INT8_PROFILE,
    KERNELS,
    TASKS,
    Decision,
)
from kernels.profiles import PROFILES
from sim.aspects import STEP_ASPECTS, StepAspect
from sim.aspects.precision import Precision
from sim.draft import Draft
from sim.policies import recipes
from sim.rescaling import RULES

TEXT = kept_in((Path(__file__).parents[3] / PAGE).read_text(encoding="utf-8"))
SAMPLE = 24
"""Pairs that are run each time, drawn by a fixed seed; ``make accept`` runs all."""


def test_every_choice_of_every_aspect_belongs_to_a_technique() -> None:
    assert uncovered() == []


@pytest.mark.parametrize(
    ("technique", "choices"),
    [
        ("mask", ["backward=mask"]),
        ("momentum8", ["optimiser_state=momentum8"]),
        ("gpu_clock=76.8MHz", ["gpu_clock=NMHz"]),
        ("pulp-bf16", ["precision=bf16"]),
        ("dsp", ["placement=dsp"]),
    ],
)
def test_without_a_technique_its_choice_is_missed(technique: str, choices: list[str]) -> None:
    assert uncovered(one for one in CATALOGUE.values() if one.name != technique) == choices


def test_a_new_choice_of_an_aspect_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Precision.allowed

    def with_int4(self: Precision, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        return (*before(self, draft, subject, device), "int4")

    monkeypatch.setattr(Precision, "allowed", with_int4)
    assert uncovered() == ["precision=int4"]


def test_a_new_choice_about_the_step_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_lifo(aspect: StepAspect) -> StepAspect:
        return replace(aspect, offered=lambda device: (*aspect.offered(device), "lifo"))

    more = [with_lifo(one) if one.name == "dispatch" else one for one in STEP_ASPECTS]
    monkeypatch.setattr(techniques, "STEP_ASPECTS", more)
    assert uncovered() == ["dispatch=lifo"]


def test_profiles_rules_and_adopted_techniques_are_in_the_table() -> None:
    assert set(PROFILES) - {INT8_PROFILE} <= set(CATALOGUE)
    rules = {name.partition(":")[0] for name in CATALOGUE}
    assert set(RULES.built_in()) - {"every"} <= rules
    known_as = {"reuse": "reuse=mru", "rescale": "adaptive:2:4"}
    assert {known_as.get(name, name) for name in recipes.TECHNIQUES} <= set(CATALOGUE)


def test_the_page_holds_every_pair_and_no_fault() -> None:
    kept = pairs_in(TEXT)
    assert [*kept] == sorted(every_pair(), key=lambda p: (_place(p[1]), _place(p[0])))
    assert FAILED not in kept.values()


def _place(name: str) -> int:
    return [*CATALOGUE].index(name)


def test_pairs_compose_as_the_page_says() -> None:
    kept, tried = pairs_in(TEXT), Tried()
    drawn = random.Random(7).sample(every_pair(), SAMPLE)
    assert {p: judged(*p, tried).result for p in drawn} == {p: kept[p] for p in drawn}


@pytest.mark.accept
def test_the_page_is_what_the_command_prints() -> None:
    tried = Tried()
    assert shown([judged(*p, tried) for p in every_pair()]) + "\n" == TEXT


@pytest.mark.parametrize(
    ("first", "second", "result", "why"),
    [
        ("mandheling_dsp", "filter:2", RUNS, ""),
        ("int8", "hosvd:2:2:2:2", APART, "'int8' is not allowed; choose one of fp32"),
        ("filter:2", "filter:4", APART, "one choice of backward for each subject"),
        ("int8", "momentum8", APART, "'momentum8' is not allowed; choose one of sgd"),
        ("pulp-fp16", "filter:2", REFUSED, "'filter:2' is not allowed; choose one of exact"),
        ("dsp", "gpu_clock=76.8MHz", REFUSED, "'dsp:4' is not allowed"),
        ("niti_v1", "niti_v2", ONE, "one profile of a training: niti_v1 or niti_v2"),
        ("width", "frozen", RUNS, ""),
    ],
)
def test_pairs_by_name(first: str, second: str, result: str, why: str) -> None:
    pair = judged(first, second, Tried())
    assert pair.result == result
    assert why in pair.why


@pytest.mark.parametrize(
    ("decision", "changes", "keeps", "why"),
    [
        (Decision("dispatch", "topological"), {TASKS}, set(), "it changes no tasks"),
        (Decision("rescale", "hindsight"), {KERNELS}, set(), "it changes no kernels"),
        (Decision("backward", "filter:2"), {TASKS}, {ARITHMETIC}, "must not change arithmetic"),
    ],
    ids=["no choice", "no effect in FP32", "other weights"],
)
def test_a_technique_that_is_dropped_or_does_too_much_is_a_fault(
    decision: Decision,
    changes: set[str],
    keeps: set[str],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Technique(
        f"odd-{decision.choice}",
        "a technique",
        (decision,),
        changes=frozenset(changes),
        keeps=frozenset(keeps),
    )
    monkeypatch.setitem(CATALOGUE, one.name, one)
    pair = judged("input=serial", one.name, Tried())
    assert pair.result == FAILED
    assert why in pair.why


def test_engines_that_differ_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "what_is_wrong", lambda tasks: "engines differ in end_ns")
    pair = judged("mask", "split", Tried())
    assert (pair.result, pair.why) == (FAILED, "CompositionError: engines differ in end_ns")


def test_an_error_that_is_not_declared_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(parts: object) -> None:
        raise KeyError("conv1")

    monkeypatch.setattr(pairs, "evidence", crash)
    pair = judged("mask", "split", Tried())
    assert (pair.result, pair.why) == (FAILED, "KeyError: 'conv1'")


def test_the_second_plan_of_switching_is_in_fp32() -> None:
    parts = {"int8": frozenset({0, 1}), "switching": frozenset({0, 1}), "mask": frozenset({0, 1})}
    assert [[*stage] for stage in runs.stages(parts)] == [["int8", "switching", "mask"], ["mask"]]


def test_a_page_without_the_block_is_refused() -> None:
    assert renewed("```console\n$ python -m experiments.composition\nold\n```\n", "new") == (
        "```console\n$ python -m experiments.composition\nnew\n```\n"
    )
    with pytest.raises(ValueError, match="has no console block that begins with"):
        renewed("# A page\n", "new")


def test_the_command_lists_and_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert "reuse=mru: choice about the step (with dsp)" in capsys.readouterr().out
    for arguments, said in ((["--only", "adam"], "'adam'"), (["--only", "mask", "--write"], "out")):
        with pytest.raises(SystemExit):
            main(arguments)
        assert said in capsys.readouterr().err


def test_every_pair_that_is_kept_apart_has_its_reason_on_the_page() -> None:
    kept, why = pairs_in(TEXT), reasons_in(TEXT)
    assert why.keys() == {pair for pair, result in kept.items() if result != RUNS}
    for pair in [("int8", "hosvd:2:2:2:2"), ("pulp-fp16", "filter:2"), ("niti_v1", "niti_v2")]:
        assert message_of(judged(*pair, Tried()).why) == why[pair]


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])


@pytest.mark.usefixtures("at_root")
def test_a_pair_is_looked_up_in_either_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--of", "filter:2", "int8"]) == 0
    assert capsys.readouterr().out == "filter:2 and int8 run together\n"
    page = PAGE.read_text(encoding="utf-8")
    shown_there = r"^\$ python -m experiments.composition --of (.*)\n((?:.+\n)+?)```"
    example = re.search(shown_there, page, re.MULTILINE)
    assert example is not None
    assert main(["--of", *example[1].split()]) == 0
    assert capsys.readouterr().out == example[2]


def test_one_technique_is_looked_up_with_all_others() -> None:
    text, kept = looked_up(["pulp-fp16"], TEXT), pairs_in(TEXT)
    blocks = re.split(r"^pulp-fp16 and each of these ", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len({kept[pair] for pair in kept if "pulp-fp16" in pair})
    together = blocks[0].removeprefix("run together:\n").replace(",", " ").split()
    assert together == [
        other
        for pair in kept
        if "pulp-fp16" in pair and kept[pair] == RUNS
        for other in pair
        if other != "pulp-fp16"
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["adam"], "'adam' is not in the table; allowed: int8, "),
        (["int8", "int8"], "give one technique, or two that differ"),
        (["int8", "mask", "split"], "give one technique, or two that differ"),
        (["int8", "--list"], "--of runs nothing; leave --list, --only and --write out"),
        (["int8", "--write"], "--of runs nothing; leave --list, --only and --write out"),
    ],
)
@pytest.mark.usefixtures("at_root")
def test_what_cannot_be_looked_up(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--of", *arguments])
    assert said in capsys.readouterr().err


def test_away_from_the_page_it_says_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["--of", "int8"])
    assert "run this from the root of the repository" in capsys.readouterr().err
