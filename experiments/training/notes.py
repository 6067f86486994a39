"""What a run trains with that its simulated costs leave out, in words."""

from __future__ import annotations

from cost_models.device import Device
from experiments.render import counted
from kernels.operators import Role
from kernels.profiles import NumericProfile, UpdateRule
from kernels.update import CompensatedUpdate, SgdUpdate
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.plan import Plan

LEFT_OUT = "in no simulated time, energy or memory"


def cost_notes(
    graph: TrainingGraph,
    plan: Plan,
    device: Device,
    *,
    profile: NumericProfile,
    momentum: float,
) -> list[str]:
    """Return a sentence on each state of the optimiser that is trained with but not simulated.

    Parameters
    ----------
    graph, plan, device
        Of the run. A plan counts the velocity of layers in FP32 where ``optimiser_state`` is
        ``momentum`` or ``momentum8``.
    profile, momentum
        Arithmetic of INT8 layers and momentum of SGD; with a momentum of 0 no velocity is needed.
    """
    items = draft_before("batch_split", graph, plan, device).items
    without = (SgdUpdate.kind, CompensatedUpdate.kind)
    plain = [i for i in items if i.role is Role.UPDATE and i.op.kind in without]
    wide = profile.update is UpdateRule.WIDE
    kept = [item for item in plain if item.dtype != "int8" or wide]
    masters = [item for item in kept if item.dtype == "int8"]
    notes = []
    if momentum and kept:
        dtypes = sorted({item.dtype for item in kept})
        compensated = any(item.op.kind == CompensatedUpdate.kind for item in plain)
        remedy = "no choice of a plan counts it"
        if compensated and "fp32" in dtypes:
            remedy += " beside compensated updates"
        elif "fp32" in dtypes:
            remedy = "optimiser_state.step = momentum in the plan counts it for layers in fp32"
        notes.append(
            f"trained with momentum {momentum:g}, but the velocity of "
            f"{counted(len(kept), 'layer')} ({', '.join(dtypes)}) is {LEFT_OUT}; {remedy}"
        )
    if masters:
        notes.append(
            f"the wide integer weights of {counted(len(masters), 'layer')} in int8 are {LEFT_OUT}: "
            "an update is costed as one of INT8 weights alone"
        )
    return notes
