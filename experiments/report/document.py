"""Everything that the page shows, computed from a search's result; plain data for JSON.

The result holds plans and their figures. What explains them (timelines, breakdowns, waterfalls,
sensitivities) is computed here, from the same plans on the same device; a figure that comes out
differently than the result states is refused, as the explanation would be of something else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError

from cost_models.device import Device
from cost_models.errors import one_line
from cost_models.model import CostModel
from experiments.compare import MANDHELING, OFFLOAD, waterfalls
from experiments.loading import BATCH_LIMIT, IMAGE_LIMIT
from experiments.report.sensitivity import swings, touched, variates
from experiments.report.timelines import TaskKinds
from experiments.search.result import FrontPlan, SearchResult
from experiments.search.risk import plan_risk
from experiments.search.why import explain_change
from sim.expected import Expectation, expect
from sim.graph import TrainingGraph
from sim.lowering import cost_model
from sim.plan import Plan
from sim.policies.build import available, build_plan
from sim.policies.recipes import RECIPES, TECHNIQUES
from sim.taskgraph import CATEGORIES
from sim.uncertainty import KINDS, Shared, evidence_shares

MEASURES = ("time_ns", "energy_pj", "risk_ppm", "memory_bytes")
PLANS_LIMIT_BYTES = 4_500_000
"""What plans and their timelines may take of the page, which stays below 5 MB."""


class ReportError(ValueError):
    """A result cannot be reported on; the message says why and what to do."""


class Searched(BaseModel):
    """What a search was about: the part of its problem that a report builds again."""

    model: str
    batch: int = Field(strict=True, ge=1, le=BATCH_LIMIT)
    image: int | None = Field(strict=True, ge=1, le=IMAGE_LIMIT)
    device: str

    @classmethod
    def of(cls, found: SearchResult, where: str) -> Self:
        """Read it from a result; :class:`ReportError` names the field that is not allowed."""
        try:
            return cls.model_validate(found.manifest.problem)
        except ValidationError as error:
            raise ReportError(one_line(f"{where}: manifest.problem", cls, error)) from None


@dataclass(frozen=True, slots=True)
class _Entry:
    """A plan of the result: on the front, or a baseline."""

    id: str
    role: str
    plan: Plan
    values: Mapping[str, int]
    left_out: str


def report_document(
    found: SearchResult,
    graph: TrainingGraph,
    device: Device,
    *,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Return what the page shows.

    Parameters
    ----------
    found
        A finished search.
    graph, device
        What was searched on.
    advance
        Called after each plan; there are :func:`plan_count` of them.

    Raises
    ------
    ReportError
        The graph or the device is another than the search's; a plan's figures come out
        differently than the result states; or there is no baseline.
    PlanError
        A plan of the result does not fit the graph or the device.
    """
    _check_ground(found, graph, device)
    entries = list(_entries(found))
    reference = _reference(entries)
    chosen = next(entry for entry in entries if entry.id == found.chosen)
    pages = _Pages(graph, device, reference.plan)
    order = sorted(entries, key=lambda e: (e is not reference, e is not chosen, e.role != "front"))
    plans = {}
    for entry in order:
        plans[entry.id] = pages.add(entry)
        advance()
    pages.add_timelines(order, plans)
    facts = found.to_json()
    return {
        "title": {
            "model": graph.name,
            "device": device.name,
            "batch": graph.batch,
            "objectives": found.objectives,
            "limits": found.limits,
        },
        "hvx_only": device.dsp is not None and device.dsp.has_hmx,
        "notes": list(pages.notes),
        "remarks": list(found.notes),
        "categories": CATEGORIES,
        "evidence": KINDS,
        "techniques": TECHNIQUES,
        "reference": reference.id,
        "chosen": chosen.id,
        "plans": [plans[entry.id] for entry in entries],
        **pages.shared(),
        "waterfalls": _waterfalls(graph, device),
        **{key: facts[key] for key in ("bound", "robustness", "verified", "progress")},
        "manifest": facts["manifest"],
        "run": facts["run"],
    }


def plan_count(found: SearchResult) -> int:
    """Return how many plans a result holds."""
    return len(found.front) + len(found.baselines)


def _check_ground(found: SearchResult, graph: TrainingGraph, device: Device) -> None:
    here = {"graph_sha256": graph.hash(), "device_sha256": device.sha256}
    for field, digest in here.items():
        stated = getattr(found.manifest, field)
        if stated != digest:
            what = f"model {graph.name!r}" if field == "graph_sha256" else f"device {device.name!r}"
            raise ReportError(
                f"{field} is {stated[:12]}... in the result, and {digest[:12]}... is {what} here: "
                "it has changed since; search again, or report with the version that searched"
            )


