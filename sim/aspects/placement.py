"""Placement: on which unit each kernel runs, and with how many of its slots.

Choices are ``cpu:N`` (big cores), ``little:N``, ``dsp:N`` (HVX contexts) and ``gpu``. Scan and
requantise follow the kernel whose result they rescale.
"""

from __future__ import annotations

from collections.abc import Mapping

from cost_models.cores import core_count
from cost_models.device import Device
from cost_models.dsp import DSP_KINDS
from cost_models.gpu import CPU_ONLY_KINDS
from cost_models.model import POOLS
from sim.aspects.base import Aspect, StepContext
from sim.draft import Draft, Item


def units_for(item: Item, device: Device) -> tuple[str, ...]:
    """Units of a device that have a kernel for this item, widest first within a pool."""
    key = (device.sha256, item.op.kind, item.dtype)
    known = _UNITS.get(key)
    if known is None:
        known = _UNITS[key] = _units(item.op.kind, item.dtype, device)
    return known


_UNITS: dict[tuple[str, str, str], tuple[str, ...]] = {}
"""Pure results, remembered: every plan that is checked asks for every kernel."""


def _units(kind: str, dtype: str, device: Device) -> tuple[str, ...]:
    names = []
    for label, pool in POOLS.items():
        names += [f"{label}:{n}" for n in range(core_count(device, pool), 0, -1)]
    if device.dsp is not None and dtype == "int8" and kind in DSP_KINDS:
        names += [f"dsp:{n}" for n in range(device.dsp.contexts, 0, -1)]
    if device.gpu is not None and dtype == "fp32" and kind not in CPU_ONLY_KINDS:
        names.append("gpu")
    return tuple(names)


class PlacementAspect(Aspect):
    """Unit of each kernel."""

    name = "placement"

    def subjects(self, draft: Draft, device: Device) -> list[str]:
        """Every kernel with a placement of its own."""
        return draft.subjects()

    def allowed(self, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        """Units that have the kernel."""
        return units_for(draft.first(subject), device)

    def default(self, draft: Draft, subject: str, device: Device) -> str:
        """All big cores."""
        return default_unit(device)

    def rewrite(self, draft: Draft, choices: Mapping[str, str], context: StepContext) -> Draft:
        """Set the unit of every item."""
        fallback = default_unit(context.device)
        return draft.marked(
            i.placed(choices.get(i.follows or i.subject, fallback)) for i in draft.items
        )


def default_unit(device: Device) -> str:
    """All cores of the big pool."""
    return f"cpu:{core_count(device, 'big')}"
