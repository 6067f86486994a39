"""The linear program of a relaxed step, and the windows that tighten it.

Variables: the start of each node, the way it runs (fractions), the type of each layer, which
optional nodes exist, which edges cross between DSP and CPU, and the length of the step. A *window*
from node ``a`` to node ``b`` says that all that must run between the two fits in between on
each unit: ``start(b) - end(a) >= area / slots``.

Notes
-----
With ways fixed, each row is linear in times and areas; so the program bounds the weighted mean of
several steps (with and without scans) by the mean of their times and areas.

A window may count packing, although the filters of a subgraph are packed before its first kernel:
if ``a`` is in the same subgraph, its own start comes after that packing too, and the start that the
program gives ``a`` leaves it out. See docs/background/certificates.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from experiments.certify.program import F64, Program, Solution, Term
from experiments.certify.relaxation import Edge, Node, Relaxation
from experiments.certify.ways import UNITS, Way, capacities

SOURCE, SINK = -1, -2
DDR = "ddr"
RESOURCES = (*UNITS, DDR)


@dataclass(slots=True, eq=False)
class StepProgram:
    """The program of a relaxation; the time of the step is variable 0."""

    relaxation: Relaxation
    energy: bool = False
    """Whether to minimise energy, in picojoules, rather than time."""
    longest_ns: int = field(init=False)
    """No plan that is worth a bound takes longer; times lie between 0 and this."""
    program: Program = field(default_factory=Program)
    starts: list[int] = field(default_factory=list)
    ways: list[list[int]] = field(default_factory=list)
    exists: list[int] = field(default_factory=list)
    """Variable of each node that is optional, else -1."""
    layers: dict[str, int] = field(default_factory=dict)
    """Variable of each layer that may be either type: 1 is INT8."""
    windows: dict[int, tuple[int, int, str]] = field(default_factory=dict)
    paths: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Rows that are windows (from, to, resource) and path steps (before, after)."""
    slots: dict[str, int] = field(init=False)
    amounts: dict[str, list[F64]] = field(init=False)

    def __post_init__(self) -> None:
        self.longest_ns = self._one_by_one()
        self.slots = {**capacities(self.relaxation.space), DDR: self._ddr_rate}
        static = self.relaxation.space.device.static
        power = sum(round(part.mw.value) for part in static)
        self.program.variable(self.longest_ns, cost=power if self.energy else 1)
        self._choices()
        self._paths()
        self.amounts = {
            r: [
                np.array([_amount(w, r) for w in n.ways], np.float64) for n in self.relaxation.nodes
            ]
            for r in RESOURCES
        }
        for resource in RESOURCES:
            self.window(SOURCE, SINK, resource)

    def _one_by_one(self) -> int:
        """Time of all nodes one after the other, each with every call and return around it.

        The program has a solution that is no longer: a bound may be cut off here.
        """
        relaxation = self.relaxation
        calls = sum(edge.call_ns + edge.return_ns for edge in relaxation.edges)
        ends = len(relaxation.nodes) * (relaxation.call_ns + relaxation.return_ns)
        slowest = (max((way.time_ns for way in node.ways), default=0) for node in relaxation.nodes)
        return calls + ends + sum(slowest)

    @property
    def _ddr_rate(self) -> int:
        return int(self.relaxation.space.device.memory.ddr_rate.value)

    # -- rows ---------------------------------------------------------------------------------

    def _choices(self) -> None:
        program = self.program
        for layer, types in self.relaxation.types.items():
            if len(types) > 1:
                self.layers[layer] = program.variable(1)
        for node in self.relaxation.nodes:
            self.starts.append(program.variable(self.longest_ns))
            self.ways.append([program.variable(1, w.energy_pj * self.energy) for w in node.ways])
            self.exists.append(program.variable(1) if node.exists else -1)
        for index, node in enumerate(self.relaxation.nodes):
            if node.exists:
                self._existence(index, node)
                program.equal([*self._all(index), (self.exists[index], -1)], 0)
            elif node.layer in self.layers:
                for dtype, chosen in (("int8", 1), ("fp32", -1)):
                    terms = self._of(index, lambda way, d=dtype: way.dtype == d)  # type: ignore[misc]
                    program.equal([*terms, (self.layers[node.layer], -chosen)], int(chosen < 0))
            else:
                program.equal(self._all(index), 1)

    def _existence(self, index: int, node: Node) -> None:
        """An optional node exists at least where each reader differs from the writer."""
        condition = node.exists
        assert condition is not None
        for reader in condition.readers:
            terms, least = [(self.exists[index], 1)], 0
            for layer, sign in ((reader, 1), (condition.writer, -1)):
                term, constant = self._has_type(layer, condition.dtype)
                if sign > 0 or condition.writer:
                    least += sign * constant
                    terms += [(column, -sign * factor) for column, factor in term]
            self.program.at_least(terms, least)

    def _has_type(self, layer: str, dtype: str) -> tuple[list[Term], int]:
        """``terms + constant`` is 1 where the layer has that type, else 0."""
        if layer in self.layers:
            return [(self.layers[layer], 1 if dtype == "int8" else -1)], int(dtype == "fp32")
        types = self.relaxation.types.get(layer, ("fp32",))
        return [], int(dtype in types)

    def _paths(self) -> None:
        relaxation, program = self.relaxation, self.program
        last = set(range(len(relaxation.nodes)))
        for edge in relaxation.edges:
            terms = [
                (self.starts[edge.after], 1),
                (self.starts[edge.before], -1),
                *self._time(edge.before),
                *self._crossing(edge),
            ]
            self.paths[program.at_least(terms, 0)] = edge.before, edge.after
            last.discard(edge.before)
        for index in range(len(relaxation.nodes)):
            on_dsp = self._on(index, "dsp")
            if on_dsp:
                call = [(column, -relaxation.call_ns) for column, _ in on_dsp]
                self.paths[program.at_least([(self.starts[index], 1), *call], 0)] = SOURCE, index
            if index in last:
                back = [(column, -relaxation.return_ns) for column, _ in on_dsp]
                terms = [(0, 1), (self.starts[index], -1), *self._time(index), *back]
                self.paths[program.at_least(terms, 0)] = index, SINK

    def _crossing(self, edge: Edge) -> list[Term]:
        """Terms of a call, a return or a mapping where the ends may lie on different sides."""
        found: list[Term] = []
        mapping = self.relaxation.mapping_ns
        sides = (
            ("dsp", edge.call_ns, edge.after, edge.before),
            ("dsp", edge.return_ns, edge.before, edge.after),
            ("gpu", mapping, edge.after, edge.before),
            ("gpu", mapping, edge.before, edge.after),
        )
        for unit, cost, inside, outside in sides:
            within = self._on(inside, unit)
            if not within or not cost:
                continue
            crosses = self.program.variable(1)
            terms = [(crosses, 1), *((c, -1) for c, _ in within), *self._on(outside, unit)]
            present = self.exists[outside]
            least = 0
            if present >= 0:  # what does not exist is on neither side
                terms.append((present, -1))
                least = -1
            self.program.at_least(terms, least)
            found.append((crosses, -cost))
        return found

    def window(self, first: int, last: int, resource: str) -> bool:
        """Add the row of a window; False if nothing between the two uses the resource."""
        slots = self.slots[resource]
        if not slots:
            return False
        terms: list[Term] = []
        for index in np.flatnonzero(self._between(first, last)).tolist():
            for column, way in zip(
                self.ways[index], self.relaxation.nodes[index].ways, strict=True
            ):
                amount = _amount(way, resource)
                if amount:
                    terms.append((column, -amount))
        if not terms:
            return False
        ends: list[Term] = [(0 if last == SINK else self.starts[last], slots)]
        if first != SOURCE:
            ends.append((self.starts[first], -slots))
            ends += [(column, slots * value) for column, value in self._time(first)]
        self.windows[self.program.at_least([*ends, *terms], 0)] = first, last, resource
        return True

    def _between(self, first: int, last: int) -> NDArray[np.bool_]:
        reach = self.relaxation.reach
        inside = np.ones(len(reach), dtype=np.bool_)
        if first != SOURCE:
            inside &= reach[first]
        if last != SINK:
            inside &= reach[:, last]
        return inside

    def violated(self, solution: Solution, most: int) -> list[tuple[int, int, str]]:
        """Return the windows that a solution violates most, at most so many."""
        point, reach = solution.point, self.relaxation.reach.astype(np.float64)
        starts = point[self.starts]
        fractions = [point[columns] for columns in self.ways]
        nodes = self.relaxation.nodes
        times = np.array(
            [f @ [w.time_ns for w in n.ways] for f, n in zip(fractions, nodes, strict=True)]
        )
        ends = starts + times
        found: list[tuple[float, tuple[int, int, str]]] = []
        known = set(self.windows.values())
        for resource in RESOURCES:
            if not self.slots[resource]:
                continue
            used = (
                np.array([f @ a for f, a in zip(fractions, self.amounts[resource], strict=True)])
                / self.slots[resource]
            )
            lack = (reach * used) @ reach - (starts[None, :] - ends[:, None])
            lack[~self.relaxation.reach] = 0
            tails = reach @ used - (point[0] - ends)
            heads = used @ reach - starts
            for k in np.argsort(-lack, axis=None)[:most].tolist():
                first, last = divmod(k, len(nodes))
                found.append((float(lack[first, last]), (first, last, resource)))
            for k in np.argsort(-tails)[:most].tolist():
                found.append((float(tails[k]), (k, SINK, resource)))
            for k in np.argsort(-heads)[:most].tolist():
                found.append((float(heads[k]), (SOURCE, k, resource)))
        found.sort(key=lambda entry: (-entry[0], entry[1]))
        worth = [w for lack, w in found if lack > LEAST_LACK_NS and w not in known]
        return worth[:most]

    def parts(self, solution: Solution) -> dict[str, int]:
        """Return the time of a solution by what binds it: multipliers weigh paths and windows."""
        point, multipliers = solution.point, solution.multipliers
        sums: dict[str, float] = {}

        def add(what: str, value: float) -> None:
            sums[what] = sums.get(what, 0.0) + value

        def on_path(index: int, weight: float) -> None:
            for column, way in zip(
                self.ways[index], self.relaxation.nodes[index].ways, strict=True
            ):
                share = weight * point[column]
                add(f"path on {way.unit}", share * (way.time_ns - way.repack_ns))
                add("packing of filters", share * way.repack_ns)

        rows = self.program.rows
        times = {0, *self.starts}
        for row, (first, _) in self.paths.items():
            weight = float(multipliers[row])
            if weight:
                own = set(self.ways[first]) if first != SOURCE else set()
                if first != SOURCE:
                    on_path(first, weight)
                begin, end = rows.indptr[row], rows.indptr[row + 1]
                for column, value in zip(
                    rows.indices[begin:end], rows.data[begin:end], strict=True
                ):
                    if column not in times and column not in own:
                        add("FastRPC and mapping", -weight * value * point[column])
        for row, (first, last, resource) in self.windows.items():
            weight = float(multipliers[row])
            if weight:
                if first != SOURCE:
                    on_path(first, weight * self.slots[resource])
                for index in np.flatnonzero(self._between(first, last)).tolist():
                    used = float(point[self.ways[index]] @ self.amounts[resource][index])
                    add(f"load of {resource}", weight * used)
        return {what: round(value) for what, value in sorted(sums.items()) if round(value)}

    # -- terms --------------------------------------------------------------------------------

    def _all(self, index: int) -> list[Term]:
        return [(column, 1) for column in self.ways[index]]

    def _of(self, index: int, wanted: Callable[[Way], bool]) -> list[Term]:
        ways = self.relaxation.nodes[index].ways
        return [(c, 1) for c, way in zip(self.ways[index], ways, strict=True) if wanted(way)]

    def _on(self, index: int, unit: str) -> list[Term]:
        return self._of(index, lambda way: way.unit == unit)

    def _time(self, index: int) -> list[Term]:
        """Minus the time of a node."""
        ways = self.relaxation.nodes[index].ways
        return [(c, -way.time_ns) for c, way in zip(self.ways[index], ways, strict=True)]


LEAST_LACK_NS = 1_000.0
"""Windows that are violated by less are not worth a row."""


def _amount(way: Way, resource: str) -> int:
    """What a way takes of a resource: slots times ns, or bytes times 1000."""
    if resource == DDR:
        return 1000 * way.ddr_bytes
    return way.area if way.unit == resource else 0
