"""Placement and cutting policies, by hand where times are given."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from cost_models.device import Device, load_device
from cost_models.model import CostModel
from kernels.operators import Role
from kernels.pointwise import Relu
from sim.autodiff import training_graph
from sim.draft import Buffer, Draft, Item
from sim.graph import TrainingGraph
from sim.lowering import draft_before, lowering
from sim.model import ModelBuilder
from sim.plan import Plan
from sim.policies.base import Policy, Situation
from sim.policies.build import decide
from sim.policies.numeric import AllInt8
from sim.policies.placing import (
    AllCpu,
    AllDsp,
    AllGpu,
    CutForCpu,
    CutToFit,
    Faster,
    Heft,
    Released,
)

PHONE = load_device("snapdragon-865")
LAPTOP = load_device("laptop")


@dataclass(frozen=True, slots=True)
class Given(Situation):
    """A situation in which the times are given, microseconds; crossing takes 92 us (pm_qos)."""

    times: dict[str, tuple[int, int]] = field(default_factory=dict)

    def time_ns(self, item: Item, unit: str) -> int | None:
        cpu, dsp = self.times[item.name]
        return 1000 * (dsp if unit.startswith("dsp") else cpu)


def chain(edges: dict[str, tuple[str, ...]]) -> Draft:
    """Items on the buffers of those that they read from."""
    items = [
        Item(
            name, name, name, Relu((4,)), Role.FORWARD, "int8", tuple(f"{s}.out" for s in sources),
            (f"{name}.out",),
        )
        for name, sources in edges.items()
    ]  # fmt: skip
    return Draft(items, {f"{name}.out": Buffer((4,), 1) for name in edges}, 4)


def given(times: dict[str, tuple[int, int]]) -> Given:
    return Given(PHONE, CostModel.of(PHONE), times=times)


DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}


def test_heft_by_hand() -> None:
    # Ranks go a, b, c, d. a: CPU, ends at 10. b: 10 + 400 = 410 on the CPU, 10 + 92 + 300 = 402 on
    # the DSP. c: 410 on the CPU, 702 behind b on the DSP. d: the CPU has b's result at 494, so 504;
    # the DSP has c's at 502, so 602.
    times = {"a": (10, 100), "b": (400, 300), "c": (400, 300), "d": (10, 100)}
    assert Heft().decide(chain(DIAMOND), given(times)) == {"b": "dsp:4"}


def test_heft_goes_by_rank_not_by_order() -> None:
    # c leads to the long e, so it comes before b: the CPU from 10 to 60 (142 on the DSP). e goes
    # to the DSP, 60 + 92 + 300 = 452 against 960; b, last, to the CPU, 110 against 502.
    edges = {"a": (), "b": ("a",), "c": ("a",), "e": ("c",)}
    times = {"a": (10, 100), "b": (50, 50), "c": (50, 40), "e": (900, 300)}
    assert Heft().decide(chain(edges), given(times)) == {"e": "dsp:4"}


def test_heft_keeps_followers_with_their_kernel() -> None:
    # The scan alone would be faster on the CPU, but it follows a.
    draft = chain({"a": (), "scan": ("a",)})
    draft.items[1] = draft.items[1]._replace(follows="a")
    assert Heft().decide(draft, given({"a": (500, 100), "scan": (1, 300)})) == {"a": "dsp:4"}


def test_faster_unit_of_each_kernel_alone() -> None:
    times = {"a": (10, 9), "b": (10, 10), "c": (10, 11), "d": (500, 1)}
    assert Faster().decide(chain(DIAMOND), given(times)) == {"a": "dsp:4", "d": "dsp:4"}


def rules() -> TrainingGraph:
    """What the released engine's rules tell apart: width, stride, pooling, rotation, update."""
    b = ModelBuilder("rules", (8, 4, 16, 16), source="tests/sim/test_policies_placing.py")
    x = b.conv("input", 8, 3, pad=1, name="narrow")
    x = b.max_pool(x, 2, 2, name="pool")
    x = b.conv(x, 256, 3, pad=1, name="at_limit")
    x = b.conv(x, 257, 1, name="wide")
    x = b.relu(b.conv(x, 8, 3, stride=2, pad=1, name="strided"), name="relu")
    return training_graph(b.build(b.linear(b.flatten(x), 5, name="fc")))


RULES = rules()


def int8_draft(graph: TrainingGraph) -> Draft:
    return draft_before("placement", graph, decide("x", graph, PHONE, [AllInt8()]), PHONE)


def real(device: Device = PHONE) -> Situation:
    return Situation(device, CostModel.of(device))


