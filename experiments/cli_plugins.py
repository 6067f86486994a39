"""``mandheling plugins``: what has a name, who brings it, and whether it keeps to the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import CliError, JsonOption, deliver, stdout_console, working

if TYPE_CHECKING:
    from sim.plugins import Plugins


def plugins(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Plans, policies and rescale rules (my-rule:3) to check; default: list all.",
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
    from sim.policies.recipes import POLICIES, RECIPES
    from sim.rescaling import RULES

    return RECIPES, POLICIES, RULES


def _about(known: Plugins[Any], name: str) -> str:
    """Return a plan's summary, a policy's aspect, or how a rule is written."""
    from sim.policies.recipes import POLICIES, RECIPES
    from sim.rescaling import pattern

    if known is RECIPES:
        return str(known[name].summary)
    return str(known[name].aspect) if known is POLICIES else pattern(name, known[name])


def _is_of(text: str, name: str, known: Plugins[Any]) -> bool:
    """Whether what was asked for is this one; only rules have parameters."""
    from sim.rescaling import RULES

    return (text.partition(":")[0] if known is RULES else text) == name


def _wanted(names: Sequence[str], groups: Sequence[Plugins[Any]]) -> list[str]:
    for text in names:
        if not any(_is_of(text, name, known) for known in groups for name in known):
            raise CliError(f"{text!r} is no plan, policy or rescale rule; `plugins` lists all")
    return list(dict.fromkeys(names))


def _broken(known: Plugins[Any], name: str, text: str) -> str | None:
    """Return what breaks the rules of its group, if anything does."""
    from sim.policies.conformance import PolicyConformanceError, check_policy, check_recipe
    from sim.policies.recipes import POLICIES, RECIPES
    from sim.policies.rule_conformance import check_rule

    checks: list[tuple[Plugins[Any], Callable[[], None]]] = [
        (RECIPES, lambda: check_recipe(known[name])),
        (POLICIES, lambda: check_policy(known[name])),
    ]
    check = next((each for group, each in checks if group is known), lambda: check_rule(text))
    try:
        check()
    except PolicyConformanceError as error:
        return str(error)
    return None


def _print(rows: Sequence[dict[str, Any]], checked: bool) -> None:
    from experiments.render import line, show, table

    console = stdout_console()
    broken = "breaks a rule" if checked else "cannot be used"
    cells = []
    for row in rows:
        good = "keeps to the rules" if checked else row["about"]
        cells.append((row["kind"], row["name"], row["from"], broken if row["error"] else good))
    columns = ("kind", "name", "from", "result" if checked else "what it is")
    show(console, table("Plans, policies and rescale rules", columns, cells, left=4, keys=2))
    for row in rows:
        if row["error"]:
            line(console, row["error"])
