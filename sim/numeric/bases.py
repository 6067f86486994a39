"""Bases of saved activations that live from step to step: see :class:`kernels.tucker.SubspaceSave`.

They are no parameters: nothing is trained by them. But a step depends on those of the step before,
so snapshots hold them, and two processes share them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cost_models.draws import draw_key
from sim.numeric.values import Floats


@dataclass(slots=True, eq=False)
class Bases:
    """Bases of one layer's input.

    Attributes
    ----------
    values
        (elements,) float32, one after the other.
    seed, layer
        What the start is drawn by.
    """

    values: Floats
    seed: int
    layer: str

    @classmethod
    def start(cls, elements: int, layer: str, seed: int) -> Bases:
        """Begin at a drawn start."""
        made = cls(np.empty(elements, np.float32), seed, layer)
        made.restart()
        return made

    def restart(self) -> None:
        """Go back to the start: normal numbers, which the first iteration makes orthonormal."""
        drawn = np.random.default_rng([self.seed, draw_key(f"{self.layer}.bases", "init")])
        self.values[...] = drawn.standard_normal(self.values.size, np.float32)
