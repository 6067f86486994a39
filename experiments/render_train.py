"""What ``mandheling train`` shows: a bar or a line per epoch, and a table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from experiments.cli_common import say
from experiments.render import DIGITS, PJ_PER_J, counted, joules, number, percent, table

if TYPE_CHECKING:
    from rich.console import Group
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from experiments.training.ground import Ground
    from experiments.training.loop import Listener
    from experiments.training.progress import EpochRow, Progress, Tally

NS_PER_S = 10**9
PPM = 1_000_000


class Lines:
    """Says one line per epoch."""

    def __init__(self) -> None:
        self._ground: Ground | None = None

    def begins(self, ground: Ground, progress: Progress) -> None:
        """Say what is trained, and from where on."""
        self._ground = ground
        config, steps = ground.config, ground.schedule.steps
        done = progress.epoch * ground.batches + progress.batch
        held = "none" if ground.validation is None else str(len(ground.validation))
        say(
            f"{ground.graph.name} on {config.dataset} ({len(ground.train)} images, {held} held "
            f"out), plan {ground.plan.name} on {ground.device.name}\n"
            + (f"going on after step {done} of {steps}" if done else counted(steps, "step"))
        )

    def stepped(self, progress: Progress) -> None:
        """Say nothing."""

    def validated(self, row: EpochRow, progress: Progress) -> None:
        """Say how the epoch went."""
        assert self._ground is not None
        config, held = self._ground.config, self._ground.validation
        parts = [_so_far(row.tally)]
        if held is not None and row.validation_correct is not None:
            parts.append(f"valid. {100 * row.validation_correct / len(held):.2f} %")
        if config.engine != "none":
            parts.append(_simulated(progress.total))
        say(f"epoch {row.epoch + 1}/{config.epochs}: {', '.join(parts)}")


class Steps(Lines):
    """Moves a bar with each step, and says a line per epoch above it."""

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self._bar = bar
        self._task: TaskID | None = None

    def begins(self, ground: Ground, progress: Progress) -> None:
        """Say what is trained and show the bar."""
        super().begins(ground, progress)
        done = progress.epoch * ground.batches + progress.batch
        self._task = self._bar.add_task("", total=ground.schedule.steps, completed=done)

    def stepped(self, progress: Progress) -> None:
        """Move the bar and renew its figures."""
        assert self._ground is not None
        assert self._task is not None
        text = f"epoch {progress.epoch + 1}: {_so_far(progress.tally)}"
        if self._ground.config.engine != "none":
            text += f", {_simulated(progress.total)}"
        self._bar.update(self._task, advance=1, description=text)


@contextmanager
def listening(quiet: bool) -> Iterator[Listener | None]:
    """Give what fits stderr: a bar on a terminal, lines elsewhere, None where quiet."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines()
        return
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        TextColumn("{task.percentage:.0f} %", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
    )
    with Bar(*columns, console=console, transient=True, expand=True) as bar:
        yield Steps(bar)


def _so_far(tally: Tally) -> str:
    lost = f", {tally.overflowed:,} results overflowed" if tally.overflowed else ""
    return f"loss {tally.mean_loss:.4f}, train {100 * tally.accuracy:.2f} %{lost}"


def _simulated(tally: Tally) -> str:
    return f"sim. {number(tally.time_ns / NS_PER_S)} s, {joules(tally.energy_pj)} J"


def epochs_table(result: dict[str, Any]) -> Group:
    """Return the table of a run's epochs; the chosen one is marked."""
    timed = result["simulated"] is not None
    rescaled = any(row["rescale"] for row in result["epochs"])
    columns = ["epoch", "loss", "train %", "valid. %"]
    columns += ["sim. s", "J"] * timed + ["skipped %", "clipped ppm", "lost ppm"] * rescaled
    names = result["identity"]
    return table(
        f"{names['model']} on {names['dataset']}, {names['plan']}, {names['profile']}",
        columns,
        [_row(row, result["chosen_epoch"], timed, rescaled) for row in result["epochs"]],
    )


def _row(row: dict[str, Any], chosen: int, timed: bool, rescaled: bool) -> Sequence[str]:
    valid = row["validation_accuracy"]
    cells = [
        f"{row['epoch'] + 1}{' *' if row['epoch'] == chosen else ''}",
        f"{row['loss']:.4f}",
        f"{100 * row['train_accuracy']:.2f}",
        "-" if valid is None else f"{100 * valid:.2f}",
    ]
    if timed:
        cells += [number(row["time_ns"] / NS_PER_S), number(row["energy_pj"] / PJ_PER_J, DIGITS)]
    if rescaled:
        met = row["rescale"]
        cells += [percent(met["skipped_share"])]
        cells += [number(PPM * met[f"{what}_share"], 3) for what in ("saturated", "lost")]
    return cells


def summary(result: dict[str, Any], out: str, drawn: bool) -> str:
    """Return what a run came to, in a few lines."""
    test, simulated = result["test"], result["simulated"]
    lines = [
        f"test accuracy {100 * test['accuracy']:.2f} % ({test['correct']} of {test['images']}) "
        f"with the parameters of epoch {result['chosen_epoch'] + 1}"
    ]
    if simulated is not None:
        per_step = number(simulated["time_ns"] / result["steps"] / 1e6)
        lines.append(
            f"predicted for {result['identity']['device']}, not measured: "
            f"{number(simulated['time_ns'] / NS_PER_S)} s, {joules(simulated['energy_pj'])} J; "
            f"{per_step} ms a step"
        )
    if result["overflowed"]:
        lines.append(
            f"{result['overflowed']:,} results in 16 bits overflowed: they were infinite or no "
            "numbers, and what follows from them may be no use; try a smaller rate or input"
        )
    lines += [f"note: {note}" for note in result.get("notes", ())]
    files = ["result.json", "checkpoint.npz"]
    files += ["rescale-trace.json"] * result["identity"]["trace"] + ["curves.png"] * drawn
    missing = "" if drawn else " (curves.png needs matplotlib)"
    lines += [
        f"weights sha256 {result['weights_sha256']}",
        f"in {out}: {', '.join(files)}{missing}",
    ]
    return "\n".join(lines)