def test_rules_of_the_released_engine() -> None:
    everything = AllDsp().decide(int8_draft(RULES), real())
    chosen = Released().decide(int8_draft(RULES), real())
    assert chosen.items() <= everything.items()
    assert sorted(everything.keys() - chosen.keys()) == [
        "at_limit.input_grad.rotate_w",
        "at_limit.update",
        "at_limit.weight_grad",  # stride 1, 256 output channels
        "fc.update",
        "narrow.update",
        "narrow.weight_grad",
        "pool.input_grad",
        "strided.input_grad.rotate_w",
        "strided.update",
        "wide.update",  # and its 1x1 weights need no rotation
    ]


def test_all_dsp_leaves_what_has_no_kernel() -> None:
    chosen = AllDsp().decide(int8_draft(RULES), real())
    left = {item.subject for item in int8_draft(RULES).items if not item.follows} - chosen.keys()
    assert left == {"input.quantise", "loss", "loss.input_grad"}
    assert set(chosen.values()) == {"dsp:4"}
    two = AllDsp().decide(int8_draft(RULES), real(load_device("qcs6490")))
    assert set(two.values()) == {"dsp:2"}


@pytest.mark.parametrize("policy", [AllDsp(), AllGpu(), Faster(), Heft(), Released()])
def test_a_laptop_has_neither_dsp_nor_gpu(policy: Policy) -> None:
    graph = RULES
    plan = decide("x", graph, LAPTOP, [AllInt8()])
    draft = draft_before("placement", graph, plan, LAPTOP)
    assert policy.decide(draft, real(LAPTOP)) == {}


def test_all_cpu_is_the_default() -> None:
    assert AllCpu().decide(int8_draft(RULES), real()) == {}


def test_all_gpu_leaves_loss_and_updates() -> None:
    draft = draft_before("placement", RULES, Plan.make("x", RULES.hash(), {}), PHONE)
    chosen = AllGpu().decide(draft, real())
    left = {item.subject for item in draft.items} - chosen.keys()
    assert left == {n.name for n in RULES.nodes if n.name.startswith("loss") or n.role == "update"}
    assert set(chosen.values()) == {"gpu"}
    assert AllGpu().decide(int8_draft(RULES), real()) == {}  # no INT8 there


def placed(changes: dict[tuple[str, str], str]) -> tuple[Plan, Draft]:
    plan = decide("x", RULES, PHONE, [AllInt8(), AllDsp()]).update(changes)
    return plan, draft_before("grouping", RULES, plan, PHONE)


def test_cuts_behind_results_that_the_cpu_waits_for() -> None:
    # The weight gradient of `wide` goes to the CPU with its transposes: it reads the activation
    # that went into `wide`, and the error that went into its dX.
    moved = ("wide.weight_grad", "wide.weight_grad.transpose_x", "wide.weight_grad.transpose_e")
    _, draft = placed({("placement", name): "cpu:4" for name in moved})
    cuts = CutForCpu().decide(draft, real())
    assert set(cuts.values()) == {"cut"}
    # at_limit.out is read by `wide`; its error, wide.out.grad, by wide.input_grad.
    assert {"wide", "wide.input_grad"} <= cuts.keys()
    assert "relu" not in cuts
    assert "at_limit" not in cuts


def test_nothing_to_cut_when_only_the_loss_is_on_the_cpu() -> None:
    _, draft = placed({})
    # fc.out and the errors of the loss cross anyway; fc's dW and dX read what the loss wrote.
    assert CutForCpu().decide(draft, real()) == {}


def test_cut_to_fit_keeps_each_subgraph_within_the_limit() -> None:
    plan, draft = placed({})
    whole = lowering(RULES, plan, PHONE).draft({}).subgraphs
    single = max(s.memory_bytes for s in whole)
    for limit in (single, single // 2, single // 8):
        cuts = CutToFit(limit).decide(draft, real())
        cut = plan.update({("grouping", subject): choice for subject, choice in cuts.items()})
        lowered = lowering(RULES, cut, PHONE).draft({})
        assert len(lowered.subgraphs) > len(whole) or limit == single
        products = [item.group for item in lowered.items if item.has_macs]
        for number, sub in enumerate(lowered.subgraphs):
            # One kernel alone may exceed it: nothing is smaller.
            assert sub.memory_bytes <= limit or products.count(number) == 1
    assert CutToFit(10**12).decide(draft, real()) == {}
    everywhere = CutToFit(1).decide(draft, real())
    assert len(everywhere) == sum(item.has_macs for item in draft.items) - 1
