"""Every aspect is searched as it is: its choices are genes, and searchers visit them."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np
import pytest

from cost_models.device import Device
from experiments import cli
from experiments.cli_common import CliError
from experiments.cli_search import held_aspects
from experiments.search.annealing import Annealing
from experiments.search.problem import Problem
from experiments.search.protocol import Searcher
from experiments.search.random_search import RandomSearch
from experiments.search.result import command_of
from experiments.search.shard import explore
from sim import TrainingGraph, build_plan, load_device, load_model, training_graph
from sim.aspects import ORDER, STEP, STEP_ASPECTS, Aspect, StepAspect, StepContext
from sim.draft import Draft
from sim.encoding import HELD, Evaluator, Genes, Space
from sim.encoding.space import PALETTES
from sim.expected import expected_ns
from sim.lowering import FIRST_PER_STEP, draft_before
from sim.rescaling import RULES, Every

PHONE = load_device("snapdragon-865")


@pytest.fixture(scope="module")
def graph() -> TrainingGraph:
    return training_graph(load_model("lenet", batch=4))


def test_a_space_that_holds_nothing_offers_what_every_aspect_does(graph: TrainingGraph) -> None:
    plans = [build_plan(name, graph, PHONE) for name in ("mnn-fp32", "mnn-int8")]
    space = Space.of(graph, PHONE, plans[0], held=())
    genes = {gene.key: set(gene.choices) for gene in space.genes}
    for plan in plans:
        for aspect in ORDER:
            draft = draft_before(aspect.name, graph, plan, PHONE)
            for subject in aspect.subjects(draft, PHONE):
                allowed = aspect.allowed(draft, subject, PHONE)
                offered = PALETTES.get(aspect.name, allowed)
                wanted = {c for c in offered if aspect.accepts(c, allowed)}
                if len(wanted) > 1:
                    assert wanted <= genes[aspect.name, subject]
    for step in STEP_ASPECTS:
        if len(step.offered(PHONE)) > 1:
            assert genes[step.name, step.subject] == set(step.offered(PHONE))


@pytest.mark.parametrize(("searcher", "evaluations"), [(Annealing, 16384), (RandomSearch, 256)])
def test_a_search_that_holds_nothing_visits_every_aspect(
    searcher: type[Searcher], evaluations: int
) -> None:
    asked: list[Genes] = []

    class Watched(searcher):  # type: ignore[misc,valid-type]
        def ask(self, n: int) -> Genes:
            batch: Genes = super().ask(n)
            asked.append(batch.copy())
            return batch

    ground = Problem("lenet", batch=4, held=()).ground()
    found = explore(ground, Watched, seed=1, evaluations=evaluations).found
    space, rows = ground.space, np.concatenate(asked)
    start = ground.starts[0].row
    moved = {g.aspect for g, any_ in zip(space.genes, (rows != start).any(0), strict=True) if any_}
    assert moved == {gene.aspect for gene in space.genes}
    assert {"backward", "optimiser_state", "operating_point", "library"} <= moved
    plans = [space.decode(row) for row in rows[:: len(rows) // 64]]
    chosen = {aspect for plan in plans for (aspect, _), _ in plan.choices}
    assert {"backward", "operating_point", "library"} <= chosen
    for one in found:
        assert one.values[0] == expected_ns(ground.graph, space.decode(one.row), PHONE)


def test_a_rule_of_a_palette_is_a_gene(graph: TrainingGraph) -> None:
    RULES.add("searched-rule", Every)
    palette = (*PALETTES["rescale"], "searched-rule")
    plan = build_plan("mnn-int8", graph, PHONE)
    space = Space.of(graph, PHONE, plan, palettes=dict(PALETTES) | {"rescale": palette})
    gene = space.genes[space.index("rescale", "conv1")]
    assert gene.choices[-1] == "searched-rule"
    chosen = plan.replace("rescale", "conv1", "searched-rule")
    assert space.decode(space.encode(chosen)).get("rescale", "conv1", "") == "searched-rule"


class Wide(Aspect):
    """An aspect from elsewhere: linear layers compute for a batch that is half as large."""

    name = "halved"
    numeric = True

    def subjects(self, draft: Draft, device: Device) -> list[str]:
        return [i.subject for i in draft.items if i.op.kind == "linear"]

    def allowed(self, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        return ("no", "yes")

    def default(self, draft: Draft, subject: str, device: Device) -> str:
        return "no"

    def rewrite(self, draft: Draft, choices: Mapping[str, str], context: StepContext) -> Draft:
        halved = {subject for subject, choice in choices.items() if choice == "yes"}
        return draft.with_items(
            i._replace(op=i.op.with_batch(i.op.batch // 2)) if i.subject in halved else i
            for i in draft.items
        )


def test_a_new_aspect_is_searched_as_soon_as_it_is_in_the_order(
    graph: TrainingGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = (*ORDER[:3], Wide(), *ORDER[3:])
    steps = (*STEP_ASPECTS, StepAspect("governor", STEP, "fixed", lambda device: ("fixed", "free")))
    per_step = next(k for k, aspect in enumerate(order) if aspect.uses_modes)
    frame = tuple(a.name for a in order if a.name not in ("placement", "grouping"))
    for module in [m for name, m in sys.modules.items() if name.startswith("sim.")]:
        for name, old, new in (
            ("ORDER", ORDER, order),
            ("STEP_ASPECTS", STEP_ASPECTS, steps),
            ("FIRST_PER_STEP", FIRST_PER_STEP, per_step),
            ("FRAME", None, frame),
        ):
            if name in vars(module) and old in (None, vars(module)[name]):
                monkeypatch.setattr(module, name, new)
    space = Space.of(graph, PHONE, build_plan("mnn-fp32", graph, PHONE))
    halved = [k for k, gene in enumerate(space.genes) if gene.aspect == "halved"]
    assert len(halved) == len(
        Wide().subjects(draft_before("halved", graph, space.base, PHONE), PHONE)
    )
    assert space.genes[space.index("governor", STEP)].choices == ("fixed", "free")
    rows = space.random(6, seed=4)
    assert (rows[:, halved] == 1).any()
    found = Evaluator(space, "expected")(rows).time_ns
    wanted = [expected_ns(graph, space.decode(row), PHONE) for row in rows]
    assert found.tolist() == wanted
    asked = Annealing(space, rows, 1, ("time",))
    asked.begin(256, 0)
    asked.tell(rows, found[:, None])
    visited = np.concatenate([_answered(asked) for _ in range(40)])
    for places in (halved, [space.index("governor", STEP)]):
        assert {0, 1} == set(visited[:, places].ravel().tolist())
        assert (visited[:, places] != visited[0, places]).any()


def _answered(searcher: Searcher) -> Genes:
    """Rows that a searcher asks for, after it was told that all are alike."""
    batch = searcher.ask(64)
    searcher.tell(batch, np.ones((len(batch), 1), np.int64))
    return batch


def test_aspects_are_freed_by_name() -> None:
    assert held_aspects((), ("backward",)) == tuple(n for n in HELD if n != "backward")
    assert held_aspects(("precision",), HELD) == ("precision",)
    with pytest.raises(CliError, match="--free precision: not held by default; allowed: library"):
        held_aspects((), ("precision",))
    with pytest.raises(CliError, match="--free backward: --hold names it, too"):
        held_aspects(("backward",), ("backward",))


def test_the_command_of_a_result_frees_what_its_problem_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    problem = Problem("lenet", held=("input", "library", "rpc_qos"))
    assert "--free backward --free optimiser_state" in command_of(problem, "1-shards")
    with pytest.raises(SystemExit) as end:
        cli.app(["search", "-m", "lenet", "--free", "grouping"])
    assert end.value.code == 2
