"""Optimiser state: what the update keeps between steps, and in how many bits.

``sgd`` counts weights and gradients alone. ``momentum`` adds a float32 velocity per parameter,
``momentum8`` one in 8 bits with a scale per block (arXiv 2110.02861): for layers in FP32.
``compensated`` is for layers in 16-bit floats: what rounding took from each weight, which later
steps give back (arXiv 2010.06192), counted and trained with alike. A choice that no trained layer
would follow is not allowed.

What is *counted* (memory, time, energy) and what is *trained with* differ. ``sgd`` and ``momentum``
train to the same bits: the momentum of the run, 0.9 unless told otherwise, has its float32 velocity
under both, and only ``momentum`` counts it. ``momentum8`` counts and trains with 8 bits. The
velocity of a layer in 16-bit floats, and velocity and wide weights of an INT8 layer in the profile
``sandbox``, are trained with and never counted. ``mandheling train`` says which it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cost_models.device import Device
from kernels.operators import Role
from kernels.update import CompensatedUpdate, MomentumUpdate, SgdUpdate
from sim.aspects.base import STEP, Aspect, StepContext
from sim.aspects.precision import HALF
from sim.draft import Buffer, Draft, Item

SGD: Final = "sgd"
VELOCITY_BITS: Final = {"momentum": 32, "momentum8": 8}
"""Bits of the velocity by choice."""
COMPENSATED: Final = "compensated"
STATE: Final = ".state"
"""Ends the name of the buffer that holds the state of a layer's update."""


class OptimiserState(Aspect):
    """Form of the state of every update in floats."""

    name = "optimiser_state"
    numeric = True

    def subjects(self, draft: Draft, device: Device) -> list[str]:
        """The step, where anything is updated."""
        return [STEP] if any(item.role is Role.UPDATE for item in draft.items) else []

    def allowed(self, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        """``sgd``; where a layer is updated in FP32 or in 16 bits, the choices for it."""
        dtypes = {item.dtype for item in draft.items if _updates(item)}
        return (
            SGD,
            *(VELOCITY_BITS if "fp32" in dtypes else ()),
            *((COMPENSATED,) if dtypes & set(HALF) else ()),
        )

    def default(self, draft: Draft, subject: str, device: Device) -> str:
        """Weights and gradients alone, whatever the momentum of a training run is."""
        return SGD

    def rewrite(self, draft: Draft, choices: Mapping[str, str], context: StepContext) -> Draft:
        """Give the updates that follow the choice their state, which lives from step to step."""
        choice = choices.get(STEP, SGD)
        if choice == SGD:
            return draft
        out = draft.with_items(())
        for item in draft.items:
            op = _with_state(item, choice)
            if op is not None:
                out.buffers[item.layer + STATE] = Buffer((op.state_bytes,), 1, resident=True)
                item = item._replace(op=op)
            out.items.append(item)
        return out


def _updates(item: Item) -> bool:
    return item.role is Role.UPDATE and isinstance(item.op, SgdUpdate)


def _with_state(item: Item, choice: str) -> MomentumUpdate | CompensatedUpdate | None:
    """The update with its state; None where the item does not follow the choice."""
    if not _updates(item):
        return None
    assert isinstance(item.op, SgdUpdate)
    if choice in VELOCITY_BITS and item.dtype == "fp32":
        return MomentumUpdate(item.op.params, VELOCITY_BITS[choice])
    if choice == COMPENSATED and item.dtype in HALF:
        return CompensatedUpdate(item.op.params)
    return None


def state_bits(items: list[Item]) -> dict[str, int]:
    """Bits per parameter of the state of each layer that has one."""
    with_state = MomentumUpdate | CompensatedUpdate
    return {i.layer: i.op.state_bits for i in items if isinstance(i.op, with_state)}
