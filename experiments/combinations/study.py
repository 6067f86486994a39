"""The study: schedules for all combinations, then trainings that are thinned out by rungs.

All candidates train until the first rung of energy; of those the best third by validation accuracy
goes on to the next one, and so forth. The best of the last rung is then laid beside the same
combination with one technique removed, or added where it has it not, each trained for the whole
energy, with several seeds. Every finished part is kept in the result at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cost_models.device import Device
from experiments.cli_common import load_device
from experiments.combinations.analysis import validated
from experiments.combinations.combination import REMOVABLE, Combination, candidates
from experiments.combinations.schedules import searched
from experiments.combinations.settings import StudySettings
from experiments.combinations.training import Training
from experiments.dynamic.loops import Data
from experiments.results import FOLDER, read_result, versions, write_result
from experiments.training.config import ConfigError, differences
from sim.files import write_atomic
from sim.plan import Plan

RESULT = FOLDER / "combinations.json"
IMAGE = (32, 32, 3)
CLASSES = 10


@dataclass(slots=True)
class CombinationStudy:
    """A study in its folder.

    Attributes
    ----------
    settings
        What it follows from.
    folder
        Of plans and checkpoints.
    result
        File of the figures.
    data
        Folder of the data set's files, where it has any.
    say
        Told what begins.
    """

    settings: StudySettings
    folder: Path
    result: Path = RESULT
    data: str | None = None
    threads: int | None = None
    say: Callable[[str], None] = print
    device: Device = field(init=False)

    def __post_init__(self) -> None:
        self.device = load_device(self.settings.device)
        before = self.content.get("identity")
        now = self.settings.identity(self.device)
        if before is not None and (found := differences(before, now)):
            raise ConfigError(
                f"{self.result} holds another study: {'; '.join(found)}. Repeat its settings to go "
                "on, or move it away"
            )

    @property
    def content(self) -> dict[str, Any]:
        """All that is kept so far."""
        return read_result(self.result)

    def keep(self, **parts: Any) -> None:
        """Add parts to the result."""
        common = {"identity": self.settings.identity(self.device), "versions": versions()}
        write_result(self.result, {**self.content, **common, **parts})

    def schedules(self) -> dict[str, Any]:
        """Search the schedules that are missing; return the figures of all, by name.

        In turns: each search starts from what was found so far for the same width and precision,
        whatever its filter and split, so that none is ahead by luck alone.
        """
        found: dict[str, Any] = dict(self.content.get("schedules", {}))
        every = dict.fromkeys(stage for one in self.settings.combinations for stage in one.stages)
        for turn in range(self.settings.turns):
            for stage in every:
                path, row = self.plan_path(stage), found.get(stage.name)
                if row and not path.exists():
                    raise ConfigError(
                        f"runs: {path} is not there, and {self.result} has its figures; give the "
                        "folder that they were made in, or move the file away"
                    )
                if row and row["turns"] > turn:
                    continue
                self.say(f"schedule of {stage.name}, turn {turn + 1} of {self.settings.turns}")
                kin = (one for one in every if alike(one, stage) and one.name in found)
                known = [Plan.read(self.plan_path(one)) for one in kin]
                schedule = searched(stage, self.settings, self.device, known, turn)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, schedule.plan.to_json())
                found[stage.name] = schedule.document() | {"turns": turn + 1}
                self.keep(schedules=found)
        return found

    def plan_path(self, stage: Combination) -> Path:
        """File of a stage's plan."""
        return self.folder / "plans" / f"{stage.name}.json"

    def run(self) -> dict[str, Any]:
        """Do all that is missing, and return the whole result."""
        data = self.images()
        self.schedules()
        rows = self.content["schedules"]
        fitting = [one for one in self.settings.combinations if fits(one, rows, self.settings)]
        if not fitting:
            raise ConfigError(
                f"memory_mib: {self.settings.memory_mib:g}; no combination fits: the least is "
                f"{min(row['memory_bytes'] for row in rows.values()) / 2**20:.1f} MiB"
            )
        alive = candidates({one: costs(one, rows) for one in fitting})
        self.keep(candidates=[one.name for one in alive])
        rungs = self.settings.rung_pj
        for rung in rungs:
            for one in alive:
                self._train(one, rung, 0, data)
            ranked = sorted(alive, key=lambda one: -validated(self.content, one, rung, 0))
            if rung != rungs[-1]:
                alive = tuple(ranked[: max(1, -(-len(ranked) // self.settings.keep))])
        best = ranked[0]
        beside = [one for one in neighbours(best).values() if one in fitting]
        self.keep(best=best.name)
        for seed in range(self.settings.seeds):
            for one in (best, *beside):
                for rung in rungs:
                    self._train(one, rung, seed, data)
        return self.content

    def images(self) -> Data:
        """The data set that is trained, validated and tested on.

        Raises
        ------
        ConfigError
            It has another number of classes than the network.
        DatasetError
            It cannot be had.
        """
        data = Data.load(self.settings.training(self.data, 0, self.threads), IMAGE)
        if len(data.train.classes) != CLASSES:
            raise ConfigError(
                f"dataset: {self.settings.dataset} has {len(data.train.classes)} classes; the "
                f"network has {CLASSES}: give a data set of as many"
            )
        return data

    def _train(self, one: Combination, rung: int, seed: int, data: Data) -> None:
        """Train until a rung, unless that is kept already."""
        name = f"{one.name}-seed{seed}"
        kept = self.content.get("trainings", {})
        if str(rung) in kept.get(name, {}).get("tested", {}):
            return
        self.say(f"{name} until {rung / 1e12:.1f} J")
        plans = tuple(Plan.read(self.plan_path(stage)) for stage in one.stages)
        training = Training(
            one,
            plans,
            self.settings,
            data,
            self.device,
            self.folder / name,
            seed=seed,
            threads=self.threads,
        )
        figures = training.until(rung).figures()
        self.keep(trainings={**kept, name: figures})


def alike(one: Combination, other: Combination) -> bool:
    """Whether both have the same width and precision."""
    return (one.width, one.precision) == (other.width, other.precision)


def costs(one: Combination, rows: dict[str, Any]) -> tuple[int, int]:
    """Energy of a step in the cheapest and in the dearest stage, picojoules."""
    found = [rows[stage.name]["energy_pj"] for stage in one.stages]
    return min(found), max(found)


def memory_of(one: Combination, rows: dict[str, Any]) -> int:
    """Most bytes that a step of any stage holds."""
    return max(int(rows[stage.name]["memory_bytes"]) for stage in one.stages)


def fits(one: Combination, rows: dict[str, Any], settings: StudySettings) -> bool:
    """Whether all stages are within the memory budget."""
    return memory_of(one, rows) <= settings.memory_bytes


def neighbours(one: Combination) -> dict[str, Combination]:
    """By technique: the combination without it, or with it where it is not at work."""
    return {
        technique: one.without(technique) if one.uses(technique) else one.with_(technique)
        for technique in REMOVABLE
    }
