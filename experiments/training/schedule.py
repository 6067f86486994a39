"""Learning rates by step, in integers: ``rate * 2^24``, the same on every machine.

* ``one-cycle``: rises linearly for the first share of the steps, then falls linearly; no step has
  a rate of 0, the last one has the smallest of the fall (after L. N. Smith and N. Topin,
  arXiv 1708.07120, without its change of momentum).
* ``step``: the peak, a tenth of it from half of the steps on, a hundredth from three quarters on.
* ``constant``: the peak.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.training.config import Q24, SCHEDULES, ConfigError


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rates of a run.

    Attributes
    ----------
    kind
        One of :data:`SCHEDULES`.
    peak_q24
        The largest rate, times ``2^24``.
    steps
        Steps of the whole run.
    warmup
        Percent of the steps that ``one-cycle`` rises for.

    Raises
    ------
    ConfigError
        An unknown kind, or a number out of range.

    Examples
    --------
    >>> cycle = Schedule("one-cycle", 1000, steps=8, warmup=25)
    >>> [cycle.rate_q24(step) for step in range(8)]
    [500, 1000, 1000, 833, 666, 500, 333, 166]
    """

    kind: str
    peak_q24: int
    steps: int
    warmup: int = 25

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise ConfigError(f"schedule: {self.kind!r}; allowed: {', '.join(SCHEDULES)}")
        if self.peak_q24 < 1 or self.steps < 1 or not 0 <= self.warmup <= 100:
            raise ConfigError(
                f"schedule: peak_q24 {self.peak_q24}, steps {self.steps}, warmup {self.warmup}; "
                "allowed: 1 or more, 1 or more, 0 to 100 percent"
            )

    def rate_q24(self, step: int) -> int:
        """Return the rate of a step, counted from 0, times ``2^24``; at least 1.

        Raises
        ------
        ConfigError
            The run has no such step.
        """
        if not 0 <= step < self.steps:
            raise ConfigError(f"step: {step}; allowed: 0 to {self.steps - 1}")
        if self.kind == "constant":
            return self.peak_q24
        if self.kind == "step":
            tenths = 2 * (4 * step >= 3 * self.steps) or int(2 * step >= self.steps)
            return max(1, self.peak_q24 // (1, 10, 100)[tenths])
        rise = self.steps * self.warmup // 100
        if step < rise:
            return max(1, self.peak_q24 * (step + 1) // rise)
        return max(1, self.peak_q24 * (self.steps - step) // (self.steps - rise))


def rate_to_q24(rate: float) -> int:
    """Return a learning rate as an integer: exact, then rounded half to even.

    >>> rate_to_q24(0.05)
    838861
    """
    return max(1, round(rate * Q24))
