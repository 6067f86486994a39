"""The evaluator: many encoded plans at once, with the integers of the single-plan engines."""

from __future__ import annotations

import numpy as np

from sim.encoding.discover import SpaceError
from sim.encoding.scores import Scores
from sim.encoding.space import Genes, Space
from sim.encoding.tables import Tables

FIDELITIES = ("expected", "quiet", "static")
"""How exactly plans are scored, the exact one first."""


class Evaluator:
    """Scores encoded plans of one space; see :func:`sim.encoding.plain.plain_scores` for its twin.

    Rows that agree in the genes before placement share a *frame*, which takes some milliseconds to
    make and is then remembered: keep such rows together.

    Parameters
    ----------
    space
        Space that rows are of.
    fidelity
        ``expected``: :func:`sim.expected.expect`, what every report shows. ``quiet``: one settled
        step in which the rules scan as little as they can, with contention
        (:func:`sim.expected.quiet_ns`). ``static``: the same step without contention, each unit in
        the order of the tasks; only to pre-select.
    memory
        Whether to find the memory in use as well; not by the static fidelity.
    threads
        Threads that share a batch; scores do not depend on it.

    Raises
    ------
    SpaceError
        The fidelity is unknown, or has no memory.

    Examples
    --------
    >>> from sim import build_plan, load_device, load_model, training_graph
    >>> from sim.expected import expected_ns
    >>> graph = training_graph(load_model("lenet", batch=64))
    >>> device = load_device("snapdragon-865")
    >>> plan = build_plan("mandheling", graph, device)
    >>> space = Space.of(graph, device, plan)
    >>> scores = Evaluator(space)(space.encode(plan)[None])
    >>> int(scores.time_ns[0]) == expected_ns(graph, plan, device)
    True
    """

    def __init__(
        self, space: Space, fidelity: str = "expected", *, memory: bool = False, threads: int = 1
    ) -> None:
        if fidelity not in FIDELITIES:
            raise SpaceError(f"fidelity is {fidelity!r}; choose one of {', '.join(FIDELITIES)}")
        if memory and fidelity == "static":
            raise SpaceError("fidelity 'static' finds no memory; choose 'quiet' or 'expected'")
        self.space = space
        self.fidelity = fidelity
        self.memory = memory
        self.threads = threads
        self._tables = Tables.of(space)

    def __call__(self, batch: Genes) -> Scores:
        """Score every row of ``batch``, int16 of shape ``(plans, genes)``.

        Raises
        ------
        SpaceError
            The batch has another shape or type, or an index beyond its gene's choices.
        PlanError
            A held choice is not allowed in the surroundings of a row.
        """
        rows = self.space.checked(batch).astype(np.int16, copy=False)
        number = FIDELITIES.index(self.fidelity)
        out = np.zeros((len(rows), 3), np.int64)
        for places, ready in self._tables.by_frame(rows):
            mine = np.ascontiguousarray(rows[places])
            meaning = self._tables.meaning
            out[places] = ready.score(mine, number, self.memory, meaning, self.threads)
        time, energy, memory = np.ascontiguousarray(out.T)
        return Scores(time, energy, memory if self.memory else None)
