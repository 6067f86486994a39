"""What all commands share: options, output and its errors; loaders come along for them.

Only light imports at the top: ``mandheling --help`` answers before NumPy would be there. A command
imports what it needs when it runs.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.loading import BATCH_LIMIT as BATCH_LIMIT
from experiments.loading import IMAGE_LIMIT as IMAGE_LIMIT
from experiments.loading import SEED_LIMIT as SEED_LIMIT
from experiments.loading import is_plan_file as is_plan_file
from experiments.loading import load_built as load_built
from experiments.loading import load_device as load_device
from experiments.loading import load_graph as load_graph
from experiments.results import NOTE as NOTE
from experiments.told import STOPPED as STOPPED
from experiments.told import UsageError as UsageError
from experiments.told import fail as fail
from experiments.told import one_line_errors as one_line_errors
from experiments.told import os_failure as os_failure
from experiments.told import say as say
from experiments.told import told as told

if TYPE_CHECKING:
    from rich.console import Console

    from cost_models.device import Device
    from sim.graph import TrainingGraph
    from sim.plan import Plan

STEP_LIMIT = 10_000
HVX_ONLY = "HVX only: the matrix unit (HMX) of this DSP is not modelled"
PLAIN_INTEGER = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
"""What ``int`` also reads (``8_0``, blanks, digits of other scripts) is more often a slip."""


def integer(low: int, high: int) -> Callable[[str | int], int]:
    """Return a parser of integers from ``low`` to ``high`` that says what it was given."""

    def parse(text: str | int) -> int:  # an option's default comes through here too
        value = int(text) if PLAIN_INTEGER.fullmatch(str(text)) else low - 1
        if not low <= value <= high:
            raise typer.BadParameter(
                f"{text!r} is not allowed; give an integer from {low} to {high}"
            )
        return value

    return parse


def a_path(text: str | Path) -> Path:
    """Return a path that names something; ``""`` would be the folder that a command is run in."""
    if not str(text).strip() or "\0" in str(text):
        raise typer.BadParameter(f"{str(text)!r} is not allowed; give the name of a file or folder")
    return Path(text)


ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Name of a model, or an .onnx file.", metavar="MODEL")
]
DeviceOption = Annotated[
    str, typer.Option("--device", "-d", help="Name of a device, or a .yaml file.", metavar="DEVICE")
]
PlanOption = Annotated[
    str, typer.Option("--plan", "-p", help="Name of a plan, or a .json file.", metavar="PLAN")
]
BatchOption = Annotated[
    int,
    typer.Option(
        "--batch",
        "-b",
        metavar="N",
        parser=integer(1, BATCH_LIMIT),
        help=f"Samples per step, up to {BATCH_LIMIT}.",
    ),
]
ImageOption = Annotated[
    int | None,
    typer.Option(
        "--image",
        metavar="N",
        parser=integer(1, IMAGE_LIMIT),
        help="Rows and columns of the images; default: the model's own.",
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed", metavar="N", parser=integer(0, SEED_LIMIT), help="Seed of all random draws."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="FILE", parser=a_path, help="Write the JSON to a file as well."
    ),
]


class CliError(ValueError):
    """A command line cannot be carried out; the message names the option, value and remedy."""


def hvx_only(device: Device) -> bool:
    """Whether the DSP has a matrix unit, which no cost knows: results are those of HVX alone."""
    return device.dsp is not None and device.dsp.has_hmx


def positive_integers(option: str, text: str, limit: int) -> list[int]:
    """Read ``8,16,32``: integers from 1 to ``limit``, sorted, each once."""
    parts = text.split(",")
    values = sorted({int(part) if PLAIN_INTEGER.fullmatch(part) else 0 for part in parts})
    if not 1 <= values[0] <= values[-1] <= limit:
        raise CliError(f"{option} {text!r}: give integers from 1 to {limit}, with commas between")
    return values


# -- output -----------------------------------------------------------------------------------


def to_json(document: object) -> str:
    """Return JSON text, one line per value; NaN and infinities are refused."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def check_target(option: str, path: Path | None) -> None:
    """Refuse an output file that could not be written, before any work is done for it."""
    if path is None:
        return
    if path.is_dir():
        raise CliError(f"{option} {path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise CliError(f"{option} {path}: folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise CliError(f"{option} {path}: folder {path.parent} is not writable; choose another")


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    from sim.files import write_atomic

    write_atomic(path, text)


def deliver(document: object, as_json: bool, output: Path | None) -> None:
    """Write ``document`` to the file if one was named, and to stdout if JSON was asked for."""
    text = to_json(document)
    if output is not None:
        write_file(output, text)
    if as_json:
        print_text(text)


def print_text(text: str) -> None:
    """Print to stdout and flush, so that a broken pipe shows here and not at exit."""
    sys.stdout.write(text)
    sys.stdout.flush()


def stdout_console() -> Console:
    """Return a console for tables on stdout, as wide as the terminal (80 without one)."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


@contextmanager
def progress(what: str, total: int) -> Iterator[Any]:
    """Give a function that advances a bar on stderr; on no terminal, nothing is shown."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on stderr that something is under way; on no terminal, nothing is shown."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def manifest(
    *,
    seed: int | None = None,
    graph: TrainingGraph | None = None,
    device: Device | None = None,
    plans: Mapping[str, Plan] | None = None,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Say what a result follows from: versions, digests, settings; nothing of this machine.

    Parameters
    ----------
    config
        Settings that the digests do not cover, such as the engine and the number of steps.

    Returns
    -------
    dict
        ``versions`` (by package); of what is given also ``graph_sha256``, ``device_sha256``,
        ``plan_sha256`` (by plan name), ``library_sha256`` (by library, of device and plans
        together), ``config`` and ``seed``.
    """
    from experiments.results import versions

    found: dict[str, Any] = {"versions": versions()}
    if graph is not None:
        found["graph_sha256"] = graph.hash()
    if device is not None:
        found["device_sha256"] = device.sha256
    if plans is not None:
        found["plan_sha256"] = {name: plan_sha256(plan) for name, plan in plans.items()}
    if device is not None and plans is not None:
        found["library_sha256"] = library_sha256(device, plans.values())
    if config is not None:
        found["config"] = dict(config)
    if seed is not None:
        found["seed"] = seed
    return found


def plan_sha256(plan: Plan) -> str:
    """Return the digest of a plan's canonical JSON."""
    import hashlib

    return hashlib.sha256(plan.to_json().encode()).hexdigest()


def library_sha256(device: Device, plans: Iterable[Plan]) -> dict[str, str]:
    """Return the digests of all kernel libraries that the plans' costs come from, by name."""
    from sim.aspects import STEP_ASPECTS
    from sim.lowering import cost_model

    library = next(aspect for aspect in STEP_ASPECTS if aspect.key == "library")
    chosen = {library.resolve(plan, device) for plan in plans}
    models = [cost_model(device, name) for name in chosen]
    digests = {lib.name: lib.sha256 for m in models for lib in (m.cpu, m.gpu, m.dsp)}
    return dict(sorted(digests.items()))
