"""The rounds of a federated run: sample, train locally, average, test, save.

A run is a function of its :attr:`~experiments.federated.ground.FederatedGround.identity`. After
each round the global model and the accounts are saved in one file, so a process that is killed
loses the round that it was in and nothing else; the next one goes on to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import monotonic_ns
from typing import Any, Protocol

from experiments.federated.accounts import RoundRow, Visit, round_row
from experiments.federated.clients import sampled
from experiments.federated.config import FederatedConfig
from experiments.federated.ground import FederatedGround, prepare
from experiments.federated.phone import Phone
from experiments.federated.result import federated_document
from experiments.federated.server import Answer, Server
from experiments.results import read_own_result, write_result
from experiments.training import checkpoint
from experiments.training.checkpoint import Checkpoint, CheckpointError
from experiments.training.config import ConfigError, differences
from experiments.training.folder import RESULT, claimed


class Stopped(Exception):  # noqa: N818  # no error: the run was asked to stop, and can go on
    """A run stopped when it was asked to; the rounds that were done are saved."""

    def __init__(self, done: int, rounds: int) -> None:
        super().__init__(f"stopped after round {done} of {rounds}")
        self.done, self.rounds = done, rounds


class Listener(Protocol):
    """Is told how a run goes; changes nothing."""

    def begins(self, ground: FederatedGround, rounds: int) -> None:
        """Tell that the run begins, or goes on after a number of rounds."""

    def trained(self, client: int) -> None:
        """Tell that a client of the round is done."""

    def ended(self, row: RoundRow) -> None:
        """Tell that a round is done."""


class Silent:
    """A listener that says nothing."""

    def begins(self, ground: FederatedGround, rounds: int) -> None:
        """Say nothing."""

    def trained(self, client: int) -> None:
        """Say nothing."""

    def ended(self, row: RoundRow) -> None:
        """Say nothing."""


def federate(
    config: FederatedConfig,
    out: Path,
    *,
    listener: Listener | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train as configured, or go on where an earlier process stopped.

    Parameters
    ----------
    config
        What to train, by whom.
    out
        Folder of the run: ``checkpoint.npz`` and, at the end, ``result.json``. Made if it is new.
    listener
        Is told of each client and round.
    stop
        Asked before each local step; True ends in :class:`Stopped`.

    Returns
    -------
    dict
        The content of ``result.json``, see
        :func:`experiments.federated.result.federated_document`.

    Raises
    ------
    ConfigError
        A setting is not allowed, or the folder holds a run with others; the message names them.
    CheckpointError
        The saved state is damaged or of another format.
    FederatedError
        The loss is no number any more.
    Stopped
        ``stop`` said so.
    sim.files.FileError
        A file cannot be written; the last saved state is whole.
    experiments.results.ResultError
        The run is done, and its result is damaged or another's.
    """
    ground = prepare(config)
    with claimed(out):
        run = _Run(ground, out, listener or Silent(), stop)
        if len(run.progress.rows) == config.rounds and (out / RESULT).exists():
            return read_own_result(out / RESULT, ground.identity)
        return run.to_the_end()


@dataclass(frozen=True, slots=True)
class Progress:
    """Rounds that are done, and the time that they took on this machine."""

    rows: tuple[RoundRow, ...] = field(default=())
    wall_ms: int = 0


class _Run:
    """A run in its folder, between two rounds."""

    def __init__(
        self,
        ground: FederatedGround,
        out: Path,
        listener: Listener,
        stop: Callable[[], bool],
    ) -> None:
        self.ground, self.listener, self.stop = ground, listener, stop
        self.out, self.path = out, out / checkpoint.NAME
        before = checkpoint.load(self.path) if self.path.exists() else None
        if before is not None and (found := differences(before.identity, ground.identity)):
            raise ConfigError(
                f"out: {out} holds another run: {'; '.join(found)}. Repeat its settings to go on, "
                "or choose another folder"
            )
        self.phone = Phone(ground.local)
        assert ground.config.aggregate is not None
        self.server = Server(
            ground.config.aggregate,
            self.phone.integer,
            self.phone.weights(),
            self.phone.statistics(),
        )
        self.progress = Progress()
        self._since = monotonic_ns()
        if before is None:
            self.save()  # a folder or disk that cannot be written shows now
        else:
            self._go_on(before)

    def _go_on(self, before: Checkpoint) -> None:
        try:
            rows = tuple(RoundRow.from_json(row) for row in before.progress["rows"])
            self.progress = Progress(rows, before.progress["wall_ms"])
            for group, own in (
                ("weights", self.server.weights),
                ("statistics", self.server.statistics),
            ):
                saved = before.arrays.get(group, {})
                if {n: (a.shape, a.dtype) for n, a in saved.items()} != {
                    n: (a.shape, a.dtype) for n, a in own.items()
                }:
                    raise KeyError(group)
                own.update(saved)
        except (TypeError, KeyError) as error:
            raise CheckpointError(
                f"{self.path}: does not fit this run ({error}); remove it to start anew"
            ) from error

    def save(self) -> None:
        """Write the present state, whole or not at all."""
        now = monotonic_ns()
        wall_ms = self.progress.wall_ms + (now - self._since) // 1_000_000
        self.progress, self._since = replace(self.progress, wall_ms=wall_ms), now
        checkpoint.save(
            self.path,
            Checkpoint(
                identity=self.ground.identity,
                config=self.ground.given.as_json(),
                progress=asdict(self.progress),
                session={},
                arrays={"weights": self.server.weights, "statistics": self.server.statistics},
            ),
        )

    def to_the_end(self) -> dict[str, Any]:
        """Do the rounds that are left, test, and write the result."""
        config = self.ground.config
        self.listener.begins(self.ground, len(self.progress.rows))
        while len(self.progress.rows) < config.rounds:
            row = self._round(len(self.progress.rows))
            self.progress = replace(self.progress, rows=(*self.progress.rows, row))
            self.save()
            self.listener.ended(row)
        right = self.phone.right(self.server.broadcast())
        result = federated_document(
            self.ground, self.progress.rows, self.server, right, self.progress.wall_ms
        )
        write_result(self.out / RESULT, result)
        return result

    def _round(self, number: int) -> RoundRow:
        ground, config, server = self.ground, self.ground.config, self.server
        packet, rate = server.broadcast(), ground.schedule.rate_q24(number)
        visits, answers = [], []
        for client in sampled(len(ground.shares), config.per_round, config.training.seed, number):
            share = ground.shares[client]
            made = self.phone.train(packet, share, client, number, rate, self._heed_stop)
            sent = server.answer(made.before, made.after, made.statistics)
            answers.append(Answer(sent, len(share)))
            sizes = packet.size_bytes, sent.size_bytes, packet.fp32_bytes, sent.fp32_bytes
            visits.append(Visit(client, made.tally, *sizes))
            self.listener.trained(client)
        changed = server.merge(answers)
        tested = (number + 1) % config.test_every == 0 or number + 1 == config.rounds
        correct = sum(self.phone.right(server.broadcast())) if tested else None
        return round_row(number, visits, ground.link, changed, correct)

    def _heed_stop(self) -> None:
        if self.stop():
            raise Stopped(len(self.progress.rows), self.ground.config.rounds)
