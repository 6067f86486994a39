"""Small committed result files: JSON with sorted keys, written whole or not at all."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path("results")
"""Where result files go, from the folder that a command is run in."""

NOTE = "predicted, not measured"
"""What every result says of its times and energies."""


class ResultError(ValueError):
    """A result file cannot be used; the message names it and says what to do."""


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    packages = ("mandheling-sandbox", "numpy", "numba", "simpy", "scipy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def read_result(path: Path) -> dict[str, Any]:
    """Return the content of a result file; empty where there is none.

    Raises
    ------
    ResultError
        The file is not a JSON object: remove it, and the parts are computed again.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON or text, a number too long, too deep
        raise ResultError(f"{path}: not JSON ({error}); remove it to start again") from None
    if not isinstance(content, dict):
        raise ResultError(f"{path}: not a JSON object; remove it to start again")
    return content


def read_own_result(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the result file of a run that is done.

    Parameters
    ----------
    path
        The file.
    identity
        What the run's result follows from.

    Raises
    ------
    ResultError
        The file is not a JSON object, or of another run.
    """
    content = read_result(path)
    if content.get("identity") != identity:
        raise ResultError(
            f"{path}: is not the result of the run in this folder; remove it, and the same command "
            "makes it again"
        )
    return content


def write_result(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``, whole or not at all; makes its folder."""
    from sim.files import write_atomic

    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
