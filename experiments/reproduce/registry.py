"""Which studies there are: every module of this folder that is not part of the frame."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from cost_models.errors import unknown_name
from experiments.reproduce.study import Study, StudyError

FOLDER = Path(__file__).parent
FRAME = ("study", "registry", "shown", "drawn", "page", "kept")
"""Modules of this folder that are no studies."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A study that can be run.

    Parameters
    ----------
    name
        Its name on the command line.
    title
        First line of its module's docstring, without the full stop.
    module
        What to import.
    """

    name: str
    title: str
    module: str


def studies() -> dict[str, Listed]:
    """Return all studies by name, sorted, without importing them."""
    found = {}
    for path in sorted(FOLDER.iterdir()):
        source = path if path.suffix == ".py" else path / "__init__.py"
        if path.stem.startswith(("_", ".")) or path.stem in FRAME or not source.is_file():
            continue
        text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
        name = path.stem.replace("_", "-")
        title = text.partition("\n")[0].removesuffix(".")
        found[name] = Listed(name, title, f"experiments.reproduce.{path.stem}")
    return found


def run(name: str) -> Study:
    """Run a study by name.

    Raises
    ------
    StudyError
        There is none of that name, or its module has no ``study``.
    """
    known = studies()
    if name not in known:
        raise StudyError(unknown_name("study", name, ("all", *known)))
    module = import_module(known[name].module)
    if not callable(getattr(module, "study", None)):
        raise StudyError(f"study {name}: {known[name].module} has no study(); add one")
    made = module.study()
    if not isinstance(made, Study):
        raise StudyError(f"study {name}: study() gave {type(made).__name__}; return a Study")
    return made
