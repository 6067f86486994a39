"""Large counts about engines: equal rows on everything, and equal bytes in every process."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from itertools import product

import numpy as np

from cost_models.device import Device
from experiments.accept_common import (
    PHONE,
    Outcome,
    Size,
    dsp_devices,
    graph_of,
    in_parallel,
)
from sim import (
    Plan,
    StepState,
    Timeline,
    TrainingGraph,
    build_plan,
    expect,
    load_device,
    plan_names,
    run_engine,
    training_graph,
)
from sim.aspects import ORDER, STEP, STEP_ASPECTS
from sim.checks import check
from sim.lowering import draft_before, lowering
from sim.model import ForwardModel
from sim.plan import Key
from sim.run import skip_to
from sim.taskgraph import TaskGraph

STEADY_STEP = 40
RULES = ("every", "fixed:1", "fixed:3", "adaptive:1:64", "adaptive:2:8", "hindsight", "delayed:4")
"""Rescale rules that random plans choose from; the aspect's own list holds patterns."""
SHARE_DECIDED = 0.5
"""Share of the subjects on which a random plan does not keep silent."""


def same_rows(tasks: TaskGraph) -> bool:
    """Run both engines on one task graph, check both timelines, and compare every row."""
    reference, compiled = run_engine(tasks, "simpy"), run_engine(tasks, "compiled")
    check(reference)
    check(compiled)
    return _equal(reference, compiled) and reference.sha256 == compiled.sha256


def _equal(one: Timeline, other: Timeline) -> bool:
    columns = ("start_ns", "end_ns", "slot_mask", "dispatch")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)


def steps_of(graph: TrainingGraph, plan: Plan, device: Device) -> list[TaskGraph]:
    """Return the cold step, a step in steady state, and the expected steps of a plan."""
    ready = lowering(graph, plan, device)
    cold, state = ready.step(StepState())
    steady, _ = ready.step(skip_to(ready, state, STEADY_STEP))
    return [cold, steady, *expect(graph, plan, device).graphs]


def _count(graph: TrainingGraph, plan: Plan, device: Device) -> tuple[int, int, int]:
    """Task graphs, tasks, and task graphs whose rows differ."""
    steps = steps_of(graph, plan, device)
    return len(steps), sum(map(len, steps)), sum(not same_rows(tasks) for tasks in steps)


def _zoo_job(job: tuple[str, str, tuple[str, ...]]) -> tuple[int, int, int]:
    model, device_name, plans = job
    graph, device = graph_of(model), load_device(device_name)
    counts = [_count(graph, build_plan(name, graph, device), device) for name in plans]
    steps, tasks, wrong = (sum(column) for column in zip(*counts, strict=True))
    return steps, tasks, wrong


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


def random_plan(graph: TrainingGraph, device: Device, rng: random.Random) -> Plan:
    """Draw a plan from what each aspect allows, aspect by aspect, as lowering sees them."""
    steps: dict[Key, str] = {
        (aspect.name, STEP): rng.choice(aspect.offered(device)) for aspect in STEP_ASPECTS
    }
    plan = Plan.make("drawn", graph.hash(), steps)
    for aspect in ORDER:
        draft = draft_before(aspect.name, graph, plan, device)
        picks: dict[Key, str] = {}
        for subject in aspect.subjects(draft, device):
            if rng.random() < SHARE_DECIDED:
                allowed = aspect.allowed(draft, subject, device)
                options = RULES if aspect.name == "rescale" else allowed
                picks[aspect.name, subject] = rng.choice(options)
        plan = plan.update(picks)
    return plan


def _drawn_job(job: tuple[int, int, tuple[str, ...]]) -> tuple[int, int, int]:
    """Draw ``count`` graphs with one seed and compare the engines on each; needs ``hypothesis``."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    from sim.testing import forward_models

    number, count, devices = job
    totals = [0, 0, 0]

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(forward_models(), st.sampled_from(devices), st.integers(0, 2**32 - 1))
    def draw(model: ForwardModel, device_name: str, plan_seed: int) -> None:
        graph, device = training_graph(model), load_device(device_name)
        plan = random_plan(graph, device, random.Random(plan_seed))
        found = _count(graph, plan, device)
        totals[:] = [total + new for total, new in zip(totals, (1, *found[1:]), strict=True)]

    draw()
    return totals[0], totals[1], totals[2]


def engines(size: Size) -> Outcome:
    """Rows of SimPy and of the compiled engine, on the zoo and on random graphs and plans."""
    zoo = list(in_parallel(_zoo_job, zoo_jobs(size), size, "zoo"))
    chunk = 100
    chunks = [min(chunk, size.drawn - begin) for begin in range(0, size.drawn, chunk)]
    jobs = [(number, count, size.devices) for number, count in enumerate(chunks)]
    drawn = list(in_parallel(_drawn_job, jobs, size, "random graphs, in hundreds"))
    steps, tasks, wrong = (sum(column) for column in zip(*zoo, strict=True))
    graphs, drawn_tasks, drawn_wrong = (sum(column) for column in zip(*drawn, strict=True))
    return {
        "zoo_steps": steps,
        "zoo_tasks": tasks,
        "zoo_differing": wrong,
        "random_graphs": graphs,
        "random_tasks": drawn_tasks,
        "random_differing": drawn_wrong,
        "passed": wrong == drawn_wrong == 0 and graphs >= size.drawn,
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
    pair = (size.models[0], dsp_devices(size)[0])
    settings_tried = list(product(("1", "2"), ("0", "1", "4242")))
    outputs = {_fresh_process(*pair, *setting) for setting in settings_tried}
    return {
        "model": pair[0],
        "device": pair[1],
        "processes": len(settings_tried),
        "runs_in_each": len(next(iter(outputs)).splitlines()),
        "different_outputs": len(outputs),
        "passed": len(outputs) == 1,
    }
