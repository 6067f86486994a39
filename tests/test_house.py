"""The house keeps its shape: floors, sizes of modules, and what a public module owes a reader."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("kernels", "cost_models", "sim", "hw_bridge", "experiments")
MODULES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
LINES = 400
FUNCTION_LINES = 60
UNFINISHED = re.compile(r"\bNotImplementedError\b|#\s*(?:TODO|FIXME|XXX)\b")


def module_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported_floors(path: Path) -> set[str]:
    """Floors that a module imports from, wherever in the file."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return {name.split(".")[0] for name in names} & set(FLOORS)


def test_all_floors_have_modules() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_only_go_down(path: Path) -> None:
    own = FLOORS.index(path.relative_to(ROOT).parts[0])
    assert imported_floors(path) <= set(FLOORS[: own + 1])


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_fits_a_sitting_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < LINES
    assert ast.get_docstring(ast.parse(text))
    assert not UNFINISHED.search(text)


def code_lines(node: ast.FunctionDef) -> int:
    """Lines of a function's body, its docstring apart."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_functions_fit_a_screen(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    assert not [node.name for node in functions if code_lines(node) > FUNCTION_LINES]


def test_tests_mirror_the_floors() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert folders - {"__pycache__", "golden", "examples"} <= set(FLOORS)
