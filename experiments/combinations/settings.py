"""What a study of combinations follows from, and how its budgets bound each combination."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from cost_models.device import Device
from experiments.combinations.combination import PATCHES, PRECISIONS, Combination, combinations
from experiments.dynamic.loops import Settings
from experiments.training.config import ConfigError
from experiments.training.schedule import rate_to_q24
from sim.policies.switching import PrecisionSwitching
from sim.zoo.grouped import GROUPS

PJ_PER_J = 10**12
MIB = 1 << 20
INT64 = 1 << 63
MOST = {"energy_j": INT64 / PJ_PER_J, "memory_mib": INT64 / MIB, "rate": 1}
"""Bounds from above: energies are int64 picojoules, and memory is int64 bytes."""


@dataclass(frozen=True, slots=True)
class StudySettings:
    """Settings of a study; its result follows from them and from the data set.

    Attributes
    ----------
    dataset, sizes
        What is trained on; ``sizes`` are images of ``shapes32`` to train and to test on.
    device
        Phone that trains, simulated.
    energy_j
        Energy of a whole training, joules: the simulated energy of its steps.
    memory_mib
        Most memory that a step may hold, MiB.
    widths, precisions, patches
        What is combined, see :class:`~experiments.combinations.combination.Combination`.
    batch, rate, warmup
        Images per step; the constant learning rate, and the steps that it rises for before.
    rungs
        Shares of the energy after which candidates are compared, in rising order, the last one 1.
    keep
        One in so many goes on from each rung.
    seeds
        Trainings of the best combination and of its neighbours.
    validation
        Images held out of the training part: what is selected by.
    points
        Measurements of the validation images over the whole energy.
    period
        Steps that stand for an epoch in the rule of precision switching.
    shards, evaluations, turns
        Of each search of a schedule, and how often all are searched; see
        :meth:`experiments.combinations.study.CombinationStudy.schedules`.

    Raises
    ------
    ConfigError
        A value is not allowed.
    """

    dataset: str = "cifar10"
    sizes: tuple[int, int] | None = None
    device: str = "snapdragon-865"
    energy_j: float = 180.0
    memory_mib: float = 48.0
    widths: tuple[int, ...] = tuple(range(1, GROUPS + 1))
    precisions: tuple[str, ...] = PRECISIONS
    patches: tuple[int, ...] = PATCHES
    batch: int = 64
    rate: float = 0.01
    warmup: int = 50
    rungs: tuple[float, ...] = (0.25, 0.5, 1.0)
    keep: int = 3
    seeds: int = 2
    validation: int = 2000
    points: int = 8
    period: int = 25
    shards: int = 3
    evaluations: int = 1024
    turns: int = 2

    def __post_init__(self) -> None:
        least = {"warmup": -1, "energy_j": 1e-6}  # less than any step takes
        for name, value in asdict(self).items():
            low, high = least.get(name, 0), MOST.get(name, INT64)
            if isinstance(value, int | float) and not low < value < high:
                raise ConfigError(
                    f"{name}: {value!r}; allowed: a number above {low} and below {high:.6g}"
                )
        for name, allowed in (
            ("widths", tuple(range(1, GROUPS + 1))),
            ("precisions", PRECISIONS),
            ("patches", PATCHES),
        ):
            chosen = getattr(self, name)
            if not chosen or not set(chosen) <= set(allowed) or len(set(chosen)) < len(chosen):
                raise ConfigError(f"{name}: {chosen!r}; allowed: some of {allowed}, each once")
        if sorted(set(self.rungs)) != list(self.rungs) or self.rungs[-1] != 1 or self.rungs[0] <= 0:
            raise ConfigError(f"rungs: {self.rungs!r}; allowed: rising shares above 0, the last 1")

    @property
    def energy_pj(self) -> int:
        """Energy of a whole training, picojoules."""
        return round(self.energy_j * PJ_PER_J)

    @property
    def rung_pj(self) -> tuple[int, ...]:
        """Energy at each rung, picojoules."""
        return tuple(round(share * self.energy_pj) for share in self.rungs)

    @property
    def memory_bytes(self) -> int:
        """Most memory that a step may hold."""
        return int(self.memory_mib * MIB)

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """All that are asked about."""
        return combinations(self.widths, self.precisions, self.patches)

    @property
    def rule(self) -> PrecisionSwitching:
        """When a training that switches goes on in FP32."""
        return PrecisionSwitching()

    def training(self, data: str | None, seed: int, threads: int | None) -> Settings:
        """What the loops of a training are told; it has no epochs, only an energy."""
        return Settings(
            self.dataset,
            data,
            batch=self.batch,
            rate=self.rate,
            seed=seed,
            validation=self.validation,
            threads=threads,
            device=self.device,
            sizes=self.sizes,
        )

    def rate_q24(self, step: int) -> int:
        """Learning rate of a step, times ``2^24``: it rises, then stays.

        It knows nothing of how long the training will be, so that what is reached on the way is
        what a training of that length would have reached.
        """
        peak = rate_to_q24(self.rate)
        return max(1, peak * min(step + 1, self.warmup) // self.warmup) if self.warmup else peak

    def identity(self, device: Device) -> dict[str, Any]:
        """What the result follows from, besides the images; more seeds may be added later."""
        found = {name: value for name, value in self.as_json().items() if name != "seeds"}
        packages = ("mandheling-sandbox", "numpy")
        found |= {package: version(package) for package in packages}
        return found | {"device_sha256": device.sha256}

    def as_json(self) -> dict[str, Any]:
        """All settings as JSON has them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
