"""DSP subgraphs of one encoded plan, compiled: the rules of :mod:`sim.aspects.grouping` on arrays.

Levels, floating kernels and convexity are explained there; results are equal to it.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.aspects.grouping import NODE_BYTES
from sim.encoding.frames import Kernels
from sim.encoding.jit import HASH_PRIME, compiled, inlined
from sim.encoding.machine import Machine
from sim.taskgraph import I64


class Groups(NamedTuple):
    """Scratch for one plan. Of shape ``(kernels,)`` unless said otherwise."""

    option: I64
    on_dsp: I64
    cut: I64
    group: I64
    """Subgraph, numbered in the order of execution; -1 outside."""
    level: I64
    floating: I64
    found: I64
    mark: I64
    order: I64
    """Kernels sorted by level."""
    following: I64
    """Next kernel of the same subgraph in that order, -1 for the last."""
    level_count: I64
    """Shape ``(kernels + 2,)``: counting sort."""
    group_level: I64
    number: I64
    """New number of each subgraph."""
    head: I64
    tail: I64
    kernels: I64
    """How many kernels each subgraph has."""
    bytes_io: I64
    filter_bytes: I64
    weight_bytes: I64
    memory_bytes: I64
    key: I64
    """FNV hash of the digests of its kernels: subgraphs are told apart by 64 bits."""
    cpu_read: I64
    """Shape ``(buffers,)``, as the next three: stamps."""
    cpu_written: I64
    inside: I64
    counted: I64
    stamp: I64
    """Shape ``(1,)``: stamps used so far."""
    gpu: I64
    """Shape ``(1,)``: 1 if anything is on the GPU."""


@inlined
def _closure(start: int, kernels: Kernels, s: Groups) -> int:
    """Fill ``found`` with a kernel and the floating ones it needs, marked; how many they are."""
    s.stamp[0] += 1
    stamp = s.stamp[0]
    s.found[0] = start
    s.mark[start] = stamp
    count = 1
    at = 0
    while at < count:
        member = s.found[at]
        at += 1
        for e in range(kernels.chained_ptr[member], kernels.chained_ptr[member + 1]):
            p = kernels.chained[e]
            if s.floating[p] == 1 and s.mark[p] != stamp:
                s.mark[p] = stamp
                s.found[count] = p
                count += 1
    return count


@inlined
def _put(count: int, group: int, s: Groups) -> None:
    for at in range(count):
        member = s.found[at]
        s.group[member] = group
        s.level[member] = s.group_level[group]
        s.floating[member] = 0


@inlined
def _open(count: int, groups: int, kernels: Kernels, s: Groups) -> int:
    """Put the ``found`` kernels into a new subgraph above all they read; the new count."""
    stamp = s.stamp[0]
    above = -1
    for at in range(count):
        member = s.found[at]
        for e in range(kernels.chained_ptr[member], kernels.chained_ptr[member + 1]):
            p = kernels.chained[e]
            if s.mark[p] != stamp:
                above = max(above, s.level[p])
    s.group_level[groups] = above + 1
    _put(count, groups, s)
    return groups + 1


@inlined
def _reads_outside(count: int, kernels: Kernels, s: Groups) -> bool:
    stamp = s.stamp[0]
    for at in range(count):
        member = s.found[at]
        for e in range(kernels.chained_ptr[member], kernels.chained_ptr[member + 1]):
            if s.mark[kernels.chained[e]] != stamp:
                return True
    return False


@inlined
def _admits(group: int, count: int, kernels: Kernels, s: Groups) -> bool:
    """Whether all that the ``found`` kernels read elsewhere lies below the subgraph."""
    stamp = s.stamp[0]
    level = s.group_level[group]
    for at in range(count):
        member = s.found[at]
        for e in range(kernels.chained_ptr[member], kernels.chained_ptr[member + 1]):
            p = kernels.chained[e]
            if s.mark[p] != stamp and s.group[p] != group and s.level[p] >= level:
                return False
    return True


@inlined
def _joined(k: int, count: int, kernels: Kernels, s: Groups) -> int:
    """Newest subgraph among the producers' that admits the ``found`` kernels, or -1."""
    before = kernels.before[k]
    if before >= 0 and s.floating[before] == 0:
        joins: int = s.group[before]
        return joins if _admits(joins, count, kernels, s) else -1
    below = len(s.group) + 1
    while True:
        group = -1
        for e in range(kernels.chained_ptr[k], kernels.chained_ptr[k + 1]):
            p = kernels.chained[e]
            if s.on_dsp[p] == 1 and s.floating[p] == 0 and group < s.group[p] < below:
                group = s.group[p]
        if group < 0 or _admits(group, count, kernels, s):
            return group
        below = group


