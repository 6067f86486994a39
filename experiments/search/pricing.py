"""Rescale rules by their price: which tensors take the risk of a rule that scans rarely.

Every tensor pays for its scans with time and for not scanning with risk. With one price for risk
the best rule of each tensor is known at once; the price is set so that the whole plan risks about
as much as is wanted. Times are those of each kernel alone on its unit, counted in full where the
kernel is on the critical path of the step, so the result is a proposal that a search has to score.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from cost_models.cost import Rescaling
from experiments.search.measuring import Measurer
from experiments.search.risk import RiskTable
from sim.critical import critical_path
from sim.encoding import Genes, Space
from sim.engines import run as run_engine
from sim.expected import SETTLED_TENSOR_STEPS, quiet_mode, quiet_tasks, scan_share
from sim.lowering import cost_model, lowering
from sim.plan import Plan
from sim.policies.base import Situation
from sim.rescaling import parse_rule

F64 = NDArray[np.float64]
MODES: tuple[Rescaling, ...] = ("dynamic", "fused", "inline")
OFF_PATH = 0.05
"""What counts of the time of a kernel that is not on the critical path."""
HALVINGS = 40
"""Steps of the search for the price of risk."""


@dataclass(frozen=True, slots=True, eq=False)
class RulePrices:
    """Finds rules for the tensors of one space."""

    space: Space
    risk: RiskTable

    @classmethod
    def of(cls, space: Space) -> RulePrices:
        """Return the prices of a space; its table of risk is remembered."""
        return cls(space, Measurer.of(space).risk)

    def places(self) -> list[int]:
        """Genes of the rules."""
        return [k for k, g in enumerate(self.space.genes) if g.aspect == "rescale"]

    def proposed(self, row: Genes, risk_ppm: float) -> Genes:
        """Return the row with the rules that shorten it most at about a risk.

        Parameters
        ----------
        row
            Shape ``(genes,)``.
        risk_ppm
            What the whole plan may risk; the result stays below it if any price does.
        """
        places = self.places()
        out = row.copy()
        if not places:
            return out
        times, risks = self._times(row, places), self._risks(row, places)
        low, high = 1.0, 1e12
        for _ in range(HALVINGS):
            middle = sqrt(low * high)
            picks = np.argmin(times + middle * risks, axis=1)
            if np.take_along_axis(risks, picks[:, None], axis=1).sum() > risk_ppm:
                low = middle
            else:
                high = middle
        out[places] = np.argmin(times + high * risks, axis=1)
        return out

    def _risks(self, row: Genes, places: list[int]) -> F64:
        """Risk of each choice beside that of the least risky one, shape ``(tensors, choices)``.

        The first column of what is left over goes to no tensor: it is the same for all choices.
        """
        width = int(self.space.counts[places].max())
        rows = np.repeat(row[None], len(places) * width, axis=0)
        for k, place in enumerate(places):
            choices = np.arange(width) % self.space.counts[place]
            rows[k * width : (k + 1) * width, place] = choices
        found = self.risk.of(rows).reshape(len(places), width).astype(np.float64)
        least = row.copy()
        least[places] = found.argmin(axis=1)
        base = float(self.risk.of(least[None])[0])
        found -= found.min(axis=1, keepdims=True)
        found[0] += base  # what the least risky rules risk together
        return found

    def _times(self, row: Genes, places: list[int]) -> F64:
        """Expected nanoseconds of each choice, shape ``(tensors, choices)``."""
        plan = self.space.decode(row)
        by_mode = {mode: self._alone(plan, mode) for mode in MODES}
        path = self._on_path(plan)
        width = int(self.space.counts[places].max())
        found = np.full((len(places), width), np.inf)
        for k, place in enumerate(places):
            gene = self.space.genes[place]
            weight = 1.0 if gene.subject in path else OFF_PATH
            for c, choice in enumerate(gene.choices):
                rule = parse_rule(choice)
                scans = scan_share(rule) / SETTLED_TENSOR_STEPS
                quiet = by_mode[quiet_mode(rule)].get(gene.subject, 0)
                scanned = by_mode["dynamic"].get(gene.subject, 0)
                found[k, c] = weight * (scans * scanned + (1 - scans) * quiet)
        return found

    def _alone(self, plan: Plan, mode: Rescaling) -> dict[str, int]:
        """Time of each tensor's kernels, scan and requantise included, if all are in a mode."""
        space = self.space
        ready = lowering(space.graph, plan, space.device)
        costs = cost_model(space.device, ready.settings["library"])
        situation = Situation(space.device, costs)
        found: dict[str, int] = {}
        for item in ready.draft(dict.fromkeys(ready.rules, mode)).items:
            subject = item.follows or item.subject
            if subject in ready.rules:
                time = situation.time_ns(item, item.unit)
                found[subject] = found.get(subject, 0) + (time or 0)
        return found

    def _on_path(self, plan: Plan) -> set[str]:
        """Subjects that the end of a quiet step waits for."""
        tasks = quiet_tasks(self.space.graph, plan, self.space.device)
        segments = critical_path(run_engine(tasks))
        names = {tasks.names[s.task] for s in segments if s.task >= 0}
        ready = lowering(self.space.graph, plan, self.space.device)
        draft = ready.draft(dict.fromkeys(ready.rules, "dynamic"))
        return {item.follows or item.subject for item in draft.items if item.name in names}
