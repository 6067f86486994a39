"""What the documentation shows works: its Python runs, its commands succeed, its links lead on."""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import get_args
from unittest import mock

import pytest
from pydantic import BaseModel

from cost_models.description import Part
from cost_models.device import Device, load_device
from cost_models.library import AluKind, Dtype, Library
from experiments import cli
from experiments.composition.techniques import CATALOGUE, family
from sim.aspects import ORDER, STEP_ASPECTS
from sim.policies.recipes import RECIPES
from sim.rescaling import RULES, pattern

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(FENCED.pattern + r"|`[^`\n]*`", FENCED.flags)


MARKED = re.compile(
    r"^<!-- (?P<mark>exact|sample)(?:: (?P<instead>.*?))? -->\n```console\n(?P<shown>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
"""Output that is kept up to date: ``exact`` is compared by a test, ``sample`` only renewed.

``sample: demo`` runs ``mandheling demo`` instead of what the first line shows.
"""
COLUMNS = "100"


def commands(console: str) -> list[list[str]]:
    """Arguments of each ``$ mandheling`` line; a backslash continues a line."""
    lines = console.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[2:] for line in lines if line.startswith("$ mandheling")]


def output_of(arguments: list[str]) -> str:
    """What a command prints; AssertionError unless it succeeds."""
    printed, said = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["mandheling", *arguments]),
        mock.patch.dict(os.environ, {"COLUMNS": COLUMNS}),
        redirect_stdout(printed),
        redirect_stderr(said),
        pytest.raises(SystemExit) as end,
    ):
        cli.main()
    assert end.value.code == 0, f"mandheling {shlex.join(arguments)}\n{said.getvalue()}"
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def renewed(block: re.Match[str]) -> str:
    """A marked block with the output of its command as of now."""
    first = block["shown"].splitlines()[0]
    arguments = shlex.split(block["instead"]) if block["instead"] else commands(first)[0]
    head = block[0].split("\n", 1)[0]
    return f"{head}\n```console\n{first}\n{output_of(arguments)}\n```"


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a page run in order, in one folder, and see each other's names and files."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    monkeypatch.setitem(sys.modules, "page", ModuleType("page"))  # where dataclasses look
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "python":
            exec(compile(text, str(page), "exec"), namespace)
        else:
            for arguments in commands(text):
                output_of(arguments)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_exact_output_is_up_to_date(page: Path) -> None:
    """If this fails, ``python tests/test_docs.py`` renews the pages: look at what changed."""
    for block in MARKED.finditer(page.read_text(encoding="utf-8")):
        if block["mark"] == "exact":
            assert renewed(block) == block[0]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = CODE.sub("", page.read_text(encoding="utf-8"))
    missing = [link for link in LINK.findall(prose) if not (page.parent / link).exists()]
    assert not missing


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in LINK.findall(page.read_text(encoding="utf-8"))
    }
    assert {page for page in PAGES if page.name != "README.md"} <= linked


def test_commands_are_found_in_console_blocks() -> None:
    shown = "$ make demo\n$ mandheling models --json\nout\n$ mandheling compare \\\n  --batch 8\n"
    assert commands(shown) == [["models", "--json"], ["compare", "--batch", "8"]]


def inline_code(page: Path) -> set[str]:
    """What a page sets in inline code, outside of blocks."""
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    return set(re.findall(r"`([^`]+)`", prose))


def command_names() -> set[str]:
    """Every command, with the group before it where there is one."""
    names = set()
    for command in cli.app.registered_commands:
        assert command.callback is not None
        names.add(command.name or command.callback.__name__)
    for group in cli.app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            names.add(f"{group.name} {command.name or command.callback.__name__}")
    return names


def test_every_command_has_its_section() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## (.+)$", page, re.MULTILINE)) == {"mandheling"} | command_names()


def field_names(model: type[BaseModel]) -> set[str]:
    """Names of a model's fields and of its parts' fields."""
    names = set(model.model_fields)
    for field in model.model_fields.values():
        for part in parts_of(field.annotation):
            if issubclass(part, Part):
                names |= field_names(part)
    return names


def parts_of(annotation: object) -> list[type[BaseModel]]:
    """Models that an annotation mentions, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for inner in get_args(annotation) for part in parts_of(inner)]


def test_every_field_of_a_device_is_described() -> None:
    described = inline_code(ROOT / "docs/reference/device-format.md")
    assert field_names(Device) <= described


def test_every_field_of_a_library_is_described() -> None:
    described = inline_code(ROOT / "docs/reference/library-format.md")
    assert field_names(Library) | set(get_args(Dtype)) | set(get_args(AluKind)) <= described


def test_every_aspect_choice_and_plan_is_described() -> None:
    described = inline_code(ROOT / "docs/reference/plan-format.md")
    assert {aspect.name for aspect in (*ORDER, *STEP_ASPECTS)} <= described
    phone = load_device("snapdragon-865")
    assert {choice for aspect in STEP_ASPECTS for choice in aspect.offered(phone)} <= described
    assert {pattern(name, RULES[name]) for name in RULES.built_in()} <= described
    assert set(RECIPES.built_in()) <= described


def test_the_guide_to_policies_lists_every_aspect_in_order_with_its_choices() -> None:
    page = (ROOT / "docs/guides/write-a-policy.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", page, re.MULTILINE)
    assert [name for name, _ in rows] == [aspect.name for aspect in ORDER]
    listed = {(name, family(c)) for name, text in rows for c in re.findall(r"`([^`]+)`", text)}
    decided = [one for technique in CATALOGUE.values() for one in technique.decisions]
    kinds = {(d.aspect, family(d.choice)) for d in decided if d.aspect in dict(rows)}
    assert {(aspect, kind) for aspect, kind in kinds if kind != "N"} <= listed


if __name__ == "__main__":
    for each in PAGES:
        before = each.read_text(encoding="utf-8")
        after = MARKED.sub(renewed, before)
        if after != before:
            each.write_text(after, encoding="utf-8")
            print(f"renewed {page_name(each)}")