@compiled
def assign(kernels: Kernels, s: Groups) -> int:
    """Fill ``group`` (as opened) and ``level`` from ``on_dsp`` and ``cut``; count of subgraphs."""
    groups = 0
    floats = 0
    for k in range(len(kernels.before)):
        s.group[k] = -1
        s.level[k] = 0
        s.floating[k] = 0
        if s.on_dsp[k] == 0:
            level = -1
            for e in range(kernels.pred_ptr[k + 1] - 1, kernels.pred_ptr[k] - 1, -1):
                p = kernels.pred[e]
                if s.floating[p] == 1:
                    groups = _open(_closure(p, kernels, s), groups, kernels, s)
            for e in range(kernels.pred_ptr[k], kernels.pred_ptr[k + 1]):
                level = max(level, s.level[kernels.pred[e]])
            s.level[k] = level + 1
            continue
        settled = False
        floating = False
        for e in range(kernels.chained_ptr[k], kernels.chained_ptr[k + 1]):
            p = kernels.chained[e]
            if s.on_dsp[p] == 1:
                floating |= s.floating[p] == 1
                settled |= s.floating[p] == 0
        if not settled and s.cut[k] == 0:
            s.floating[k] = 1
            floats += 1
            continue
        if s.cut[k] == 1 and floating:
            for e in range(kernels.chained_ptr[k + 1] - 1, kernels.chained_ptr[k] - 1, -1):
                p = kernels.chained[e]
                if s.floating[p] == 1:
                    count = _closure(p, kernels, s)
                    if _reads_outside(count, kernels, s):
                        groups = _open(count, groups, kernels, s)
        if floating:
            count = _closure(k, kernels, s)
        else:
            s.stamp[0] += 1
            s.mark[k] = s.stamp[0]
            s.found[0] = k
            count = 1
        group = -1
        if s.cut[k] == 0:
            group = _joined(k, count, kernels, s)
        if group >= 0:
            _put(count, group, s)
        else:
            groups = _open(count, groups, kernels, s)
    if floats > 0:
        for k in range(len(kernels.before) - 1, -1, -1):
            if s.floating[k] == 1:
                groups = _open(_closure(k, kernels, s), groups, kernels, s)
    return groups


@compiled
def sort_by_level(kernels: Kernels, groups: int, s: Groups) -> None:
    """Fill ``order``, number subgraphs as they come in it, and link the kernels of each."""
    n = len(kernels.before)
    top = 0
    for k in range(n):
        top = max(top, s.level[k])
    for level in range(top + 2):
        s.level_count[level] = 0
    for k in range(n):
        s.level_count[s.level[k] + 1] += 1
    for level in range(top + 1):
        s.level_count[level + 1] += s.level_count[level]
    for k in range(n):
        place = s.level_count[s.level[k]]
        s.order[place] = k
        s.level_count[s.level[k]] = place + 1
    for group in range(groups):
        s.number[group] = -1
    count = 0
    for place in range(n):
        k = s.order[place]
        if s.group[k] < 0:
            continue
        group = s.number[s.group[k]]
        s.following[k] = -1
        if group < 0:
            group = count
            s.number[s.group[k]] = group
            count += 1
            s.head[group] = k
            s.kernels[group] = 1
        else:
            s.following[s.tail[group]] = k
            s.kernels[group] += 1
        s.tail[group] = k
        s.group[k] = group


@compiled
def describe(kernels: Kernels, groups: int, s: Groups) -> None:
    """Size up the subgraphs: bytes that cross the border, filters, memory, and key."""
    s.stamp[0] += 1
    outside = s.stamp[0]
    for k in range(len(kernels.before)):
        if s.group[k] < 0:
            for e in range(kernels.read_ptr[k], kernels.read_ptr[k + 1]):
                s.cpu_read[kernels.read[e]] = outside
            for e in range(kernels.write_ptr[k], kernels.write_ptr[k + 1]):
                s.cpu_written[kernels.write[e]] = outside
    for group in range(groups):
        s.stamp[0] += 1
        here = s.stamp[0]
        crossing = 0
        filters = 0
        weights = 0
        scratch = 0
        key = 0
        k = s.head[group]
        while k >= 0:
            filters += kernels.filter_bytes[k]
            weights += kernels.weight_bytes[k]
            scratch = max(scratch, kernels.scratch_bytes[k])
            key = (key ^ kernels.digest[k]) * HASH_PRIME
            for e in range(kernels.write_ptr[k], kernels.write_ptr[k + 1]):
                buffer = kernels.write[e]
                if s.inside[buffer] != here:
                    s.inside[buffer] = here
                    if s.cpu_read[buffer] == outside:
                        crossing += kernels.buffer_bytes[buffer]
            k = s.following[k]
        k = s.head[group]
        while k >= 0:
            for e in range(kernels.read_ptr[k], kernels.read_ptr[k + 1]):
                buffer = kernels.read[e]
                if s.inside[buffer] != here and s.counted[buffer] != here:
                    s.counted[buffer] = here
                    if kernels.buffer_made[buffer] == 0 or s.cpu_written[buffer] == outside:
                        crossing += kernels.buffer_bytes[buffer]
            k = s.following[k]
        s.bytes_io[group] = crossing
        s.filter_bytes[group] = filters
        s.weight_bytes[group] = weights
        s.memory_bytes[group] = filters + scratch + NODE_BYTES * s.kernels[group]
        s.key[group] = key


@compiled
def call_ns(size: int, machine: Machine) -> int:
    """Latency of a call that passes ``size`` bytes, tail left out; as ``rpc_latency_ns``."""
    knots = machine.call_knots
    at = 1
    while at < len(knots) - 1 and size > knots[at, 0]:
        at += 1
    low, high = knots[at - 1], knots[at]
    slope = (high[1] - low[1]) * (size - low[0]) // (high[0] - low[0])
    latency: int = machine.call_null_ns + low[1] + slope
    return latency


@compiled
def prepare_ns(kernels: int, weight_bytes: int, machine: Machine) -> int:
    """Time to build and prepare a subgraph; as ``Prepare.latency_ns``."""
    fixed, build, per_mib = machine.prepare_us
    latency: int = round((fixed + build * kernels + per_mib * weight_bytes / 2**20) * 1000)
    return latency
