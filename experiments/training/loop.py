"""The training loop: epochs over batches, checkpoints, the choice of an epoch, one test.

A run is a function of its :attr:`~experiments.training.ground.Ground.identity`. It may end at any
step, by a signal or by a kill, and goes on from its last checkpoint to the same bits: the order
of the images, their augmentation and every draw are keyed by seed, epoch and step, and all else
is in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from pathlib import Path
from time import monotonic_ns
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.datasets.dataset import Dataset
from experiments.results import read_own_result, write_result
from experiments.training import checkpoint
from experiments.training.checkpoint import Checkpoint, CheckpointError
from experiments.training.config import ConfigError, TrainConfig, differences
from experiments.training.folder import RESULT, TRACE, claimed
from experiments.training.ground import Ground, prepare
from experiments.training.progress import EpochRow, Progress, Tally
from experiments.training.result import result_document
from sim.numeric.records import FIELDS, RescaleTrace
from sim.numeric.snapshot import Snapshot, SnapshotError, capture, copied, restore
from sim.numeric.trained import ParameterError

Arrays = dict[str, NDArray[Any]]


class TrainingError(ValueError):
    """A run cannot go on; the message says at which step, why, and what to do."""


class Stopped(Exception):  # noqa: N818  # no error: the run was asked to stop, and can go on
    """A run stopped when it was asked to, after it had saved where it is."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"stopped after step {step} of {steps}")
        self.step, self.steps = step, steps


class Listener(Protocol):
    """Is told how a run goes; changes nothing."""

    def begins(self, ground: Ground, progress: Progress) -> None:
        """Tell that training begins, or goes on."""

    def stepped(self, progress: Progress) -> None:
        """Tell that a step is done."""

    def validated(self, row: EpochRow, progress: Progress) -> None:
        """Tell that an epoch is done."""


class Silent:
    """A listener that says nothing."""

    def begins(self, ground: Ground, progress: Progress) -> None:
        """Say nothing."""

    def stepped(self, progress: Progress) -> None:
        """Say nothing."""

    def validated(self, row: EpochRow, progress: Progress) -> None:
        """Say nothing."""


