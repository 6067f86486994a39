"""All measures of encoded plans at once: time, energy, risk and memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from experiments.search.objectives import Values
from experiments.search.risk import RiskTable, risk_table
from sim.encoding import Evaluator, Genes, Space
from sim.memo import Memo


@dataclass(frozen=True, slots=True, eq=False)
class Measurer:
    """Measures plans of one space, and keeps the evaluators that it needed."""

    space: Space
    risk: RiskTable
    _evaluators: dict[tuple[str, bool], Evaluator] = field(default_factory=dict)

    @classmethod
    def of(cls, space: Space) -> Measurer:
        """Return the measurer of a space, remembered by content."""
        return _MEASURERS.get(space.sha256, lambda: cls(space, risk_table(space)))

    def __call__(self, batch: Genes, fidelity: str, *, memory: bool) -> Values:
        """Return all measures of a batch, shape ``(plans, measures)``.

        They are in the order of :data:`~experiments.search.objectives.COLUMNS`; memory is 0 unless
        it is asked for.
        """
        key = fidelity, memory
        if key not in self._evaluators:
            self._evaluators[key] = Evaluator(self.space, fidelity, memory=memory)
        found = self._evaluators[key](batch)
        held = np.zeros_like(found.time_ns) if found.memory_bytes is None else found.memory_bytes
        return np.stack([found.time_ns, found.energy_pj, self.risk.of(batch), held], axis=1)


_MEASURERS: Memo[Measurer] = Memo(4)
"""Tables take long to make, and every shard of a search needs the same."""