def _entries(found: SearchResult) -> Iterator[_Entry]:
    for role, rows in (("front", found.front), ("baseline", found.baselines)):
        for row in rows:
            plan = Plan.from_json(json.dumps(row.plan), f"plan of the {role}")
            name = row.id if isinstance(row, FrontPlan) else f"baseline:{row.name}"
            left_out = "" if isinstance(row, FrontPlan) else row.left_out
            yield _Entry(name, role, plan, {m: getattr(row, m) for m in MEASURES}, left_out)


def _reference(entries: Sequence[_Entry]) -> _Entry:
    """Mandheling's plan; on a device that cannot run it, the fastest baseline."""
    baselines = [entry for entry in entries if entry.role == "baseline"]
    if not baselines:
        raise ReportError("baselines: the result has none to compare with; search again")
    named = [entry for entry in baselines if entry.plan.name == MANDHELING]
    return named[0] if named else min(baselines, key=lambda e: (e.values["time_ns"], e.id))


class _Pages:
    """Collects what the page shows of each plan, and the tables that plans share."""

    def __init__(self, graph: TrainingGraph, device: Device, reference: Plan) -> None:
        self.graph, self.device, self.reference = graph, device, reference
        self.notes: dict[str, None] = {}
        self._kinds = TaskKinds()
        self._paths: set[str] = set()
        self._ddr = Shared.of(device).ddr_rate
        self._quantities = dict(self._costs(reference).quantities())

    def _costs(self, plan: Plan) -> CostModel:
        return cost_model(self.device, plan.get("library", "step", "mnn"))

    def add(self, entry: _Entry) -> dict[str, Any]:
        """Return what the page shows of one plan."""
        expectation = expect(self.graph, entry.plan, self.device)
        risk = plan_risk(self.graph, entry.plan, self.device)
        _check_figures(entry, expectation, risk.total_ppm)
        costs = self._costs(entry.plan)
        self.notes |= dict.fromkeys(costs.calibration_notes())
        quantities = costs.quantities()
        self._quantities |= quantities
        found: dict[str, Any] = {
            "id": entry.id,
            "role": entry.role,
            "name": entry.plan.name,
            "summary": _summary(entry),
            **entry.values,
            "breakdown_ns": list(expectation.breakdown_ns.values()),
            "evidence": [
                round(share, 6) for share in evidence_shares(expectation, quantities).values()
            ],
            "change": self._change(entry.plan) if entry.role == "front" else None,
        }
        self._paths |= touched(expectation, self._ddr)
        found["swings"] = swings(expectation, quantities, self._ddr)
        return found

    def add_timelines(self, entries: Sequence[_Entry], plans: Mapping[str, dict[str, Any]]) -> None:
        """Add timelines to what the page shows of plans, in order, while there is room."""
        room = PLANS_LIMIT_BYTES - _size(list(plans.values()))
        for entry in entries:
            before = _size(self._kinds.document())
            timeline = self._kinds.timeline(expect(self.graph, entry.plan, self.device))
            room -= _size(timeline) + _size(self._kinds.document()) - before
            if room < 0:
                return
            plans[entry.id]["timeline"] = timeline

    def _change(self, plan: Plan) -> dict[str, Any]:
        """What a plan does differently from the reference, and what that brings."""
        change = explain_change(self.graph, self.device, self.reference, plan).document()
        kept = ("moved", "choices", "contributions", "before_path", "after_path")
        return {key: change[key] for key in kept}

    def shared(self) -> dict[str, Any]:
        """Return the tables that plans refer to."""
        known = variates(self._paths, self._quantities)
        return {
            "tasks": self._kinds.document(),
            "variates": {name: asdict(one) for name, one in known.items()},
        }


def _size(document: object) -> int:
    return len(json.dumps(document, separators=(",", ":")))


def _summary(entry: _Entry) -> str:
    if entry.role == "front":
        return "found by the search"
    recipe = RECIPES.get(entry.plan.name)
    summary = recipe.summary if recipe else "a baseline"
    return f"{summary}; no rival: {entry.left_out}" if entry.left_out else summary


def _check_figures(entry: _Entry, expectation: Expectation, risk_ppm: int) -> None:
    computed = {
        "time_ns": expectation.time_ns,
        "energy_pj": expectation.energy_pj,
        "risk_ppm": risk_ppm,
        "memory_bytes": expectation.peak_bytes,
    }
    for measure, value in computed.items():
        stated = entry.values[measure]
        if stated != value:
            raise ReportError(
                f"plan {entry.plan.name!r}: {measure} is {stated} in the result and {value} here; "
                "it was made with another version or other constants: search again with this one"
            )


def _waterfalls(graph: TrainingGraph, device: Device) -> list[dict[str, Any]]:
    """Techniques one after the other, in the stated order and in the reverse; none without DSP."""
    if not available(RECIPES[OFFLOAD], device):
        return []
    falls = waterfalls(build_plan(OFFLOAD, graph, device), graph, device)
    return [
        {"order": order, "names": fall.names, "times_ns": fall.times_ns}
        for order, fall in zip(("stated order", "reverse order"), falls, strict=True)
    ]
