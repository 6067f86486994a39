"""Policies for the backward rule of convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernels.conv import Conv2d
from kernels.filtered import largest_patch
from sim.aspects.backward import FILTER, MASK, gradient_layers
from sim.draft import Draft
from sim.plan import PlanError
from sim.policies.base import BackwardPolicy, Situation


@dataclass(frozen=True, slots=True)
class Filtered(BackwardPolicy):
    """Gradient filtering wherever the map has more than one place.

    Attributes
    ----------
    patch
        Side of the patches, 2 or more; on a smaller map the whole map is one patch.
    masks
        Whether every ReLU with a gradient keeps bits, so that the inputs of the convolutions after
        them can go.
    last
        How many layers, counted from the end; None: all that have a gradient.

    Raises
    ------
    PlanError
        A patch below 2, no layer, or a number that is none.
    """

    patch: int
    last: int | None = None
    masks: bool = False
    name: str = "filtered"

    def __post_init__(self) -> None:
        if not _whole(self.patch, 2):
            raise PlanError(
                f"patch: {self.patch!r}; allowed: a whole number, 2 or more; 1 is exact: leave it "
                "out"
            )
        if self.last is not None and not _whole(self.last, 1):
            raise PlanError(
                f"last: {self.last!r}; allowed: a whole number, 1 or more, or None for all layers"
            )
        if not isinstance(self.masks, bool):
            raise PlanError(f"masks: {self.masks!r}; allowed: True or False")

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Choose the filter for the last layers."""
        layers = gradient_layers(draft)
        relus = gradient_layers(draft, ("relu",)) if self.masks else ()
        choices = dict.fromkeys(relus, MASK)
        for layer in layers[-self.last :] if self.last is not None else layers:
            op = draft.first(layer).op
            assert isinstance(op, Conv2d)
            patch = min(self.patch, largest_patch(op))
            if patch >= 2:
                choices[layer] = f"{FILTER}:{patch}"
        return choices


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
