"""What a search's result depends on besides the problem: versions of all that takes part."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from experiments.results import versions
from experiments.search.problem import Problem
from experiments.search.registry import SEARCHERS
from sim.plugins import OWN
from sim.policies.recipes import RECIPES
from sim.rescaling import RULES


def versions_of(problem: Problem) -> dict[str, str]:
    """Return the versions that the result of a search may depend on, by distribution.

    These are those of :func:`experiments.results.versions`, of the packages that the searcher
    names (where they are installed: it refuses to work without), and of the distributions that
    bring the searcher, and the plans and rescale rules that were asked for.

    Raises
    ------
    PluginError
        The searcher cannot be imported.
    """
    found = versions()
    for name in getattr(SEARCHERS[problem.searcher], "packages", ()):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    origins = [
        SEARCHERS.origin(problem.searcher),
        *(RECIPES.origin(name) for name in problem.starts),
        *(RULES.origin(rule.partition(":")[0]) for rule in problem.rules),
    ]
    for origin in origins:
        brought, _, which = origin.rpartition(" ")
        if brought != OWN:
            found[brought] = which
    return dict(sorted(found.items()))


def differing(here: Mapping[str, str], known: Mapping[str, str]) -> str:
    """Return which versions here are other than those known, for a message; empty if none are."""
    names = sorted(n for n in here.keys() | known.keys() if here.get(n) != known.get(n))
    return "; ".join(f"{n} {here.get(n, 'missing')}, not {known.get(n, 'missing')}" for n in names)
