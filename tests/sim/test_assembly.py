"""Assembly turns every item into one task, and subgraphs into calls, whatever the plan."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from cost_models.device import Device, load_device
from cost_models.model import POOLS
from sim import engines
from sim.assembly import Assembler, Clocks
from sim.autodiff import training_graph
from sim.checks import check
from sim.draft import NEXT, Draft
from sim.graph import TrainingGraph
from sim.lowering import lowering
from sim.model import ModelBuilder
from sim.plan import Plan
from sim.policies.build import decide
from sim.policies.numeric import AllInt8
from sim.policies.placing import AllDsp
from sim.reuse import CacheStep
from sim.taskgraph import CATEGORIES, TaskGraph
from sim.testing_plans import planned_steps
from sim.zoo import load_model

Step = tuple[TrainingGraph, Plan, Device]


def property_test(max_examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=max_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def preds_of(graph: TaskGraph, task: int) -> set[int]:
    return set(graph.pred[graph.pred_ptr[task] : graph.pred_ptr[task + 1]].tolist())


def before(graph: TaskGraph) -> list[set[int]]:
    """All tasks that end before each task starts, directly or not."""
    found: list[set[int]] = []
    for task in range(len(graph)):
        direct = preds_of(graph, task)
        found.append(direct.union(*(found[p] for p in direct)))
    return found


def assembled(step: Step, misses: bool) -> tuple[Draft, TaskGraph]:
    graph, plan, device = step
    ready = lowering(graph, plan, device)
    draft = ready.draft(dict.fromkeys(ready.rules, "dynamic"))
    cache = CacheStep((misses,) * len(draft.subgraphs), ())
    tasks = Assembler(draft, ready.costs, ready.settings, cache, Clocks()).base
    return draft, tasks


SERVICES = (".prepare", ".call", ".repack", ".return")
INPUT_PIPELINE = "input."


def assert_items_are_tasks(draft: Draft, tasks: TaskGraph) -> None:
    """Each item is one task on its unit; each subgraph is called before and returns after."""
    at = {name: index for index, name in enumerate(tasks.names)}
    earlier = before(tasks)
    names = [unit.name for unit in tasks.units]
    for index, preds in enumerate(draft.dependencies()):
        item = draft.items[index]
        task = at[item.name]
        assert names[tasks.unit[task]] == item.unit.partition(":")[0]
        assert {at[draft.items[p].name] for p in preds} <= earlier[task], item.name
        for p in preds:
            other = draft.items[p]
            if other.group >= 0 and other.group != item.group:
                assert at[f"subgraph{other.group}.return"] in earlier[task]
        if item.group >= 0:
            assert at[f"subgraph{item.group}.call"] in earlier[task]
            assert task in earlier[at[f"subgraph{item.group}.return"]]
    items = {item.name for item in draft.items}
    for name in set(tasks.names) - items:
        assert name.endswith(SERVICES) or name.startswith(INPUT_PIPELINE), name
    assert items <= set(tasks.names)


def assert_overwriting_waits(draft: Draft, tasks: TaskGraph) -> None:
    """A weight is overwritten only when all who read the old one have ended."""
    at = {name: index for index, name in enumerate(tasks.names)}
    earlier = before(tasks)
    for item in draft.items:
        old = {name.removesuffix(NEXT) for name in item.writes if name.endswith(NEXT)}
        for other in draft.items:
            if other is not item and old & set(other.reads):
                assert at[other.name] in earlier[at[item.name]], (other.name, item.name)


def assert_services(draft: Draft, tasks: TaskGraph, misses: bool) -> None:
    names = list(tasks.names)
    assert sum(n.startswith("subgraph") and n.endswith(".prepare") for n in names) == misses * len(
        draft.subgraphs
    )
    for number, sub in enumerate(draft.subgraphs):
        name = f"subgraph{number}"
        assert sub.name == name
        assert (f"{name}.repack" in names) == (sub.filter_bytes > 0)
        if sub.filter_bytes:
            # Every filter byte is read and written.
            assert tasks.ddr_bytes[names.index(f"{name}.repack")] == 2 * sub.filter_bytes
        call = names.index(f"{name}.call")
        if misses:
            assert preds_of(tasks, call) == {names.index(f"{name}.prepare")}


@property_test(60)
@given(planned_steps())
def test_tasks_of_any_plan(step: Step) -> None:
    for misses in (True, False):
        draft, tasks = assembled(step, misses)
        assert_items_are_tasks(draft, tasks)
        assert_overwriting_waits(draft, tasks)
        assert_services(draft, tasks, misses)


def check_engines_on_plans(max_examples: int) -> None:
    """Timelines of any plan keep all conservation rules, and both engines give the same rows."""

    @property_test(max_examples)
    @given(planned_steps())
    def compare(step: Step) -> None:
        _, tasks = assembled(step, misses=True)
        timeline = engines.run(tasks, "compiled")
        check(timeline)
        assert engines.run(tasks, "simpy").sha256 == timeline.sha256
        assert isinstance(timeline.energy_pj, int)
        assert tasks.power_mw.dtype == np.int64

    compare()


def test_engines_agree_on_any_plan() -> None:
    check_engines_on_plans(60)


@pytest.mark.accept
def test_engines_agree_on_many_plans() -> None:
    check_engines_on_plans(1_500)


PHONE = load_device("snapdragon-865")


def lenet_on_dsp(**step: str) -> tuple[TrainingGraph, Plan]:
    graph = training_graph(load_model("lenet", batch=8))
    return graph, decide("dsp", graph, PHONE, [AllInt8(), AllDsp()], step)


def test_drawn_latencies_are_those_of_calls_alone() -> None:
    graph, plan = lenet_on_dsp(reuse="mru")
    ready = lowering(graph, plan, PHONE)
    draft = ready.draft(dict.fromkeys(ready.rules, "fused"))
    cache = CacheStep((False,) * len(draft.subgraphs), ())
    assembler = Assembler(draft, ready.costs, ready.settings, cache, Clocks())
    drawn = [assembler.tasks(seed, 3).lead_ns for seed in range(40)]
    moved = np.flatnonzero((np.array(drawn) != assembler.base.lead_ns).any(axis=0))
    names = [assembler.base.names[i] for i in moved]
    assert names == [n for n in assembler.base.names if n.endswith(".call")]
    assert all((lead >= assembler.base.lead_ns).all() for lead in drawn)
    assert assembler.tasks(5, 3).lead_ns.tolist() == drawn[5].tolist()
    assert assembler.tasks(5, 4).lead_ns.tolist() != drawn[5].tolist()


def test_a_call_and_its_return_are_halves_of_the_latency() -> None:
    # 865, pm_qos: 92 us, and the rows of its table of buffers, linear between them.
    draft, tasks = assembled((*lenet_on_dsp(), PHONE), misses=False)
    names = list(tasks.names)
    assert PHONE.fastrpc is not None
    table = PHONE.fastrpc.modes["pm_qos"].per_mib.rows
    rows = [(int(size), round(1000 * us)) for size, us in table]
    for sub in draft.subgraphs:
        size = sub.bytes_in + sub.bytes_out
        (x0, y0), (x1, y1) = next((low, high) for low, high in pairwise(rows) if size <= high[0])
        whole = 92_000 + y0 + (y1 - y0) * (size - x0) // (x1 - x0)
        there = tasks.lead_ns[names.index(f"{sub.name}.call")]
        back = tasks.lead_ns[names.index(f"{sub.name}.return")]
        assert (there, back) == (whole // 2, whole - whole // 2)


def test_time_to_prepare_a_subgraph() -> None:
    draft, tasks = assembled((*lenet_on_dsp(), PHONE), misses=True)
    names = list(tasks.names)
    for sub in draft.subgraphs:
        # 10,000 us, 200 us per operator, 16,000 us per MiB of packed weights.
        wanted = 10_000 + 200 * sub.operators + 16_000 * sub.weight_bytes / 2**20
        lead = tasks.lead_ns[names.index(f"{sub.name}.prepare")]
        assert lead == pytest.approx(1000 * wanted, abs=1)


def test_compute_time_is_cycles_over_the_clock_rounded_up() -> None:
    graph = training_graph(load_model("lenet", batch=8))
    plan = Plan.make("cpu", graph.hash(), {("placement", "conv1"): "cpu:1"})
    ready = lowering(graph, plan, PHONE)
    draft, tasks = assembled((graph, plan, PHONE), misses=False)
    cost = ready.costs.cost(draft.first("conv1").call, "cpu:1")
    task = tasks.names.index("conv1")
    # One big core is the prime core: 2,841.6 MHz, 984.2 mW.
    assert tasks.compute_ns[task] == -(-cost.cycles * 10**9 // 2_841_600_000)
    assert tasks.power_mw[task] == 984
    assert tasks.slots[task] == 1


def test_busy_cores_shrink_the_pool_and_its_kernels() -> None:
    graph = training_graph(load_model("lenet", batch=8))
    ready = lowering(graph, Plan.make("cpu", graph.hash(), {}), PHONE)
    draft = ready.draft({})
    for taken, left in ((0, 4), (1, 3), (2, 2), (9, 1)):
        clocks = Clocks(busy_cores=taken)
        tasks = Assembler(draft, ready.costs, ready.settings, CacheStep((), ()), clocks).base
        cpu = next(k for k, unit in enumerate(tasks.units) if unit.name == "cpu")
        assert tasks.units[cpu].slots == left
        assert set(tasks.slots[tasks.unit == cpu].tolist()) == {left}


def test_sustained_clocks_slow_the_cpu_by_their_ratio() -> None:
    graph = training_graph(load_model("lenet", batch=8))
    ready = lowering(graph, Plan.make("cpu", graph.hash(), {}), PHONE)
    draft, empty = ready.draft({}), CacheStep((), ())
    fast, slow = (
        Assembler(draft, ready.costs, ready.settings, empty, Clocks(cpu=point)).base
        for point in ("max", "sustained")
    )
    # The slowest of four big cores: 2,419.2 MHz at most, 2,007 MHz sustained.
    ratio = slow.compute_ns.sum() / fast.compute_ns.sum()
    assert ratio == pytest.approx(2419.2 / 2007, rel=1e-4)  # each task rounds up
    assert (slow.power_mw < fast.power_mw).all()
    assert (slow.ddr_bytes == fast.ddr_bytes).all()


def test_resident_memory_counts_each_weight_once() -> None:
    graph = training_graph(load_model("lenet", batch=8))
    ready = lowering(graph, Plan.make("cpu", graph.hash(), {}), PHONE)
    tasks = Assembler(ready.draft({}), ready.costs, ready.settings, CacheStep((), ()), Clocks())
    # An update writes to the memory of the old weight: 4 bytes per parameter in all.
    assert tasks.base.resident_bytes == 4 * load_model("lenet", batch=8).params


def test_resident_memory_holds_prepared_subgraphs() -> None:
    for rule in ("none", "mru"):
        graph, plan = lenet_on_dsp(reuse=rule)
        draft, tasks = assembled((graph, plan, PHONE), misses=False)
        params = load_model("lenet", batch=8).params  # one byte each in INT8
        sizes = {sub.key: sub.memory_bytes for sub in draft.subgraphs}
        held = max(sizes.values()) if rule == "none" else sum(sizes.values())
        assert tasks.resident_bytes == params + held


def test_crossing_to_the_gpu_maps_memory() -> None:
    graph = training_graph(load_model("lenet", batch=8))
    plan = Plan.make("gpu", graph.hash(), {("placement", "relu1"): "gpu"})
    _, mixed = assembled((graph, plan, PHONE), misses=False)
    _, plain = assembled((graph, Plan.make("cpu", graph.hash(), {}), PHONE), misses=False)
    ready = lowering(graph, plan, PHONE)
    cost = ready.costs.cost(ready.draft({}).first("relu1").call, "gpu")
    at = mixed.names.index("relu1")
    assert mixed.lead_ns[at] == cost.lead_ns + 20_000  # one enqueue to unmap what the CPU wrote
    behind = mixed.names.index("pool1")
    assert mixed.lead_ns[behind] == plain.lead_ns[behind] + 20_000


def test_categories() -> None:
    draft, tasks = assembled((*lenet_on_dsp(), PHONE), misses=True)
    found = {
        name: CATEGORIES[c] for name, c in zip(tasks.names, tasks.category.tolist(), strict=True)
    }
    assert found["conv1"] == "compute"
    assert found["relu1"] == "compute"  # on the DSP
    assert found["loss"] == found["input.quantise"] == "cpu"
    assert found["conv1.scan"] == found["conv1.requantise"] == "rescale"
    assert found["subgraph0.call"] == found["subgraph0.return"] == "rpc"
    assert found["subgraph0.prepare"] == found["subgraph0.repack"] == "prepare"
    assert draft.first("conv1").has_macs


def test_units_are_those_of_the_device() -> None:
    model = ModelBuilder("tiny", (2, 1, 4, 4), source="tests/sim/test_assembly.py")
    graph = training_graph(model.build(model.linear(model.flatten("input"), 3)))
    wanted = {
        "snapdragon-865": [("cpu", 4), ("little", 4), ("dsp", 4), ("gpu", 1), ("rpc", 4)],
        "laptop": [("cpu", 4)],
    }
    for name, units in wanted.items():
        device = load_device(name)
        _, tasks = assembled((graph, Plan.make("cpu", graph.hash(), {}), device), misses=False)
        assert [(unit.name, unit.slots) for unit in tasks.units] == units
    assert set(POOLS) == {"cpu", "little"}
