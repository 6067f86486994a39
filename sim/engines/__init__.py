"""Engines turn a task graph into a timeline; all follow the contract in ``sim.taskgraph``.

- ``simpy``: the reference, written to be read.
- ``compiled``: the same rows from a Numba event loop; what every reported figure uses.
- :func:`static_times`: start and end in a given order without contention, for pre-selection.

Numba and SimPy are imported when an engine is first used.
"""

from __future__ import annotations

from sim.engines.order import EngineError, Order, dispatch_order
from sim.taskgraph import I64, TaskGraph
from sim.timeline import Timeline

ENGINES = ("compiled", "simpy")

__all__ = ["ENGINES", "EngineError", "dispatch_order", "run", "static_times"]


def run(
    task_graph: TaskGraph,
    engine: str = "compiled",
    contention: bool = True,
    order: Order | None = None,
) -> Timeline:
    """Simulate one step.

    Parameters
    ----------
    task_graph
        What runs.
    engine
        One of :data:`ENGINES`. They give the same rows; ``simpy`` is slower by two orders.
    contention
        Whether streams share ``ddr_rate``; if not, each runs at its own cap.
    order
        A permutation of the tasks. Each unit then starts its tasks exactly in that order
        (strict); otherwise by (priority, task id).

    Raises
    ------
    EngineError
        For an unknown engine, an order that is no permutation, or one that dead-locks.

    Examples
    --------
    >>> from sim.taskgraph import Unit, make_task_graph
    >>> graph = make_task_graph([Unit("cpu", 1)], [0, 0], compute_ns=[5, 7])
    >>> run(graph).end_ns.tolist(), run(graph, order=[1, 0]).end_ns.tolist()
    ([5, 12], [12, 7])
    """
    if engine == "compiled":
        import numba

        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            raise EngineError(
                "engine 'compiled' needs Numba's compiler, and NUMBA_DISABLE_JIT is set; "
                "unset it or choose engine 'simpy'"
            )
        from sim.engines import compiled

        return compiled.run(task_graph, contention, order)
    if engine == "simpy":
        from sim.engines import simpy_engine

        return simpy_engine.run(task_graph, contention, order)
    raise EngineError(f"engine is {engine!r}; allowed: {', '.join(ENGINES)}. Choose one of them.")


def static_times(task_graph: TaskGraph, order: Order) -> tuple[I64, I64]:
    """Start and end (ns, int64, shape ``(n,)``) when units start their tasks in ``order``.

    Equal to :func:`run` with the same ``order`` and contention off. ``order`` must also be
    topological; :class:`EngineError` otherwise. For many orders of one graph keep a
    :class:`sim.engines.static.StaticEvaluator`.
    """
    from sim.engines.static import StaticEvaluator

    return StaticEvaluator(task_graph).times(order)
