"""Large counts about what the sandbox says: models, VTCM, reuse, sums."""

from __future__ import annotations

from cost_models.vtcm import largest_fitting_batch, slice_bytes
from experiments.accept_common import PHONE, Outcome, Size, graph_of, in_parallel
from experiments.compare import OFFLOAD
from sim import (
    build_plan,
    decide,
    expect,
    load_device,
    load_model,
    plan_names,
)
from sim.checks import check
from sim.lowering import draft_before, lowering
from sim.policies.numeric import AllInt8, abnormal
from sim.reuse import RULES, hit_bound, steady_hits
from sim.zoo import model_info

KIB = 1024


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
    cyclic = {rule: [_cyclic_hits(rule, n) for n in slots] for rule in RULES}
    found = in_parallel(_budgets, size.models, size, "models")
    models = dict(zip(size.models, found, strict=True))
    bounded = all(
        row[rule] <= row["bound"] for rows in models.values() for row in rows for rule in RULES
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
    plan = build_plan(OFFLOAD, graph, device)
    draft = lowering(graph, plan, device).draft({})
    cuts = {("grouping", i.subject): "cut" for i in draft.items if i.group >= 0 and not i.follows}
    visits = lowering(graph, plan.update(cuts), device).visits
    whole = sum(dict(visits).values())
    rows = []
    for percent in (25, 50, 75):
        budget = whole * percent // 100
        row: dict[str, float] = {"percent": percent, "visits": len(visits)}
        for rule in RULES:
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
