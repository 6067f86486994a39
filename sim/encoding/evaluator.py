"""The evaluator: many encoded plans at once, with the integers of the single-plan engines."""

from __future__ import annotations

from dataclasses import dataclass

from sim.encoding.plain import plain_scores
from sim.encoding.scores import Scores
from sim.encoding.space import Genes, Space, SpaceError

FIDELITIES = ("expected", "quiet", "static")
"""How exactly plans are scored, the exact one first."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluator:
    """Scores encoded plans of one space.

    Attributes
    ----------
    fidelity
        ``expected``: :func:`sim.expected.expect`, what every report shows. ``quiet``: one settled
        step in which the rules scan as little as they can, with contention
        (:func:`sim.expected.quiet_ns`). ``static``: the same step without contention, each unit in
        the order of the tasks; only to pre-select.
    memory
        Whether to find the memory in use as well.
    threads
        Threads that share a batch; scores do not depend on it.
    """

    space: Space
    fidelity: str = "expected"
    memory: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        if self.fidelity not in FIDELITIES:
            raise SpaceError(
                f"fidelity is {self.fidelity!r}; choose one of {', '.join(FIDELITIES)}"
            )

    def __call__(self, batch: Genes) -> Scores:
        """Score every row of ``batch``, int16 of shape ``(plans, genes)``."""
        return plain_scores(self.space, batch, self.fidelity, memory=self.memory)
