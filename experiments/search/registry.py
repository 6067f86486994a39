"""Searchers by name: built-in ones and users' ones alike are entry points of one group."""

from __future__ import annotations

from difflib import get_close_matches
from typing import cast

from experiments.search.objectives import SearchError
from experiments.search.protocol import SearcherFactory
from experiments.values import short
from sim.plugins import Plugins


def _accept(name: str, given: object) -> SearcherFactory:
    if not callable(given):
        raise TypeError(
            f"it is {short(given)}; name a subclass of experiments.search.Searcher there"
        )
    return cast(SearcherFactory, given)


SEARCHERS: Plugins[SearcherFactory] = Plugins("mandheling.searchers", "searcher", _accept)
"""What makes the searcher of each name."""


def searcher_names() -> tuple[str, ...]:
    """Return the names of all searchers that are installed, sorted."""
    return tuple(sorted(SEARCHERS))


def check_searcher_name(name: str) -> str:
    """Return the name of a searcher that is installed; imports nothing of it.

    Raises
    ------
    SearchError
        There is none of this name.
    """
    if name not in SEARCHERS:
        close = get_close_matches(str(name), SEARCHERS, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        names = ", ".join(searcher_names()) or "none: install this project again (pip install .)"
        raise SearchError(f"searcher {short(name)} is unknown{hint}; installed are {names}")
    return name


def load_searcher(name: str) -> SearcherFactory:
    """Return what makes the searchers of this name.

    Raises
    ------
    SearchError
        There is none of this name.
    PluginError
        It cannot be imported or called, or there are several.
    """
    return SEARCHERS[check_searcher_name(name)]
