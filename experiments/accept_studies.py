"""Large counts about what the sandbox says: techniques, counts, VTCM, reuse, sums."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from cost_models.vtcm import largest_fitting_batch, slice_bytes
from experiments.accept_common import PHONE, Outcome, Size, dsp_devices, graph_of, in_parallel
from experiments.compare import geometric_mean
from sim import (
    build_plan,
    decide,
    expect,
    load_device,
    load_model,
    plan_names,
    sample_steady,
)
from sim.checks import check
from sim.expected import expected_ns
from sim.lowering import draft_before, lowering
from sim.policies.build import build
from sim.policies.numeric import AllInt8, abnormal
from sim.policies.recipes import TECHNIQUES
from sim.reuse import hit_bound, steady_hits
from sim.zoo import model_info

NAIVE = "dsp-int8"
CACHE_RULES = ("none", "lru", "mru", "belady")
KIB = 1024


@dataclass(frozen=True, slots=True)
class _Fate:
    """Expected times for one model on one device: naive, each technique alone, and in turn."""

    naive_ns: int
    alone_ns: tuple[int, ...]
    in_turn_ns: tuple[int, ...]
    whole_ns: int
    declined_alone: tuple[str, ...]
    declined_in_turn: tuple[str, ...]

    @property
    def slower(self) -> int:
        """How often a technique that was kept made the expected step longer."""
        turns = (self.naive_ns, *self.in_turn_ns)
        alone = sum(time > self.naive_ns for time in self.alone_ns)
        in_turn = sum(b > a for a, b in pairwise(turns))
        return alone + in_turn + (self.whole_ns != turns[-1])


def _fate_job(job: tuple[str, str]) -> _Fate:
    model, name = job
    graph, device = graph_of(model), load_device(name)
    alone = {t: build(f"{NAIVE}+{t}", graph, device) for t in TECHNIQUES}
    whole = build("mandheling", graph, device)
    kept = {a.technique for a in whole.adoptions if a.adopted}
    return _Fate(
        naive_ns=expected_ns(graph, build_plan(NAIVE, graph, device), device),
        alone_ns=tuple(expected_ns(graph, one.plan, device) for one in alone.values()),
        in_turn_ns=tuple(a.proposed_ns if a.adopted else a.before_ns for a in whole.adoptions),
        whole_ns=expected_ns(graph, whole.plan, device),
        declined_alone=tuple(t for t, one in alone.items() if not one.adoptions[0].adopted),
        declined_in_turn=tuple(t for t in TECHNIQUES if t not in kept),
    )


def techniques(size: Size) -> Outcome:
    """Whether a technique ever lengthens the expected step, alone or in turn; fallbacks."""
    jobs = [(model, device) for model in size.models for device in dsp_devices(size)]
    fates = list(in_parallel(_fate_job, jobs, size, "models x devices"))
    speedups = [fate.naive_ns / fate.whole_ns for fate in fates]
    slower = sum(fate.slower for fate in fates)
    return {
        "pairs": len(jobs),
        "slower": slower,
        "declined_alone": {t: sum(t in f.declined_alone for f in fates) for t in TECHNIQUES},
        "declined_in_turn": {t: sum(t in f.declined_in_turn for f in fates) for t in TECHNIQUES},
        "speedup_over_naive_geomean": round(geometric_mean(speedups), 3),
        "speedup_over_naive_least": round(min(speedups), 3),
        "passed": slower == 0,
    }


def _draws_job(job: tuple[str, str, int]) -> list[float]:
    """Ratio of mean steps, with each technique to without, over common draws."""
    model, name, seeds = job
    graph, device = graph_of(model), load_device(name)

    def mean(plan_name: str) -> float:
        plan = build_plan(plan_name, graph, device)
        runs = [sample_steady(graph, plan, device, seed=seed) for seed in range(seeds)]
        return sum(run.makespan_ns / len(run.timelines) for run in runs) / seeds

    naive = mean(NAIVE)
    names = [*(f"{NAIVE}+{technique}" for technique in TECHNIQUES), "mandheling"]
    return [mean(plan_name) / naive for plan_name in names]


def draws(size: Size) -> Outcome:
    """Mean of drawn steps with each technique against without, on common random numbers."""
    jobs = [(model, device, size.seeds) for model, device in size.pairs]
    found = list(in_parallel(_draws_job, jobs, size, "models x devices"))
    columns = zip((*TECHNIQUES, "all"), zip(*found, strict=True), strict=True)
    worst = {name: round(max(ratios), 4) for name, ratios in columns}
    return {
        "pairs": len(jobs),
        "seeds": size.seeds,
        "worst_ratio": worst,
        "passed": max(worst.values()) <= 1.0,
    }


def counts(size: Size) -> Outcome:
    """Parameters and MACs of the zoo beside what the models' makers published."""
    rows = {}
    for name in size.models:
        model, info = load_model(name, 1), model_info(name)
        rows[name] = {
            "params": model.params,
            "params_published": info.params.value,
            "macs": model.macs,
            "macs_published": info.macs.value,
            "agrees": info.params.agrees(model.params) and info.macs.agrees(model.macs),
        }
    return {"models": rows, "passed": all(row["agrees"] for row in rows.values())}


