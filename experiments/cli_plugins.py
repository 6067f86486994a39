"""``mandheling plugins``: what has a name, who brings it, and whether it keeps to the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import CliError, JsonOption, deliver, stdout_console, working

if TYPE_CHECKING:
    from sim.plugins import Plugins

TITLES = {
    "plan": "Plans",
    "policy": "Policies",
    "rescale rule": "Rescale rules",
    "searcher": "Searchers",
}
"""What a table of each kind is called."""


def plugins(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Plans, policies, rules (my-rule:3) or searchers to check; default: list all.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what plug-ins and the sandbox bring, or check some of it."""
    groups = _groups()
    problems = {known.noun: known.problems() for known in groups}
    wanted = _wanted(names or [], groups)
    rows = []
    for known in groups:
        for name in known:
            texts = [text for text in wanted if _is_of(text, name, known)]
            for text in texts if wanted else [name]:
                error = problems[known.noun].get(name)
                if error is None and wanted:
                    with working(f"checking {known.noun} {text}"):
                        error = _broken(known, name, text)
                row = {"kind": known.noun, "name": text, "from": known.origin(name)}
                about = "" if error else _about(known, name)
                rows.append({**row, "about": about, "error": error})
    deliver({"checked": bool(wanted), "plugins": rows}, as_json, None)
    if not as_json:
        _print(rows, checked=bool(wanted))
    if any(row["error"] for row in rows):
        raise typer.Exit(1)


def _groups() -> tuple[Plugins[Any], ...]:
    from experiments.search.registry import SEARCHERS
    from sim.policies.recipes import POLICIES, RECIPES
    from sim.rescaling import RULES

    return RECIPES, POLICIES, RULES, SEARCHERS


def _about(known: Plugins[Any], name: str) -> str:
    """Return what a plan or a searcher is, a policy's aspect, or how a rule is written."""
    from sim.policies.recipes import POLICIES, RECIPES
    from sim.rescaling import RULES, pattern

    if known is RECIPES:
        return str(known[name].summary)
    if known is POLICIES:
        return str(known[name].aspect)
    if known is RULES:
        return pattern(name, known[name])
    return (known[name].__doc__ or "").strip().partition("\n")[0].removesuffix(".")


def _is_of(text: str, name: str, known: Plugins[Any]) -> bool:
    """Whether what was asked for is this one; only rules have parameters."""
    from sim.rescaling import RULES

    return (text.partition(":")[0] if known is RULES else text) == name


def _wanted(names: Sequence[str], groups: Sequence[Plugins[Any]]) -> list[str]:
    for text in names:
        if not any(_is_of(text, name, known) for known in groups for name in known):
            raise CliError(
                f"{text!r} is no plan, policy, rescale rule or searcher; `plugins` lists all"
            )
    return list(dict.fromkeys(names))


def _broken(known: Plugins[Any], name: str, text: str) -> str | None:
    """Return what breaks the rules of its group, if anything does."""
    from experiments.search.conformance import SearcherConformanceError, check_searcher
    from experiments.search.registry import SEARCHERS
    from sim.policies.conformance import PolicyConformanceError, check_policy, check_recipe
    from sim.policies.recipes import POLICIES, RECIPES
    from sim.policies.rule_conformance import check_rule

    checks: list[tuple[Plugins[Any], Callable[[], None]]] = [
        (RECIPES, lambda: check_recipe(known[name])),
        (POLICIES, lambda: check_policy(known[name])),
        (SEARCHERS, lambda: check_searcher(known[name])),
    ]
    check = next((each for group, each in checks if group is known), lambda: check_rule(text))
    try:
        check()
    except (PolicyConformanceError, SearcherConformanceError) as error:
        return str(error)
    return None


def _print(rows: Sequence[dict[str, Any]], checked: bool) -> None:
    from experiments.render import line, show, table

    console = stdout_console()
    if checked:
        checks = [(row["kind"], row["name"], row["from"], _result(row)) for row in rows]
        columns = ("kind", "name", "from", "result")
        show(console, table("Checks", columns, checks, left=4, keys=2))
    else:
        for kind, title in TITLES.items():
            listed = [
                (row["name"], _origin(row), "cannot be used" if row["error"] else row["about"])
                for row in rows
                if row["kind"] == kind
            ]
            show(console, table(title, ("name", "from", "what it is"), listed, left=3))
    for row in rows:
        if row["error"]:
            line(console, row["error"])


def _result(row: dict[str, Any]) -> str:
    return "breaks a rule" if row["error"] else "keeps to the rules"


def _origin(row: dict[str, Any]) -> str:
    """Return who brings it, so short for our own that a line has room for what it is."""
    from sim.plugins import OWN

    whence = str(row["from"])
    return "built in" if whence.partition(" ")[0] == OWN and " and " not in whence else whence
