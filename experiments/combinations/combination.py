"""What is combined: width, precision, gradient filter and batch split; and the order among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product

from sim.zoo.grouped import GROUPS

PRECISIONS = ("fp32", "switch", "int8")
"""From the one that is expected to learn most in a step to the least."""
PATCHES = (1, 2, 4)
"""Patches of the gradient filter; 1 is exact."""
SPLITS = ("whole", "split")
"""Kernels run on the whole batch, or their micro-batches are searched with the rest."""
REMOVABLE: Mapping[str, str] = {
    "width": "dynamic width",
    "int8": "INT8",
    "switching": "precision switching",
    "filter": "gradient filter",
    "split": "batch split",
}


@dataclass(frozen=True, slots=True)
class Combination:
    """One way to train.

    Attributes
    ----------
    width
        Groups of the network that are active, of :data:`~sim.zoo.grouped.GROUPS`.
    precision
        One of :data:`PRECISIONS`; ``switch`` begins in INT8 and goes on in FP32 when MuPPET's rule
        says so.
    patch
        One of :data:`PATCHES`.
    split
        One of :data:`SPLITS`.

    Examples
    --------
    >>> Combination(2, "int8", 2, "split").name
    'w50-int8-r2-split'
    """

    width: int
    precision: str
    patch: int
    split: str

    @property
    def name(self) -> str:
        """Such as ``w100-fp32-exact-whole``."""
        how = "exact" if self.patch == 1 else f"r{self.patch}"
        return f"w{100 * self.width // GROUPS}-{self.precision}-{how}-{self.split}"

    @property
    def stages(self) -> tuple[Combination, ...]:
        """What is trained in turn, each in one precision: a plan is searched for each."""
        levels = ("int8", "fp32") if self.precision == "switch" else (self.precision,)
        return tuple(replace(self, precision=level) for level in levels)

    def uses(self, technique: str) -> bool:
        """Whether one of :data:`REMOVABLE` is at work."""
        return {
            "width": self.width < GROUPS,
            "int8": self.precision == "int8",
            "switching": self.precision == "switch",
            "filter": self.patch > 1,
            "split": self.split == "split",
        }[technique]

    def without(self, technique: str) -> Combination:
        """The same with one technique removed: what it is compared with.

        Without INT8 all is FP32. Precision switching is measured against INT8 to the end.
        """
        return {
            "width": replace(self, width=GROUPS),
            "int8": replace(self, precision="fp32"),
            "switching": replace(self, precision="int8"),
            "filter": replace(self, patch=1),
            "split": replace(self, split="whole"),
        }[technique]

    def with_(self, technique: str) -> Combination:
        """The same with one technique more, in its mildest form."""
        return {
            "width": replace(self, width=GROUPS - 1),
            "int8": replace(self, precision="int8"),
            "switching": replace(self, precision="switch"),
            "filter": replace(self, patch=2),
            "split": replace(self, split="split"),
        }[technique]

    def learns_no_less(self, other: Combination) -> bool:
        """Whether a step is expected, before any training, to teach at least as much.

        Wider, in more bits and with finer gradients is taken to be no worse; a split changes no
        bit of INT8 and only the order of sums in FP32.
        """
        return (
            self.width >= other.width
            and PRECISIONS.index(self.precision) <= PRECISIONS.index(other.precision)
            and self.patch <= other.patch
        )


def named(name: str) -> Combination:
    """The combination of a name.

    Examples
    --------
    >>> named("w25-switch-exact-whole")
    Combination(width=1, precision='switch', patch=1, split='whole')
    """
    width, precision, how, split = name.split("-")
    patch = 1 if how == "exact" else int(how[1:])
    return Combination(int(width[1:]) * GROUPS // 100, precision, patch, split)


def combinations(
    widths: Iterable[int], precisions: Iterable[str], patches: Iterable[int]
) -> tuple[Combination, ...]:
    """All combinations, whole batches and searched splits."""
    return tuple(Combination(*each) for each in product(widths, precisions, patches, SPLITS))


def candidates(costs: Mapping[Combination, tuple[int, int]]) -> tuple[Combination, ...]:
    """Combinations worth training: no other one learns no less for no more energy.

    Parameters
    ----------
    costs
        Energy of a step in the cheapest and in the dearest stage, picojoules. Of two that are
        equal in all the first one stays.
    """
    kept: list[Combination] = []
    order = list(costs)
    for place, one in enumerate(order):
        rivals = (
            other
            for k, other in enumerate(order)
            if other != one
            and other.learns_no_less(one)
            and costs[other][0] <= costs[one][0]
            and costs[other][1] <= costs[one][1]
            and (not one.learns_no_less(other) or costs[other] != costs[one] or k < place)
        )
        if next(rivals, None) is None:
            kept.append(one)
    return tuple(kept)
