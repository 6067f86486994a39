"""Policies for precision, splitting and rescaling, by hand on small networks."""

from __future__ import annotations

from cost_models.device import Device, load_device
from cost_models.model import CostModel
from kernels.conv import Conv2d
from sim.autodiff import training_graph
from sim.draft import Draft
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.model import ModelBuilder
from sim.plan import Plan
from sim.policies.base import Situation
from sim.policies.build import decide
from sim.policies.numeric import AllInt8, CostSplit, OneRule, VtcmSplit, abnormal, weight_grads

PHONE = load_device("snapdragon-865")
ROOMY = load_device("snapdragon-888")
LAPTOP = load_device("laptop")


def maps(batch: int = 64) -> TrainingGraph:
    """Convolutions with maps of 32, 16 and 8 rows, and batch norm behind the second."""
    b = ModelBuilder("maps", (batch, 3, 32, 32), source="tests/sim/test_policies_numeric.py")
    x = b.conv("input", 8, 3, pad=1, name="large")
    x = b.batch_norm(b.conv(x, 8, 3, stride=2, pad=1, name="middle"), name="norm")
    x = b.conv(x, 8, 3, stride=2, pad=1, name="small")
    return training_graph(b.build(b.linear(b.flatten(x), 10, name="fc")))


GRAPH = maps()


def situation(device: Device = PHONE) -> Situation:
    return Situation(device, CostModel.of(device))


def int8_draft(graph: TrainingGraph = GRAPH) -> Draft:
    plan = decide("int8", graph, PHONE, [AllInt8()])
    return draft_before("batch_split", graph, plan, PHONE)


def test_all_int8_leaves_out_batch_norm() -> None:
    draft = draft_before("precision", GRAPH, Plan.make("x", GRAPH.hash(), {}), PHONE)
    choices = AllInt8().decide(draft, situation())
    assert choices == dict.fromkeys(("large", "middle", "small", "fc", "loss"), "int8")


def test_one_rule_for_every_int8_product() -> None:
    plan = Plan.make("x", GRAPH.hash(), {("precision", "middle"): "int8"})
    draft = draft_before("rescale", GRAPH, plan, PHONE)
    choices = OneRule("fixed:7").decide(draft, situation())
    assert choices == dict.fromkeys(
        ("middle", "middle.input_grad", "middle.weight_grad"), "fixed:7"
    )


def test_vtcm_rule_splits_what_can_be_saved() -> None:
    # 256 KiB at batch 64: maps of 16 need 512 KiB, so halves; 8 fit; 32 never do.
    assert VtcmSplit().decide(int8_draft(), situation()) == {"middle.weight_grad": "32"}
    assert abnormal(int8_draft(), 256 * 1024) == (["middle.weight_grad"], ["large.weight_grad"])


def test_nothing_to_split_with_4_mib_or_without_a_dsp() -> None:
    assert VtcmSplit().decide(int8_draft(), situation(ROOMY)) == {}
    assert VtcmSplit().decide(int8_draft(), situation(LAPTOP)) == {}
    assert CostSplit().decide(int8_draft(), situation(LAPTOP)) == {}
    assert abnormal(int8_draft(), 4 * 2**20) == ([], [])


def test_fp32_is_not_split() -> None:
    draft = draft_before("batch_split", GRAPH, Plan.make("x", GRAPH.hash(), {}), PHONE)
    assert VtcmSplit().decide(draft, situation()) == {}
    assert weight_grads(draft) == []


def test_cost_driven_split_is_the_cheapest_by_exhaustion() -> None:
    draft, here = int8_draft(), situation()
    chosen = CostSplit().decide(draft, here)
    for item in weight_grads(draft):
        times = {}
        for size in (1, 2, 4, 8, 16, 32, 64):
            assert isinstance(item.op, Conv2d)
            op, total = item.op.with_batch(size), 0
            for part in range(64 // size):
                rescaling = "fused" if size == 64 else "none"
                call = item._replace(op=op, rescaling=rescaling, accumulates=part > 0)
                time = here.time_ns(call, "dsp:4")
                assert time is not None
                total += time
            times[size] = total
        best = min(times.values())
        assert times[int(chosen.get(item.subject, "64"))] == best
        assert (item.subject in chosen) == (best < times[64])
