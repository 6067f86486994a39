"""What an aspect is: one kind of decision, and how it rewrites the graph.

A technique joins the sandbox by adding an aspect. Lowering calls the aspects in
:data:`sim.aspects.ORDER`; a policy for an aspect sees the draft as the earlier ones left it.
An aspect adds work only as fragments of an item, of an edge or of a subgraph; what lives from
step to step belongs to :class:`sim.state.StepState`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from cost_models.cost import Rescaling
from cost_models.device import Device
from sim.draft import Draft
from sim.plan import Plan, PlanError

STEP = "step"
"""The subject of choices that concern the whole step."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """What rewriting may know besides the plan: the device, and this step's rescale modes."""

    device: Device
    modes: Mapping[str, Rescaling]


class Aspect(ABC):
    """One kind of decision. Instances have no state."""

    name: ClassVar[str]
    uses_modes: ClassVar[bool] = False
    """Whether rewriting depends on this step's rescale modes; then it is done for every step."""

    numeric: ClassVar[bool] = False
    """Whether its choices change what is computed, not only where and when."""

    @abstractmethod
    def subjects(self, draft: Draft, device: Device) -> list[str]:
        """Subjects that can be decided on, in the order of the draft."""

    @abstractmethod
    def allowed(self, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        """Choices for a subject; open-ended choices are listed as ``pattern:N``."""

    @abstractmethod
    def default(self, draft: Draft, subject: str, device: Device) -> str:
        """Choice that applies where a plan is silent."""

    @abstractmethod
    def rewrite(self, draft: Draft, choices: Mapping[str, str], context: StepContext) -> Draft:
        """Apply the choices, defaults included; returns a new draft."""

    def accepts(self, choice: str, allowed: tuple[str, ...]) -> bool:
        """Whether a choice is one of ``allowed``; override for open-ended choices."""
        return choice in allowed

    def wording(self, allowed: tuple[str, ...]) -> str:
        """The allowed choices as a refusal lists them; override for open-ended choices."""
        return ", ".join(allowed)

    def variants(
        self, draft: Draft, device: Device, palette: Sequence[str] | None, *, mixed: bool
    ) -> list[dict[str, str]]:
        """Return choices that together bring up every subject of later aspects that any can.

        None by default: for an aspect whose choices add and remove no subjects.

        Parameters
        ----------
        palette
            Choices that are searched; None for all that are allowed.
        mixed
            Whether neighbours are to differ, too, or only the whole draft.
        """
        return []

    def matters(self, draft: Draft, subject: str, choice: str) -> bool:
        """Whether a choice that is allowed has an effect here; override where some have none."""
        return True

    def resolve(self, draft: Draft, plan: Plan, device: Device) -> dict[str, str]:
        """Choices of every subject: the plan's where it speaks, else the default.

        Raises
        ------
        PlanError
            The plan names a subject that this graph does not have, or a choice it does not allow.
        """
        subjects = self.subjects(draft, device)
        chosen = plan.aspect(self.name)
        unknown = chosen.keys() - set(subjects)
        if unknown:
            raise PlanError(
                f"plan {plan.name!r}: {self.name}.{min(unknown)} is no subject of this graph; "
                f"its subjects are like {', '.join(subjects[:3])} ({len(subjects)} in all)"
            )
        resolved = {}
        for subject in subjects:
            choice = chosen.get(subject)
            if choice is None:
                choice = self.default(draft, subject, device)
            else:
                allowed = self.allowed(draft, subject, device)
                if not self.accepts(choice, allowed):
                    raise PlanError(
                        f"plan {plan.name!r}: {self.name}.{subject} = {choice!r} is not allowed; "
                        f"choose one of {self.wording(allowed)}"
                    )
            resolved[subject] = choice
        return resolved
