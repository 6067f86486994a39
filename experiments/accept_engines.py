"""Large counts about engines: equal rows on everything, and equal bytes in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np

from cost_models.device import Device
from experiments.accept_common import (
    PHONE,
    Outcome,
    Size,
    graph_of,
    in_parallel,
)
from sim import (
    Plan,
    StepState,
    TrainingGraph,
    build_plan,
    expect,
    load_device,
    plan_names,
    run_engine,
)
from sim.checks import ConservationError, check
from sim.lowering import lowering
from sim.run import skip_to
from sim.taskgraph import TaskGraph

STEADY_STEP = 40


@dataclass(frozen=True, slots=True)
class Tally:
    """Task graphs and tasks that both engines ran, and those that failed, with the first why."""

    steps: int = 0
    tasks: int = 0
    failed: int = 0
    first_failure: str = ""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.steps + other.steps,
            self.tasks + other.tasks,
            self.failed + other.failed,
            self.first_failure or other.first_failure,
        )


def what_is_wrong(tasks: TaskGraph) -> str:
    """Run both engines, check both timelines, compare every row; empty where all is well."""
    reference, compiled = run_engine(tasks, "simpy"), run_engine(tasks, "compiled")
    try:
        check(reference)
        check(compiled)
    except ConservationError as error:
        return str(error)
    if reference.sha256 != compiled.sha256:
        return "digests differ"
    columns = ("start_ns", "end_ns", "slot_mask", "dispatch")
    differ = [c for c in columns if not np.array_equal(getattr(reference, c), getattr(compiled, c))]
    return f"engines differ in {', '.join(differ)}" if differ else ""


def steps_of(graph: TrainingGraph, plan: Plan, device: Device) -> list[TaskGraph]:
    """Return the cold step, a step in steady state, and the expected steps of a plan."""
    ready = lowering(graph, plan, device)
    cold, state = ready.step(StepState())
    steady, _ = ready.step(skip_to(ready, state, STEADY_STEP))
    return [cold, steady, *expect(graph, plan, device).graphs]


def _tally(graph: TrainingGraph, plan: Plan, device: Device) -> Tally:
    total = Tally()
    for tasks in steps_of(graph, plan, device):
        wrong = what_is_wrong(tasks)
        where = f"{graph.name}, {plan.name}, {device.name}: {wrong}" if wrong else ""
        total += Tally(1, len(tasks), bool(wrong), where)
    return total


def _zoo_job(job: tuple[str, str, tuple[str, ...]]) -> Tally:
    model, device_name, plans = job
    graph, device = graph_of(model), load_device(device_name)
    return sum((_tally(graph, build_plan(name, graph, device), device) for name in plans), Tally())


def zoo_jobs(size: Size) -> list[tuple[str, str, tuple[str, ...]]]:
    """All plans of every model on one phone; on the other devices a Latin square of plans.

    Together they hold every (model, plan), (model, device) and (device, plan) pair, where there
    are at least as many models as plans.
    """
    phone = load_device(PHONE)
    jobs = [(model, PHONE, plan_names(phone)) for model in size.models]
    for j, name in enumerate(n for n in size.devices if n != PHONE):
        plans = plan_names(load_device(name))
        jobs += [(m, name, (plans[(i + j) % len(plans)],)) for i, m in enumerate(size.models)]
    return jobs


def _drawn_job(job: tuple[int, int, tuple[str, ...]]) -> tuple[int, Tally]:
    """Draw ``count`` graphs with one seed and compare the engines; needs ``hypothesis``."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from sim.testing_plans import planned_steps

    number, count, devices = job
    tallies: list[Tally] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(planned_steps(devices, max_blocks=6))
    def draw(step: tuple[TrainingGraph, Plan, Device]) -> None:
        tallies.append(_tally(*step))

    draw()
    return len(tallies), sum(tallies, Tally())


def engines(size: Size) -> Outcome:
    """Rows of SimPy and of the compiled engine, on the zoo and on random graphs and plans."""
    zoo = sum(in_parallel(_zoo_job, zoo_jobs(size), size, "zoo"), Tally())
    chunk = 100
    chunks = [min(chunk, size.drawn - begin) for begin in range(0, size.drawn, chunk)]
    jobs = [(number, count, size.devices) for number, count in enumerate(chunks)]
    found = list(in_parallel(_drawn_job, jobs, size, "random graphs, in hundreds"))
    graphs = sum(count for count, _ in found)
    drawn = sum((tally for _, tally in found), Tally())
    return {
        "zoo": asdict(zoo),
        "random_graphs": graphs,
        "random": asdict(drawn),
        "passed": zoo.failed == drawn.failed == 0 and graphs >= size.drawn,
    }


_RUN = """
import sys
from sim import build_plan, load_device, load_model, simulate, training_graph
graph = training_graph(load_model(sys.argv[1], 64))
device = load_device(sys.argv[2])
for name in ("mnn-fp32", "mandheling", "heft"):
    plan = build_plan(name, graph, device)
    for scenario in ("quiet", "sustained", "busy"):
        run = simulate(graph, plan, device, steps=6, seed=7, scenario=scenario)
        print(name, scenario, len(plan.to_json()), run.makespan_ns, run.energy_pj, run.sha256)
"""


def _fresh_process(model: str, device: str, threads: str, hash_seed: str) -> str:
    environment = os.environ | {"NUMBA_NUM_THREADS": threads, "PYTHONHASHSEED": hash_seed}
    child = subprocess.run(
        [sys.executable, "-c", _RUN, model, device],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    return child.stdout


def determinism(size: Size) -> Outcome:
    """Digests of runs in fresh processes, with 1 and 2 threads and three hash seeds."""
    settings_tried = list(product(("1", "2"), ("0", "1", "4242")))
    outputs = {_fresh_process(*size.pair, *setting) for setting in settings_tried}
    return {
        "model": size.pair[0],
        "device": size.pair[1],
        "processes": len(settings_tried),
        "runs_in_each": len(next(iter(outputs)).splitlines()),
        "different_outputs": len(outputs),
        "passed": len(outputs) == 1,
    }
