"""What ``mandheling federated`` shows: a line per round, and a table at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from experiments.cli_common import say
from experiments.render import DIGITS, PJ_PER_J, counted, joules, mib, number, percent, table

if TYPE_CHECKING:
    from rich.console import Group
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from experiments.federated.accounts import RoundRow
    from experiments.federated.ground import FederatedGround
    from experiments.federated.loop import Listener

NS_PER_S = 10**9
ROWS = 24
"""Rounds that the table shows at most: evenly spaced, and the last."""


class Lines:
    """Says one line per round."""

    def __init__(self) -> None:
        self._ground: FederatedGround | None = None

    def begins(self, ground: FederatedGround, rounds: int) -> None:
        """Say what is trained by whom, and from where on."""
        self._ground = ground
        config, local = ground.config, ground.local
        say(
            f"{local.graph.name} on {local.config.dataset} ({len(ground.shares)} clients, "
            f"{config.per_round} per round), {local.plan.name}, {config.aggregate}, "
            f"{local.device.name}: "
            + (f"going on after round {rounds} of {config.rounds}" if rounds
               else counted(config.rounds, "round"))
        )  # fmt: skip

    def trained(self, client: int) -> None:
        """Say nothing."""

    def ended(self, row: RoundRow) -> None:
        """Say how the round went."""
        assert self._ground is not None
        config, images = self._ground.config, len(self._ground.local.test)
        parts = [f"round {row.number + 1}/{config.rounds}", f"loss {row.tally.mean_loss:.4f}"]
        if row.correct is not None:
            parts.append(f"test {100 * row.correct / images:.2f} %")
        if config.training.engine != "none":
            seconds, energy = number(row.time_ns / NS_PER_S), joules(row.tally.energy_pj)
            parts.append(f"{seconds} s and {energy} J simulated")
        say(", ".join(parts))


class Clients(Lines):
    """Moves a bar with each client, and says a line per round above it."""

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self._bar = bar
        self._task: TaskID | None = None

    def begins(self, ground: FederatedGround, rounds: int) -> None:
        """Say what is trained and show the bar."""
        super().begins(ground, rounds)
        config = ground.config
        total, done = config.rounds * config.per_round, rounds * config.per_round
        self._task = self._bar.add_task("clients", total=total, completed=done)

    def trained(self, client: int) -> None:
        """Move the bar."""
        assert self._task is not None
        self._bar.advance(self._task)


@contextmanager
def listening(quiet: bool) -> Iterator[Listener | None]:
    """Give what fits stderr: a bar on a terminal, lines elsewhere, None where quiet."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines()
        return
    with Bar(console=console, transient=True, redirect_stderr=True) as bar:
        yield Clients(bar)


def rounds_table(result: dict[str, Any]) -> Group:
    """Return the table of a run's rounds; of many, of those that were tested."""
    timed, rows = result["simulated"] is not None, result["rounds"]
    if len(rows) > ROWS:
        rows = [row for row in rows if row["test_accuracy"] is not None]
        stride = -(-len(rows) // ROWS)
        rows = rows[::-stride][::-1]
    integer = result["config"]["aggregate"] != "fp32"
    columns = ["round", "loss", "local %", "test %"] + ["stuck %"] * integer
    columns += ["round s", "sum s", "sum J"] * timed + ["sum MiB"]
    config = result["config"]
    local = config["training"]
    title = f"{local['model']} on {local['dataset']}, {local['plan']}, {config['aggregate']}"
    return table(title, columns, [_row(row, integer, timed) for row in rows])


def _row(row: dict[str, Any], integer: bool, timed: bool) -> list[str]:
    test = row["test_accuracy"]
    cells = [
        str(row["round"] + 1),
        f"{row['loss']:.4f}",
        f"{100 * row['train_accuracy']:.2f}",
        "-" if test is None else f"{100 * test:.2f}",
    ]
    cells += [percent(row["stuck_share"])] * integer
    if timed:
        cells += [number(row["time_ns"] / NS_PER_S), number(row["total_ns"] / NS_PER_S)]
        cells += [number(row["total_pj"] / PJ_PER_J, DIGITS)]
    return [*cells, mib(row["total_bytes"])]


def summary(result: dict[str, Any], out: str, drawn: bool) -> str:
    """Return what a run came to, in a few lines."""
    test, traffic, config = result["test"], result["traffic"], result["config"]
    sent = traffic["down_bytes"] + traffic["up_bytes"]
    fp32 = traffic["down_fp32_bytes"] + traffic["up_fp32_bytes"]
    link = f"{config['down_mbps']} Mbit/s down and {config['up_mbps']} up"
    lines = [
        f"test accuracy {100 * test['accuracy']:.2f} % ({test['correct']} of {test['images']}) "
        f"with the global model of round {len(result['rounds'])}",
        f"{mib(sent)} MiB travelled ({mib(traffic['down_bytes'])} down, "
        f"{mib(traffic['up_bytes'])} up); in FP32 it would be {mib(fp32)}",
    ]
    if (simulated := result["simulated"]) is not None:
        lines.append(
            f"{number(simulated['time_ns'] / NS_PER_S)} s (the slowest phone of each round, with "
            f"its link: {link}, assumed) and {joules(simulated['energy_pj'])} J (training on all "
            f"phones) on {config['training']['device']}: predicted, not measured"
        )
    files = ["result.json", "checkpoint.npz"] + ["curves.png"] * drawn
    missing = "" if drawn else " (curves.png needs matplotlib)"
    lines += [
        f"weights sha256 {result['weights_sha256']}",
        f"in {out}: {', '.join(files)}{missing}",
    ]
    return "\n".join(lines)