def vtcm(size: Size) -> Outcome:
    """VTCM that weight gradients need, and convolutions that overflow 256 KiB and 4 MiB."""
    maps, batches = (4, 8, 14, 16, 28, 32, 56), (32, 64, 128)
    published = [[16, 32, 64], [64, 128, 256], [196, 392, 784], [256, 512, 1024]]
    need = {str(m): [slice_bytes(m, m, b) // KIB for b in batches] for m in maps}
    largest = {str(m): largest_fitting_batch(m, m, 256 * KIB) for m in maps}
    sweeps = {f"{kib} KiB": _sweep(size.models, kib * KIB) for kib in (256, 4096)}
    fitting = [512, 128, 32, 32, 0, 0, 0]
    right = list(need.values())[: len(published)] == published
    right &= list(largest.values()) == fitting
    return {
        "need_kib": need,
        "batches": list(batches),
        "largest_batch_in_256_kib": largest,
        "abnormal_saved_and_lost": sweeps,
        "passed": right,
    }


def _sweep(models: tuple[str, ...], vtcm_bytes: int) -> dict[str, dict[str, list[int]]]:
    """Overflowing weight gradients by model and batch: those a split saves, and the others."""
    device = load_device(PHONE)
    found: dict[str, dict[str, list[int]]] = {}
    for model in models:
        for batch in (8, 16, 32, 64, 128):
            graph = graph_of(model, batch)
            plan = decide("int8", graph, device, [AllInt8()])
            draft = draft_before("batch_split", graph, plan, device)
            saved, lost = abnormal(draft, vtcm_bytes)
            found.setdefault(model, {})[str(batch)] = [len(saved), len(lost)]
    return found


def reuse(size: Size) -> Outcome:
    """Hits of the cache rules: the cyclic worst case, and real subgraphs under byte budgets."""
    slots = range(1, 33)
    cyclic = {rule: [_cyclic_hits(rule, n) for n in slots] for rule in CACHE_RULES}
    found = in_parallel(_budgets, size.models, size, "models")
    models = dict(zip(size.models, found, strict=True))
    bounded = all(
        row[rule] <= row["bound"]
        for rows in models.values()
        for row in rows
        for rule in CACHE_RULES
    )
    return {
        "cyclic_slots": list(slots),
        "cyclic_hits_per_cycle": cyclic,
        "models": models,
        "passed": bounded
        and not any(cyclic["lru"])
        and cyclic["mru"] == cyclic["belady"]
        and cyclic["mru"][-1] > 0,
    }


def _cyclic_hits(rule: str, slots: int) -> float:
    """Hits per cycle over ``2 * slots`` keys of equal size, with memory for ``slots``."""
    visits = [(f"k{k}", 1) for k in range(2 * slots)]
    hits, seen = steady_hits(rule, visits, slots, steps=4 * slots + 8)
    return round(hits * len(visits) / seen, 3)


def _budgets(model: str) -> list[dict[str, float]]:
    """One subgraph per kernel, and memory for a quarter, a half, three quarters of them."""
    graph, device = graph_of(model), load_device(PHONE)
    plan = build_plan(NAIVE, graph, device)
    draft = lowering(graph, plan, device).draft({})
    cuts = {("grouping", i.subject): "cut" for i in draft.items if i.group >= 0 and not i.follows}
    visits = lowering(graph, plan.update(cuts), device).visits
    whole = sum(dict(visits).values())
    rows = []
    for percent in (25, 50, 75):
        budget = whole * percent // 100
        row: dict[str, float] = {"percent": percent, "visits": len(visits)}
        for rule in CACHE_RULES:
            hits, seen = steady_hits(rule, visits, budget, steps=16)
            row[rule] = round(hits * len(visits) / seen, 3)
        rows.append(row | {"bound": hit_bound(visits, budget)})
    return rows


def _sums_job(model: str) -> tuple[int, int]:
    graph, device = graph_of(model), load_device(PHONE)
    wrong = 0
    names = plan_names(device)
    for name in names:
        expected = expect(graph, build_plan(name, graph, device), device)
        wrong += sum(expected.breakdown_ns.values()) != expected.time_ns
        for timeline in expected.timelines:
            check(timeline)
    return len(names), wrong


def sums(size: Size) -> Outcome:
    """Whether every breakdown adds up to its time exactly; timelines pass all checks."""
    found = list(in_parallel(_sums_job, size.models, size, "models"))
    plans, wrong = (sum(column) for column in zip(*found, strict=True))
    return {"expectations": plans, "wrong": wrong, "passed": wrong == 0}
