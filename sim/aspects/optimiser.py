"""Optimiser state: what the update keeps between steps, and in how many bits.

``sgd`` counts weights and gradients alone. ``momentum`` adds a float32 velocity per parameter,
``momentum8`` one in 8 bits with a scale per block (arXiv 2110.02861). The choice concerns layers in
FP32. Where no layer that is trained computes in FP32, ``sgd`` alone is allowed: another choice
would have no effect.

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
from kernels.update import MomentumUpdate, SgdUpdate
from sim.aspects.base import STEP, Aspect, StepContext
from sim.draft import Buffer, Draft, Item

SGD: Final = "sgd"
STATE_BITS: Final = {"momentum": 32, "momentum8": 8}
"""Bits of the velocity by choice."""
STATE: Final = ".state"
"""Ends the name of the buffer that holds the state of a layer's update."""


class OptimiserState(Aspect):
    """Form of the state of every FP32 layer's update."""

    name = "optimiser_state"
    numeric = True

    def subjects(self, draft: Draft, device: Device) -> list[str]:
        """The step, where anything is updated."""
        return [STEP] if any(item.role is Role.UPDATE for item in draft.items) else []

    def allowed(self, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        """``sgd``; ``momentum`` and ``momentum8`` where a layer is updated in FP32."""
        return (SGD, *STATE_BITS) if any(map(_has_choice, draft.items)) else (SGD,)

    def default(self, draft: Draft, subject: str, device: Device) -> str:
        """Weights and gradients alone, whatever the momentum of a training run is."""
        return SGD

    def rewrite(self, draft: Draft, choices: Mapping[str, str], context: StepContext) -> Draft:
        """Give the updates of FP32 layers their state, which lives from step to step."""
        choice = choices.get(STEP, SGD)
        if choice == SGD:
            return draft
        out = draft.with_items(())
        for item in draft.items:
            if _has_choice(item):
                assert isinstance(item.op, SgdUpdate)
                op = MomentumUpdate(item.op.params, STATE_BITS[choice])
                out.buffers[item.layer + STATE] = Buffer((op.state_bytes,), 1, resident=True)
                item = item._replace(op=op)
            out.items.append(item)
        return out


def _has_choice(item: Item) -> bool:
    """Whether an item is an update in FP32."""
    updates = item.role is Role.UPDATE and isinstance(item.op, SgdUpdate)
    return updates and item.dtype == "fp32"


def state_bits(items: list[Item]) -> dict[str, int]:
    """Bits of the velocity of each layer that has a choice of its own."""
    return {i.layer: i.op.state_bits for i in items if isinstance(i.op, MomentumUpdate)}
