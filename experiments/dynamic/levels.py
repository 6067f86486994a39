"""A training that goes on in more bits when its gradients say so: what every such training shares.

When gradients are watched is up to the training: at the last batch of an epoch, or every so many
steps. Parameters are carried over as float32; the velocity starts again from rest.
"""

from __future__ import annotations

from collections.abc import Callable

from sim.numeric.session import TrainingSession
from sim.policies.switching import GradientSums, PrecisionSwitching, SwitchState


class Levels:
    """The session of the present precision, and the rule that says when to leave it.

    Parameters
    ----------
    rule
        Precisions in turn, and when to go on.
    begin
        Returns a session of a level before its first step.
    state, sums
        What a training that goes on had reached.

    Attributes
    ----------
    session
        Of the present level. A switch makes another one.
    """

    def __init__(
        self,
        rule: PrecisionSwitching,
        begin: Callable[[int], TrainingSession],
        state: SwitchState | None = None,
        sums: GradientSums | None = None,
    ) -> None:
        self.rule, self._begin = rule, begin
        self.state = SwitchState() if state is None else state
        self.sums = GradientSums() if sums is None else sums
        self.session = begin(self.state.level)

    @property
    def precision(self) -> str:
        """Precision in use."""
        return self.rule.levels[self.state.level]

    @property
    def last(self) -> bool:
        """Whether there is nothing to switch to."""
        return self.state.level == len(self.rule.levels) - 1

    def watch(self) -> None:
        """Keep the gradients of the next step, for :meth:`ask`."""
        self.session.executor.parameters.watched = {}

    def ask(self, epochs: int) -> float | None:
        """Count the gradients that were watched; after enough of them ask the rule, and switch.

        Parameters
        ----------
        epochs
            Done so far, or what stands for them.

        Returns
        -------
        diversity
            That the rule was asked with; None where it was not asked yet.

        Raises
        ------
        PolicyError
            A gradient is not finite, or all cancel.
        """
        parameters = self.session.executor.parameters
        assert parameters.watched is not None
        self.sums.add(parameters.watched)
        parameters.watched = None
        if self.sums.epochs < self.rule.resolution:
            return None
        diversity, level = self.sums.diversity(), self.state.level
        self.state = self.rule.after(self.state, diversity, epochs)
        self.sums = GradientSums()
        if self.state.level != level:
            self.session = self._begin(self.state.level)
            self.session.executor.parameters.load_floats(parameters.floats())
        return diversity
