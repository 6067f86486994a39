"""Small committed result files: JSON with sorted keys, written whole or not at all."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path("results")
"""Where result files go, from the folder that a command is run in."""


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    packages = ("mandheling-sandbox", "numpy", "numba", "simpy", "scipy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def read_result(path: Path) -> dict[str, Any]:
    """Return the content of a result file; empty where there is none.

    Raises
    ------
    ValueError
        The file is not a JSON object: remove it, and the parts are computed again.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error}); remove it to start again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a JSON object; remove it to start again")
    return content


def write_result(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``, whole or not at all; makes its folder."""
    from sim.files import write_atomic

    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
