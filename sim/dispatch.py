"""Dispatch rules: in which order a unit takes its ready tasks.

* ``topological``: as the graph lists them.
* ``critical-path``: longest remaining path first (the upward rank of HEFT, Topcuoglu et al. 2002).
* ``unblock-dsp``: the CPU first runs what unlocks the most DSP work, the DSP the longest first
  (out-of-order subgraph scheduling of llm.npu, ASPLOS 2025).
"""

from __future__ import annotations

import numpy as np

from sim.taskgraph import I64, TaskGraph

UNBLOCK_DSP = "unblock-dsp"
DISPATCH_RULES = ("topological", "critical-path", UNBLOCK_DSP)


def durations(graph: TaskGraph) -> I64:
    """Time of each task without contention, nanoseconds."""
    transfer = -(-graph.ddr_bytes * 1000 // graph.rate_cap)
    return np.asarray(graph.lead_ns + np.maximum(graph.compute_ns, transfer), dtype=np.int64)


def upward_rank(graph: TaskGraph) -> I64:
    """Longest path from the start of each task to the end of the step, nanoseconds."""
    rank = durations(graph).tolist()
    below = [0] * len(graph)
    pointers, preds = graph.pred_ptr.tolist(), graph.pred.tolist()
    for task in range(len(graph) - 1, -1, -1):
        rank[task] += below[task]
        for p in preds[pointers[task] : pointers[task + 1]]:
            below[p] = max(below[p], rank[task])
    return np.array(rank, dtype=np.int64)


def unlocked_dsp(graph: TaskGraph) -> I64:
    """DSP time that waits directly behind each task, FastRPC calls being looked through."""
    names = [unit.name for unit in graph.units]
    dsp = names.index("dsp") if "dsp" in names else -1
    rpc = names.index("rpc") if "rpc" in names else -1
    own = durations(graph)
    behind = np.zeros(len(graph), dtype=np.int64)
    for task in range(len(graph) - 1, -1, -1):
        unit = int(graph.unit[task])
        gain = own[task] if unit == dsp else behind[task] if unit == rpc else 0
        if gain:
            for p in graph.pred[graph.pred_ptr[task] : graph.pred_ptr[task + 1]]:
                behind[p] += gain
    return behind


def priorities(graph: TaskGraph, rule: str) -> I64:
    """Priority of each task under a rule; smaller goes first.

    Raises
    ------
    ValueError
        The rule is unknown.
    """
    if rule not in DISPATCH_RULES:
        raise ValueError(f"dispatch rule {rule!r}: choose one of {', '.join(DISPATCH_RULES)}")
    if rule == "critical-path":
        return -upward_rank(graph)
    if rule == UNBLOCK_DSP:
        names = [unit.name for unit in graph.units]
        on_dsp = graph.unit == (names.index("dsp") if "dsp" in names else -1)
        return np.asarray(-np.where(on_dsp, durations(graph), unlocked_dsp(graph)), dtype=np.int64)
    return np.zeros(len(graph), dtype=np.int64)