def train(
    config: TrainConfig,
    out: Path,
    *,
    listener: Listener | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train as configured, or go on where an earlier process stopped, and test once.

    Parameters
    ----------
    config
        What to train.
    out
        Folder of the run: ``checkpoint.npz``, at the end ``result.json`` and, with
        ``config.trace``, ``rescale-trace.json``. Made if it is new.
    listener
        Is told of each step and epoch.
    stop
        Asked between steps; True saves a checkpoint and ends in :class:`Stopped`.

    Returns
    -------
    dict
        The content of ``result.json``, see :func:`experiments.training.result.result_document`.

    Raises
    ------
    ConfigError
        A setting is not allowed, or the folder holds a run with others; the message names them.
    CheckpointError
        The checkpoint is damaged or of another format.
    TrainingError
        The loss is no number any more.
    Stopped
        ``stop`` said so.
    sim.files.FileError
        A file cannot be written; the last checkpoint is whole.
    experiments.results.ResultError
        The run is done, and its result is damaged or another's.
    """
    ground = prepare(config)
    with claimed(out):
        run = _Run(ground, out, listener or Silent(), stop)
        if run.progress.epoch == config.epochs and (out / RESULT).exists():
            return read_own_result(out / RESULT, ground.identity)
        return run.to_the_end()


def saved_config(out: Path) -> TrainConfig:
    """Return the settings of the run in a folder.

    Raises
    ------
    CheckpointError
        There is no checkpoint, or it cannot be used.
    ConfigError
        ``out`` is a file, or its settings are not those of this version.
    """
    if out.is_file():
        raise ConfigError(f"resume: {out} is a file; give the folder of a run")
    return TrainConfig.from_json(checkpoint.load(out / checkpoint.NAME).config)


class _Run:
    """A run in its folder, between two steps."""

    def __init__(
        self, ground: Ground, out: Path, listener: Listener, stop: Callable[[], bool]
    ) -> None:
        self.ground, self.listener, self.stop = ground, listener, stop
        self.out, self.path = out, out / checkpoint.NAME
        self.progress = Progress()
        self.best: Arrays = {}
        self.trace = RescaleTrace(ground.graph.name, ground.plan.name, ground.config.profile)
        before = checkpoint.load(self.path) if self.path.exists() else None
        if before is not None:
            _check_identity(out, before.identity, ground.identity)
        self.session = ground.session()
        self._since = monotonic_ns()
        if before is None:
            self.save()  # a folder or disk that cannot be written shows now
        else:
            self._go_on(before)

    def _go_on(self, before: Checkpoint) -> None:
        try:
            self.progress = Progress.from_json(before.progress)
            parameters = before.arrays["parameters"]
            restore(self.session, Snapshot(parameters, before.session))
        except (SnapshotError, ParameterError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{self.path}: does not fit this run ({error}); remove it to start anew"
            ) from error
        self.best = dict(before.arrays.get("best", {}))
        for subject, rows in before.arrays.get("trace", {}).items():
            self.trace.rows[subject] = [tuple(row) for row in rows.tolist()]

    def save(self) -> None:
        """Write a checkpoint of the present state."""
        now = monotonic_ns()
        wall_ms = self.progress.wall_ms + (now - self._since) // 1_000_000
        self.progress, self._since = replace(self.progress, wall_ms=wall_ms), now
        taken = capture(self.session)
        rows = self.trace.rows.items()
        trace = {s: np.array(r, np.int64).reshape(-1, len(FIELDS)) for s, r in rows}
        checkpoint.save(
            self.path,
            Checkpoint(
                identity=self.ground.identity,
                config=self.ground.given.as_json(),
                progress=self.progress.as_json(),
                session=taken.meta,
                arrays={"parameters": taken.arrays, "best": self.best, "trace": trace},
            ),
        )

    def to_the_end(self) -> dict[str, Any]:
        """Train the epochs that are left, test, and write the result."""
        epochs = self.ground.config.epochs
        self.listener.begins(self.ground, self.progress)
        while self.progress.epoch < epochs:
            self._train_epoch()
            self._end_epoch()
        last_sha256 = self.session.executor.parameters.sha256()
        self.session.executor.parameters.load(self.best)
        right = self._right(self.ground.test)
        result = result_document(
            self.ground,
            self.progress,
            right,
            last_sha256=last_sha256,
            chosen_sha256=self.session.executor.parameters.sha256(),
        )
        if self.ground.config.trace:
            self.trace.save(self.out / TRACE)
        write_result(self.out / RESULT, result)
        return result

    def _train_epoch(self) -> None:
        ground, config = self.ground, self.ground.config
        epoch = self.progress.epoch
        for images, labels in ground.epoch(epoch, self.progress.batch):
            self._heed_stop()
            number = epoch * ground.batches + self.progress.batch
            rate = ground.schedule.rate_q24(number)
            step = self.session.step(images, labels, rate_q24=rate, epoch=epoch)
            if not isfinite(step.result.loss):
                raise TrainingError(
                    f"step {number}: the loss is {step.result.loss_text}; take a smaller rate "
                    f"(it was {config.rate:g} at its peak) and another folder"
                )
            if config.trace:
                self.trace.append(step.result.records)
            tally = self.progress.tally.with_step(step, len(labels))
            first_ns = self.progress.first_ns if number else tally.time_ns
            self.progress = replace(
                self.progress, batch=self.progress.batch + 1, tally=tally, first_ns=first_ns
            )
            self.listener.stepped(self.progress)
            if (number + 1) % config.checkpoint_every == 0:
                self.save()

    def _end_epoch(self) -> None:
        """Validate, keep the parameters if none were better, and save."""
        validation, progress = self.ground.validation, self.progress
        correct = None if validation is None else int(self._right(validation).sum())
        row = EpochRow(progress.epoch, progress.tally, correct)
        best = progress.best
        if (
            correct is None
            or best is None
            or correct > (progress.rows[best].validation_correct or 0)
        ):
            best = progress.epoch
            self.best = copied(self.session.executor.parameters.arrays())
        self.progress = replace(
            progress,
            epoch=progress.epoch + 1,
            batch=0,
            tally=Tally(),
            rows=(*progress.rows, row),
            best=best,
        )
        self.save()
        self.listener.validated(row, self.progress)

    def _right(self, dataset: Dataset) -> NDArray[np.bool_]:
        """Return for each image, in order, whether it is classified rightly now."""
        found = []
        for images, labels in self.ground.in_order(dataset):
            self._heed_stop()
            found.append(self.session.executor.predict(images).argmax(1) == labels)
        return np.concatenate(found)

    def _heed_stop(self) -> None:
        if not self.stop():
            return
        if self.progress.epoch < self.ground.config.epochs:  # else the last checkpoint has it all
            self.save()
        done = self.progress.epoch * self.ground.batches + self.progress.batch
        raise Stopped(done, self.ground.schedule.steps)


def _check_identity(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    found = differences(before, now)
    if found:
        raise ConfigError(
            f"out: {out} holds another run: {'; '.join(found)}. Repeat its settings to go on, or "
            "choose another folder"
        )
