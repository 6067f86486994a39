"""Hypothesis strategies for task graphs, for our tests and for those of users.

Times and sizes are small on purpose, so that ties, full units and shared instants are common;
now and then one is large. Needs the ``test`` extra (hypothesis).
"""

from __future__ import annotations

from hypothesis import strategies as st

from sim.taskgraph import CATEGORIES, StaticPower, TaskGraph, Unit, make_task_graph

_TIMES = st.one_of(st.just(0), st.integers(0, 6), st.integers(0, 40_000))
_BYTES = st.one_of(st.just(0), st.integers(0, 30), st.integers(0, 40_000))
# Few values, so that caps are often equal; the last binds nowhere: equal shares, remainders.
_RATES = st.one_of(st.sampled_from((3, 10, 1_000, 9_999)), st.integers(1, 4_000))
# Parts of a unit's VTCM: none, that two just fit or just do not, or anything.
_SHARES = st.one_of(st.just(0), st.integers(30, 34), st.integers(0, 64))
_PARAMETERS = ("lead", "compute", "bytes")


@st.composite
def units(draw: st.DrawFn) -> Unit:
    """A unit of 1 to 4 slots and 0 to 64 bytes of VTCM; its name must be made unique."""
    return Unit("unit", draw(st.integers(1, 4)), draw(st.sampled_from((0, 10, 64))))


@st.composite
def task_graphs(draw: st.DrawFn, max_tasks: int = 40) -> TaskGraph:
    """Any valid graph of 0 to ``max_tasks`` tasks on 1 to 4 units, all features included.

    Several slots per task, VTCM, release times, ties of priority, tasks of no duration, streams
    that share DDR, tensors with and without users, static power.
    """
    drawn = draw(st.lists(units(), min_size=1, max_size=4))
    pools = [Unit(f"u{i}", unit.slots, unit.vtcm_bytes) for i, unit in enumerate(drawn)]
    n = draw(st.integers(0, max_tasks))

    def column(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(values, min_size=n, max_size=n))

    unit = column(st.integers(0, len(pools) - 1))
    # Backward distances; those that reach before the first task fall away.
    distances = draw(st.lists(st.sets(st.integers(1, 8), max_size=3), min_size=n, max_size=n))
    preds = [sorted(i - d for d in back if d <= i) for i, back in enumerate(distances)]
    return make_task_graph(
        pools,
        unit,
        preds=preds,
        slots=[
            1 + s % pools[u].slots for s, u in zip(column(st.integers(0, 5)), unit, strict=True)
        ],
        vtcm_bytes=[
            share * pools[u].vtcm_bytes // 64
            for share, u in zip(column(_SHARES), unit, strict=True)
        ],
        lead_ns=column(st.one_of(st.just(0), st.integers(0, 8))),
        compute_ns=column(_TIMES),
        ddr_bytes=column(_BYTES),
        rate_cap=column(_RATES),
        power_mw=column(st.integers(0, 3_000)),
        priority=column(st.integers(-2, 2)),
        release_ns=column(st.one_of(st.just(0), st.integers(0, 50))),
        category=column(st.integers(0, len(CATEGORIES) - 2)),
        ddr_rate=draw(st.one_of(st.integers(16, 40), st.integers(16, 6_000))),
        pj_per_byte=draw(st.integers(0, 40)),
        static_power=[StaticPower("soc", draw(st.integers(0, 500)))],
        tensors=draw(_tensors(preds)),
        resident_bytes=draw(st.integers(0, 1_000)),
        parameters=_PARAMETERS,
        groups=[[0, 1, 2]] * n,
    )


@st.composite
def _tensors(draw: st.DrawFn, preds: list[list[int]]) -> list[tuple[int, int, list[int]]]:
    """Tensors whose users follow their producer: some of its direct successors, or itself."""
    n = len(preds)
    tensors = []
    for _ in range(draw(st.integers(0, 6 if n else 0))):
        producer = draw(st.integers(-1, n - 1))
        able = [task for task in range(n) if producer in (-1, task, *preds[task])]
        users = draw(st.sets(st.sampled_from(able), max_size=3))
        tensors.append((draw(st.integers(0, 100)), producer, sorted(users)))
    return tensors
