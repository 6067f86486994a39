"""Lowering: from a graph, a plan and a device to the tasks of one step.

``lower_step`` is pure: the same arguments give the same task graph and the same next state. The
part that does not depend on the step (everything before rescaling) is done once per plan, and
a task graph is made once for each combination of modes, misses and clocks, then only its
drawn latencies change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cost_models.cost import Rescaling
from cost_models.device import Device
from cost_models.model import CostModel
from sim.aspects import ORDER, STEP_ASPECTS, StepContext
from sim.aspects.placement import default_unit
from sim.assembly import Assembler, Clocks
from sim.draft import Draft, draft_of
from sim.graph import TrainingGraph
from sim.memo import Memo
from sim.plan import Plan, PlanError
from sim.rescaling import RescaleRule, RescaleState, parse_rule
from sim.reuse import CacheStep, Visit, settled_cycle, visit_all
from sim.state import Observation, StepState
from sim.taskgraph import TaskGraph

THROTTLE_HYSTERESIS_MC = 3000
"""Clocks come back when it is this much below the throttle point (assumed)."""

CYCLE_STEPS = 4
"""Most steps of a settled reuse cycle that an expectation is taken over."""

FIRST_PER_STEP = next(k for k, aspect in enumerate(ORDER) if aspect.uses_modes)
"""Aspects from here on are rewritten for each combination of modes, those before once."""

NOTHING_KNOWN: Mapping[str, Rescaling] = {}
"""Modes before any shift is known: every tensor is scanned."""


def lower_step(
    graph: TrainingGraph,
    plan: Plan,
    device: Device,
    state: StepState,
    observation: Observation | None = None,
) -> tuple[TaskGraph, StepState]:
    """Lower one step and return its tasks with the state after it.

    Parameters
    ----------
    observation
        What the previous step's timeline showed; only the thermal scenario needs it.

    Raises
    ------
    PlanError
        The plan was made for another graph, or makes a choice that is not allowed.
    """
    return lowering(graph, plan, device).step(state, observation)


@dataclass(slots=True, eq=False)
class Lowering:
    """A plan on a graph and a device, ready to be lowered step by step."""

    graph: TrainingGraph
    plan: Plan
    device: Device
    costs: CostModel
    settings: Mapping[str, str]
    """Choices about the step as a whole."""
    head: Draft
    """Draft before the first aspect that depends on the step."""
    rules: Mapping[str, RescaleRule]
    _last: tuple[tuple[object, ...], Assembler] | None = None
    """The newest assembler and its key: steps without a scan come one after the other."""
    _draft: tuple[frozenset[tuple[str, str]], Draft] | None = None
    _visits: tuple[Visit, ...] | None = None
    _choices: dict[str, dict[str, str]] = field(default_factory=dict)

    def first_state(self, state: StepState) -> StepState:
        """Return ``state`` with the rules' start states where it has none yet."""
        if state.rescale.keys() == self.rules.keys():
            return state
        known = state.rescale
        states = {s: known.get(s) or rule.start() for s, rule in self.rules.items()}
        return replace(state, rescale=states)

    def modes(self, state: StepState) -> dict[str, Rescaling]:
        """Return the mode of each rescaled tensor in the step that ``state`` leads to."""
        return {s: rule.mode(state.rescale[s]) for s, rule in self.rules.items()}

    def draft(self, modes: Mapping[str, Rescaling]) -> Draft:
        """Return the fully rewritten draft for these modes; the newest is remembered."""
        key = frozenset(modes.items())
        last = self._draft
        if last is None or last[0] != key:
            last = self._draft = key, self._rewrite(modes)
        return last[1]

    def _rewrite(self, modes: Mapping[str, Rescaling]) -> Draft:
        context = StepContext(self.device, modes)
        first = ORDER[FIRST_PER_STEP + 1]
        draft = draft_before(first.name, self.graph, self.plan, self.device, modes)
        for aspect in ORDER[FIRST_PER_STEP + 1 :]:
            choices = self._choices.get(aspect.name)
            if choices is None:  # the subjects do not depend on the modes
                choices = aspect.resolve(draft, self.plan, self.device)
                self._choices[aspect.name] = choices
            draft = aspect.rewrite(draft, choices, context)
        if self._visits is None:  # nor do the subgraphs' keys and sizes
            self._visits = tuple((s.key, s.memory_bytes) for s in draft.subgraphs)
        return draft

    @property
    def visits(self) -> tuple[Visit, ...]:
        """Subgraphs that every step executes, in order, with the memory they hold prepared."""
        if self._visits is None:
            self.draft({})
        assert self._visits is not None
        return self._visits

    def reuse(self, prepared: tuple[Visit, ...]) -> CacheStep:
        """Return which subgraphs of a step must be prepared, by the plan's reuse rule."""
        return visit_all(self.settings["reuse"], self.visits, prepared, self._dsp_memory)

    @property
    def _dsp_memory(self) -> int:
        dsp = self.device.dsp
        return 0 if dsp is None else int(dsp.memory_budget_bytes.value)

    def step(
        self, state: StepState, observation: Observation | None = None
    ) -> tuple[TaskGraph, StepState]:
        """See :func:`lower_step`."""
        state = self._observe(self.first_state(state), observation)
        modes = self.modes(state)
        cache = self.reuse(state.prepared)
        clocks = Clocks(
            cpu=self._cpu_point(state.throttled),
            dsp=self.settings["operating_point.dsp"],
            busy_cores=state.scenario.busy_cores(state.seed, state.step),
            gpu=self.settings["gpu_clock"],
        )
        assembler = self._assembler(modes, cache, clocks)
        return assembler.tasks(state.seed, state.step), self._advance(state, modes, cache)

    def _assembler(
        self, modes: Mapping[str, Rescaling], cache: CacheStep, clocks: Clocks
    ) -> Assembler:
        """Return the assembler of a step, the last one if nothing changed but the draws."""
        key = (frozenset(modes.items()), cache.misses, clocks)
        last = self._last
        if last is None or last[0] != key:
            made = Assembler(self.draft(modes), self.costs, self.settings, cache, clocks)
            last = self._last = key, made
        return last[1]

    def settled(self) -> tuple[CacheStep, ...]:
        """Return the steps of the reuse cache that repeat in the long run, thinned to a few."""
        cycle = settled_cycle(self.settings["reuse"], self.visits, self._dsp_memory)
        return cycle[:: -(-len(cycle) // CYCLE_STEPS)]

    def expected_tasks(
        self, modes: Mapping[str, Rescaling], cache: CacheStep, *, tensors: bool = True
    ) -> TaskGraph:
        """Return the tasks of a step with these modes and misses and every draw at its mean.

        Without ``tensors`` no memory is accounted for: enough for times.
        """
        clocks = Clocks(
            cpu=self._cpu_point(False),
            dsp=self.settings["operating_point.dsp"],
            gpu=self.settings["gpu_clock"],
        )
        draft = self.draft(modes)
        assembler = Assembler(draft, self.costs, self.settings, cache, clocks, tensors=tensors)
        return assembler.expected_tasks()

    def _cpu_point(self, throttled: bool) -> str:
        """Operating point of the CPU: the plan's, but never above sustained when throttled."""
        chosen = self.settings["operating_point.cpu"]
        if not throttled:
            return chosen
        unit = default_unit(self.device)
        return min((chosen, "sustained"), key=lambda p: self.costs.clock_and_power(unit, p)[0])

    def skip(self, state: StepState) -> StepState:
        """Return the state after a step, without making its tasks (no thermal scenario)."""
        state = self.first_state(state)
        modes = self.modes(state)
        return self._advance(state, modes, self.reuse(state.prepared))

    def _advance(
        self, state: StepState, modes: Mapping[str, Rescaling], cache: CacheStep
    ) -> StepState:
        seed, step, shift_of = state.seed, state.step, state.shifts.shift
        after: dict[str, RescaleState] = {}
        true: dict[str, int] = {}
        saturating = coarse = 0
        for subject, rule in self.rules.items():
            before = state.rescale[subject]
            shift = shift_of(seed, step, subject, state.true_shift.get(subject, 0))
            if modes[subject] != "dynamic":
                saturating += before.used < shift
                coarse += before.used > shift
            true[subject] = shift
            after[subject] = rule.next(before, shift)
        return replace(
            state,
            step=step + 1,
            rescale=after,
            true_shift=true,
            prepared=cache.prepared,
            scans=state.scans + sum(mode == "dynamic" for mode in modes.values()),
            stale_saturating=state.stale_saturating + saturating,
            stale_coarse=state.stale_coarse + coarse,
        )

    def _observe(self, state: StepState, seen: Observation | None) -> StepState:
        if not state.scenario.thermal:
            return state
        model = self.device.thermal
        now = state.temperature_mc
        if now is None:
            now = round(1000 * model.ambient_c.value)
        if seen is not None:
            now = model.after(now, seen.energy_pj, seen.makespan_ns)
        limit = round(1000 * model.throttle_c.value)
        throttled = now >= limit or (state.throttled and now >= limit - THROTTLE_HYSTERESIS_MC)
        return replace(state, temperature_mc=now, throttled=throttled)


def lowering(graph: TrainingGraph, plan: Plan, device: Device) -> Lowering:
    """Check a plan against its graph and device, and get it ready for lowering.

    Placement and grouping are checked when the first step is lowered; :func:`validate` checks all.

    Raises
    ------
    PlanError
        The plan was made for another graph, names an unknown aspect, or a choice is not allowed.
    """
    key = (graph.hash(), plan.graph_hash, plan.choices, device.sha256)
    return _LOWERINGS.get(key, lambda: _lowering(graph, plan, device))


def validate(graph: TrainingGraph, plan: Plan, device: Device) -> None:
    """Check every choice of a plan, as lowering it would; raises :class:`PlanError`."""
    lowering(graph, plan, device).draft({})


_LOWERINGS: Memo[Lowering] = Memo(24)
_DRAFTS: Memo[Draft] = Memo(24)


def _lowering(graph: TrainingGraph, plan: Plan, device: Device) -> Lowering:
    graph_hash, made_for = graph.hash(), plan.graph_hash
    if made_for != graph_hash:
        raise PlanError(
            f"plan {plan.name!r} is for graph {made_for[:12]}, not for {graph_hash[:12]}, which is "
            f"{graph.described()}; make it again for this model, batch and image size, by "
            "`plan show` or from sim.load_model(name, batch, image, classes)"
        )
    known = {aspect.name for aspect in ORDER} | {aspect.name for aspect in STEP_ASPECTS}
    unknown = {aspect for (aspect, _), _ in plan.choices} - known
    if unknown:
        raise PlanError(
            f"plan {plan.name!r}: unknown aspect {min(unknown)!r}; "
            f"aspects are {', '.join(sorted(known))}"
        )
    settings = {aspect.key: aspect.resolve(plan, device) for aspect in STEP_ASPECTS}
    head = draft_before(ORDER[FIRST_PER_STEP].name, graph, plan, device)
    rescale = next(aspect for aspect in ORDER if aspect.name == "rescale")
    integer = {item.subject for item in head.items if item.dtype == "int8"}
    chosen = rescale.resolve(head, plan, device)
    rules = {s: parse_rule(choice) for s, choice in chosen.items() if s in integer}
    return Lowering(
        graph, plan, device, cost_model(device, settings["library"]), settings, head, rules
    )


def draft_before(
    aspect_name: str,
    graph: TrainingGraph,
    plan: Plan,
    device: Device,
    modes: Mapping[str, Rescaling] = NOTHING_KNOWN,
) -> Draft:
    """Return the draft as the aspect of that name finds it in a step with these rescale modes.

    It depends only on the choices of earlier aspects, by which it is remembered: do not change it.
    """
    names = [aspect.name for aspect in ORDER]
    earlier = set(names[: names.index(aspect_name)])
    choices = tuple(pair for pair in plan.choices if pair[0][0] in earlier)
    key = (aspect_name, graph.hash(), choices, device.sha256, frozenset(modes.items()))
    return _DRAFTS.get(key, lambda: _draft(aspect_name, graph, plan, device, modes))


def _draft(
    aspect_name: str,
    graph: TrainingGraph,
    plan: Plan,
    device: Device,
    modes: Mapping[str, Rescaling],
) -> Draft:
    index = [aspect.name for aspect in ORDER].index(aspect_name)
    if index == 0:
        return draft_of(graph)
    aspect = ORDER[index - 1]
    known = modes if index - 1 > FIRST_PER_STEP else NOTHING_KNOWN
    before = draft_before(aspect.name, graph, plan, device, known)
    resolved = aspect.resolve(before, plan, device)
    return aspect.rewrite(before, resolved, StepContext(device, modes))


def cost_model(device: Device, library: str) -> CostModel:
    """Return the cost model of a device with a CPU library, shared by all its plans."""
    return _COST_MODELS.get((device.sha256, library), lambda: CostModel.of(device, library))


_COST_MODELS: Memo[CostModel] = Memo(16)
"""Pure results, remembered; a cost model answers the same whoever asks."""
