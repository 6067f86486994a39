"""The reference engine: the contract of ``sim.taskgraph`` as SimPy processes, to be read.

Each task is a process that lives the task's life. What a SimPy event is for:

- ``NORMAL`` events are a task's own: predecessors ended, release, lead, compute, stream end.
- ``DISPATCH`` (later at the same instant): all of those at ``now`` are over, units hand out slots.
- ``RETIME`` (latest): nothing is left at ``now``, the streams share DDR anew.

Within one instant the contract drains events by (kind, task id). Their effects (slots given
back, tasks made ready, streams that come and go) commute and nothing looks at them before
``DISPATCH``, so SimPy's own order of insertion gives the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np
from simpy import AllOf, Environment, Event
from simpy.events import EventPriority

from sim.engines.order import Order, checked_order, dead_lock, ranks_in_units
from sim.taskgraph import TaskGraph, Unit
from sim.timeline import Timeline

DISPATCH = EventPriority(2)
RETIME = EventPriority(3)


class Late:
    """Calls ``action`` once at this instant, after all events of a smaller priority number."""

    def __init__(self, env: Environment, priority: EventPriority, action: Callable[[], None]):
        self._env = env
        self._priority = priority
        self._action = action
        self._asked = False

    def ask(self) -> None:
        """Ask for the action at ``env.now``; asking again before it ran changes nothing."""
        if not self._asked:
            self._asked = True
            event = Event(self._env)
            event._ok, event._value = True, None
            event.callbacks.append(self._run)
            self._env.schedule(event, priority=self._priority)

    def _run(self, _event: Event) -> None:
        self._asked = False
        self._action()


class Pool:
    """One unit: what of it is free, and the ready tasks in the order in which they may start."""

    def __init__(self, unit: Unit, strict: bool):
        self.free_mask = (1 << unit.slots) - 1
        self.free_vtcm = unit.vtcm_bytes
        self.ready: list[tuple[int, int]] = []
        self._strict = strict
        self._started = 0

    def head(self) -> int | None:
        """The ready task that may start next; in strict order only the one whose turn it is."""
        if not self.ready or (self._strict and self.ready[0][0] != self._started):
            return None
        return self.ready[0][1]

    def fits(self, slots: int, vtcm: int) -> bool:
        """Whether that much is free now."""
        return slots <= self.free_mask.bit_count() and vtcm <= self.free_vtcm

    def take(self, slots: int, vtcm: int) -> int:
        """Start the head of the queue: returns the mask of its slots, those of lowest index."""
        heappop(self.ready)
        self._started += 1
        mask = 0
        for _ in range(slots):
            lowest = self.free_mask & -self.free_mask
            self.free_mask ^= lowest
            mask |= lowest
        self.free_vtcm -= vtcm
        return mask

    def give_back(self, mask: int, vtcm: int) -> None:
        """End of a task that held these."""
        self.free_mask |= mask
        self.free_vtcm += vtcm


@dataclass(slots=True)
class Stream:
    """A transfer under way: ``remaining`` bytes as of ``since`` (ns), moving at ``rate``."""

    task: int
    cap: int
    remaining: int
    since: int
    done: Event
    rate: int = 0
    alarm: Event | None = None


@dataclass(slots=True)
class Ddr:
    """The running streams and the bandwidth that they share."""

    env: Environment
    total_rate: int
    contention: bool
    streams: list[Stream] = field(default_factory=list)
    retime: Late = field(init=False)

    def __post_init__(self) -> None:
        self.retime = Late(self.env, RETIME, self._share)

    def transfer(self, task: int, cap: int, n_bytes: int) -> Event:
        """Start a stream now; the event returned happens when its bytes are gone."""
        stream = Stream(task, cap, n_bytes, int(self.env.now), Event(self.env))
        self.streams.append(stream)
        self.retime.ask()
        return stream.done

    def _share(self) -> None:
        self.streams.sort(key=lambda stream: (stream.cap, stream.task))
        left = self.total_rate
        for position, stream in enumerate(self.streams):
            streams_left = len(self.streams) - position
            rate = max(1, min(stream.cap, left // streams_left))
            if not self.contention:
                rate = stream.cap
            left -= rate
            if rate != stream.rate:
                self._set_rate(stream, rate)

    def _set_rate(self, stream: Stream, rate: int) -> None:
        now = int(self.env.now)
        stream.remaining -= stream.rate * (now - stream.since) // 1000
        stream.since = now
        stream.rate = rate
        alarm = self.env.timeout(-(-stream.remaining * 1000 // rate))
        stream.alarm = alarm
        alarm.callbacks.append(lambda event: self._end(stream, event))

    def _end(self, stream: Stream, alarm: Event) -> None:
        if alarm is stream.alarm:  # otherwise it was re-timed since
            self.streams.remove(stream)
            self.retime.ask()
            stream.done.succeed()


class Simulation:
    """One run: the tasks' processes, the units, the DDR and the rows that they write."""

    def __init__(self, graph: TaskGraph, contention: bool, rank: list[int], strict: bool):
        self.env = Environment()
        self.pools = [Pool(unit, strict) for unit in graph.units]
        self.ddr = Ddr(self.env, graph.ddr_rate, contention)
        self.dispatch = Late(self.env, DISPATCH, self._dispatch)
        self.rank = rank
        self.unit = graph.unit.tolist()
        self.slots = graph.slots.tolist()
        self.vtcm = graph.vtcm_bytes.tolist()
        self.lead = graph.lead_ns.tolist()
        self.compute = graph.compute_ns.tolist()
        self.bytes = graph.ddr_bytes.tolist()
        self.cap = graph.rate_cap.tolist()
        self.release = graph.release_ns.tolist()
        n = len(graph)
        self.started = [Event(self.env) for _ in range(n)]
        self.ended = [Event(self.env) for _ in range(n)]
        self.start_ns = [-1] * n
        self.end_ns = [-1] * n
        self.mask = [0] * n
        self.sequence: list[int] = []
        pointers, preds = graph.pred_ptr.tolist(), graph.pred.tolist()
        for task in range(n):
            self.env.process(self._life(task, preds[pointers[task] : pointers[task + 1]]))

    def _life(self, task: int, preds: list[int]) -> Generator[Event, None, None]:
        env, pool = self.env, self.pools[self.unit[task]]
        if preds:
            yield AllOf(env, [self.ended[pred] for pred in preds])
        if self.release[task] > env.now:
            yield env.timeout(self.release[task] - env.now)
        heappush(pool.ready, (self.rank[task], task))
        self.dispatch.ask()
        yield self.started[task]
        self.start_ns[task] = int(env.now)
        yield env.timeout(self.lead[task])
        computed = env.timeout(self.compute[task])
        if self.bytes[task]:
            yield self.ddr.transfer(task, self.cap[task], self.bytes[task])
        yield computed
        self.end_ns[task] = int(env.now)
        pool.give_back(self.mask[task], self.vtcm[task])
        self.ended[task].succeed()
        self.dispatch.ask()

    def _dispatch(self) -> None:
        for pool in self.pools:
            while (task := pool.head()) is not None:
                if not pool.fits(self.slots[task], self.vtcm[task]):
                    break
                self.mask[task] = pool.take(self.slots[task], self.vtcm[task])
                self.sequence.append(task)
                self.started[task].succeed()


def run(graph: TaskGraph, contention: bool, order: Order | None) -> Timeline:
    """Rows of ``graph``; see :func:`sim.engines.run`."""
    strict = order is not None
    rank = graph.priority if order is None else ranks_in_units(graph, checked_order(graph, order))
    simulation = Simulation(graph, contention, rank.tolist(), strict)
    simulation.env.run()
    end_ns = np.array(simulation.end_ns, np.int64)
    if len(graph) and int(end_ns.min()) < 0:
        raise dead_lock(graph, end_ns)
    start_ns = np.array(simulation.start_ns, np.int64)
    mask = np.array(simulation.mask, np.int64)
    sequence = np.array(simulation.sequence, np.int64)
    return Timeline(graph, start_ns, end_ns, mask, dispatch=sequence)
