"""Peak memory of a simulated step, compiled; equal to :func:`sim.memory.peak_bytes`."""

from __future__ import annotations

from typing import NamedTuple

from sim.encoding.event_loops import Rows
from sim.encoding.frames import Sheet
from sim.encoding.jit import compiled, inlined
from sim.taskgraph import I64


class Lives(NamedTuple):
    """Scratch by tensor: when it is allocated and freed (-1: never), and both sorted by time."""

    from_ns: I64
    until_ns: I64
    by_start: I64
    by_end: I64


@inlined
def _sort(index: I64, count: int, when: I64) -> None:
    """Heap sort: ``index[:count]`` by ``when``, the soonest first."""
    for begin in range(2 * count - 1, -1, -1):
        size = count
        parent = begin - count
        if begin < count:  # the heap is built: take out the latest, `begin + 1` are left
            size = begin
            parent = 0
            index[0], index[begin] = index[begin], index[0]
        while True:
            child = 2 * parent + 1
            if child >= size:
                break
            if child + 1 < size and when[index[child]] < when[index[child + 1]]:
                child += 1
            if when[index[child]] <= when[index[parent]]:
                break
            index[parent], index[child] = index[child], index[parent]
            parent = child


@compiled
def peak(resident: int, sheet: Sheet, r: Rows, lives: Lives) -> int:
    """Most bytes in use at any instant of the step that ``r`` holds."""
    task = r.state.task
    frees = 0
    tensors = len(sheet.tensor_bytes)
    for t in range(tensors):
        producer = sheet.tensor_producer[t]
        lives.from_ns[t] = task[r.row[producer]].start_ns if producer >= 0 else 0
        lives.by_start[t] = t
        last = -1
        for e in range(sheet.user_ptr[t], sheet.user_ptr[t + 1]):
            last = max(last, task[r.row[sheet.users[e]]].end_ns)
        lives.until_ns[t] = last
        if last >= 0:
            lives.by_end[frees] = t
            frees += 1
    _sort(lives.by_start, tensors, lives.from_ns)
    _sort(lives.by_end, frees, lives.until_ns)
    used = resident
    most = resident
    freed = 0
    for at in range(tensors):
        t = lives.by_start[at]
        while freed < frees and lives.until_ns[lives.by_end[freed]] < lives.from_ns[t]:
            used -= sheet.tensor_bytes[lives.by_end[freed]]
            freed += 1
        used += sheet.tensor_bytes[t]
        most = max(most, used)
    return most
