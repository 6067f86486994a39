"""How far a run is: integer sums of the current epoch, and a row for each one that is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.numeric.session import SessionStep


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over steps.

    Attributes
    ----------
    steps, images, correct
        Steps, samples seen, and samples that were right before the update of their step.
    loss
        Sum of the steps' mean losses, in the order of the steps; floating point, for display:
        its last bits depend on the CPU, and no other number depends on it.
    time_ns, energy_pj
        Simulated; 0 without an engine.
    tensors, scans, stale, saturated, lost, values
        Of rescaling: tensors rescaled, those scanned for, those whose shift in use was not the
        true one, values clipped, non-zero accumulators that became 0, and all values.
    overflowed
        Results of 16-bit float kernels that were infinite or no numbers.
    """

    steps: int = 0
    images: int = 0
    correct: int = 0
    loss: float = 0.0
    time_ns: int = 0
    energy_pj: int = 0
    tensors: int = 0
    scans: int = 0
    stale: int = 0
    saturated: int = 0
    lost: int = 0
    values: int = 0
    overflowed: int = 0

    def with_step(self, step: SessionStep, images: int) -> Tally:
        """Return the sums with one step more."""
        result, timeline = step.result, step.timeline
        records = result.records.values()
        return Tally(
            self.steps + 1,
            self.images + images,
            self.correct + result.correct,
            self.loss + result.loss,
            self.time_ns + (0 if timeline is None else timeline.makespan_ns),
            self.energy_pj + (0 if timeline is None else timeline.energy_pj),
            self.tensors + len(records),
            self.scans + sum(r.scanned for r in records),
            self.stale + sum(r.used != r.true for r in records),
            self.saturated + sum(r.saturated for r in records),
            self.lost + sum(r.lost for r in records),
            self.values + sum(r.values for r in records),
            self.overflowed + sum(result.overflows.values()),
        )

    def joined(self, other: Tally) -> Tally:
        """Return the sums over the steps of both."""
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)))

    @property
    def mean_loss(self) -> float:
        """Mean loss of a step."""
        return self.loss / max(1, self.steps)

    @property
    def accuracy(self) -> float:
        """Share of the samples that were right."""
        return self.correct / max(1, self.images)


@dataclass(frozen=True, slots=True)
class EpochRow:
    """An epoch that is done: its sums, and the validation images that are right after it."""

    epoch: int
    tally: Tally
    validation_correct: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """A run between two steps.

    Attributes
    ----------
    epoch, batch
        What comes next: batch ``batch`` of epoch ``epoch``; ``batch`` may be the number of
        batches, when only validation is to come.
    tally
        Of the current epoch.
    rows
        Epochs that are done.
    best
        Epoch, among those done, whose parameters are kept.
    first_ns
        Simulated time of the first, cold step.
    wall_ms
        Time that the run took on this machine by its clock: another in every run. No other
        number depends on it.
    """

    epoch: int = 0
    batch: int = 0
    tally: Tally = Tally()
    rows: tuple[EpochRow, ...] = ()
    best: int | None = None
    first_ns: int = 0
    wall_ms: int = 0

    @property
    def total(self) -> Tally:
        """Sums over the whole run so far."""
        total = self.tally
        for row in self.rows:
            total = total.joined(row.tally)
        return total

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it; floats keep their bits."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Progress:
        """Return what :meth:`as_json` gave.

        Raises
        ------
        TypeError
            A field is missing or unknown.
        """
        rows = tuple(EpochRow(**{**row, "tally": Tally(**row["tally"])}) for row in content["rows"])
        return cls(**{**content, "tally": Tally(**content["tally"]), "rows": rows})
