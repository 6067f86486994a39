"""A real training of one combination, until its simulated energy is used up.

The searched plans themselves are trained and simulated, step by step and closed-loop: their
precision, filter, micro-batches and rescale rules compute what the phone would. A training goes on
from its last checkpoint to the same bits: order, augmentation and draws are keyed by seed, epoch
and step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from cost_models.device import Device
from experiments.cli_common import plan_sha256
from experiments.combinations.combination import Combination
from experiments.combinations.schedules import graph_of
from experiments.combinations.settings import StudySettings
from experiments.dynamic.levels import Levels
from experiments.dynamic.loops import Data, Settings, score
from experiments.training import checkpoint
from experiments.training.checkpoint import Checkpoint, CheckpointError
from experiments.training.config import ConfigError, differences
from experiments.training.folder import claimed
from sim.graph import TrainingGraph
from sim.numeric.session import TrainingSession
from sim.numeric.snapshot import Snapshot, SnapshotError, capture, restore
from sim.numeric.trained import ParameterError
from sim.plan import Plan
from sim.policies.switching import GradientSums, PrecisionSwitching, SwitchState


@dataclass(frozen=True, slots=True)
class Done:
    """How far a training is.

    Attributes
    ----------
    steps
        In all.
    energy_pj, time_ns, ddr_bytes
        Simulated, of all steps; ``ddr_bytes`` is what they moved to and from DRAM.
    switched
        Steps after which the next precision was taken.
    points
        ``[energy_pj, steps, validation accuracy]`` as it went.
    tested
        Test score by the energy of the rung, in picojoules as text.
    diverged
        Whether the loss was no number at the last step; no further one is made then.
    wall_s
        On this machine, by its clock; no other number depends on it.
    """

    steps: int = 0
    energy_pj: int = 0
    time_ns: int = 0
    ddr_bytes: int = 0
    switched: tuple[int, ...] = ()
    points: tuple[tuple[int, int, float], ...] = ()
    tested: Mapping[str, Mapping[str, Any]] | None = None
    diverged: bool = False
    wall_s: float = 0.0

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Done:
        """Read what JSON made of it; :class:`TypeError` for other fields."""
        points = tuple((int(e), int(s), float(a)) for e, s, a in content["points"])
        return cls(**{**content, "points": points, "switched": tuple(content["switched"])})

    def figures(self) -> dict[str, Any]:
        """All of it as JSON values."""
        found = asdict(self)
        found["points"] = [list(point) for point in self.points]
        return found | {"switched": list(self.switched), "wall_s": round(self.wall_s, 1)}


class Training:
    """A training in its folder, between two steps.

    Parameters
    ----------
    plans
        Of the combination's stages, in their order.
    data
        Images; the same object may serve many trainings.
    folder
        Where its checkpoint is.

    Raises
    ------
    ConfigError
        The folder holds another training.
    CheckpointError
        Its checkpoint cannot be used.
    """

    def __init__(
        self,
        combination: Combination,
        plans: tuple[Plan, ...],
        settings: StudySettings,
        data: Data,
        device: Device,
        folder: Path,
        *,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        self.combination, self.plans, self.settings = combination, plans, settings
        self.data, self.device, self.seed, self.threads = data, device, seed, threads
        self.loop: Settings = settings.training(None, seed, threads)
        self.path = folder / checkpoint.NAME
        self.graph: TrainingGraph = graph_of(combination, settings)
        self.rule: PrecisionSwitching = replace(
            settings.rule, levels=tuple(stage.precision for stage in combination.stages)
        )
        self.done = Done(tested={})
        self.identity = self._identity()
        self.levels = self._gone_on() if self.path.exists() else Levels(self.rule, self._begun)

    def until(self, energy_pj: int) -> Done:
        """Train until so much energy is used up, and test there.

        The step that uses it up is the last. Points in between are measured on the validation
        images, at the same energies in every training.
        """
        with claimed(self.path.parent):
            interval = self.settings.energy_pj // self.settings.points
            while self.done.energy_pj < energy_pj and not self.done.diverged:
                before = self.done.energy_pj
                begin = monotonic()
                self._to(min(energy_pj, (before // interval + 1) * interval))
                self._measure()
                took = self.done.wall_s + monotonic() - begin
                self.done = replace(self.done, wall_s=took)
                self._save()
            if str(energy_pj) not in (self.done.tested or {}):
                self._test(energy_pj)
                self._save()
        return self.done

    def _to(self, energy_pj: int) -> None:
        """Make steps until so much energy is used up."""
        count = len(self.data.epoch(self.loop, 0))
        while self.done.energy_pj < energy_pj and not self.done.diverged:
            epoch, first = divmod(self.done.steps, count)
            for images, labels in self.data.epoch(self.loop, epoch, first):
                self._step(images, labels, epoch)
                if self.done.energy_pj >= energy_pj or self.done.diverged:
                    break

    def _step(self, images: Any, labels: Any, epoch: int) -> None:
        done, levels = self.done, self.levels
        watched = not levels.last and (done.steps + 1) % self.settings.period == 0
        if watched:
            levels.watch()
        rate = self.settings.rate_q24(done.steps)
        step = levels.session.step(images, labels, rate_q24=rate, epoch=epoch)
        timeline = step.timeline
        assert timeline is not None
        self.done = replace(
            done,
            steps=done.steps + 1,
            energy_pj=done.energy_pj + timeline.energy_pj,
            time_ns=done.time_ns + timeline.makespan_ns,
            ddr_bytes=done.ddr_bytes + int(timeline.graph.ddr_bytes.sum()),
            diverged=not isfinite(step.result.loss),
        )
        if watched and not self.done.diverged:
            level = levels.state.level
            levels.ask(self.done.steps // self.settings.period)
            if levels.state.level != level:
                self.done = replace(self.done, switched=(*self.done.switched, self.done.steps))

    def _measure(self) -> None:
        held = self.data.validation
        assert held is not None
        found = score(self.levels.session, held, self.loop.batch)
        point = (self.done.energy_pj, self.done.steps, found.accuracy)
        self.done = replace(self.done, points=(*self.done.points, point))

    def _test(self, rung_pj: int) -> None:
        tested = score(self.levels.session, self.data.test, self.loop.batch)
        row = {
            "accuracy": tested.accuracy,
            "images": tested.images,
            "validation": self.done.points[-1][2],
            "energy_pj": self.done.energy_pj,
            "steps": self.done.steps,
            "time_ns": self.done.time_ns,
            "ddr_bytes": self.done.ddr_bytes,
        }
        self.done = replace(self.done, tested={**(self.done.tested or {}), str(rung_pj): row})

    def _begun(self, level: int) -> TrainingSession:
        """A session of a level before its first step."""
        return TrainingSession(
            self.graph,
            self.plans[level],
            self.device,
            seed=self.seed,
            engine="compiled",
            threads=self.threads,
        )

    def _identity(self) -> dict[str, Any]:
        return self.settings.identity(self.device) | {
            "combination": self.combination.name,
            "seed": self.seed,
            "plans": [plan_sha256(plan) for plan in self.plans],
            **self.data.digests(),
        }

    def _save(self) -> None:
        taken, sums = capture(self.levels.session), self.levels.sums
        progress = {
            "done": self.done.figures() | {"wall_s": self.done.wall_s},
            "state": asdict(self.levels.state),
            "gradients": sums.epochs,
        }
        arrays = {"parameters": taken.arrays, "gradients": dict(sums.arrays())}
        stored = Checkpoint(self.identity, {}, progress, taken.meta, arrays)
        checkpoint.save(self.path, stored)

    def _gone_on(self) -> Levels:
        """What the checkpoint had reached."""
        before = checkpoint.load(self.path)
        found = differences(before.identity, self.identity)
        if found:
            raise ConfigError(
                f"runs: {self.path.parent} holds another training: {'; '.join(found)}. Repeat its "
                "settings to go on, or choose another folder"
            )
        try:
            self.done = Done.from_json(before.progress["done"])
            state = SwitchState(**before.progress["state"])
            arrays = {n: np.asarray(a) for n, a in before.arrays.get("gradients", {}).items()}
            sums = GradientSums.of(arrays, before.progress["gradients"])
            levels = Levels(self.rule, self._begun, state, sums)
            restore(levels.session, Snapshot(before.arrays["parameters"], before.session))
            return levels
        except (SnapshotError, ParameterError, TypeError, KeyError, IndexError) as error:
            raise CheckpointError(
                f"{self.path}: does not fit this training ({error}); remove it to start anew"
            ) from error
