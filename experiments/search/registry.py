"""Searchers by name: built-in ones and users' ones alike are entry points of one group."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from experiments.search.objectives import SearchError
from experiments.search.protocol import SearcherFactory
from experiments.values import short

GROUP = "mandheling.searchers"


def searcher_names() -> tuple[str, ...]:
    """Return the names of all searchers that are installed, sorted."""
    return tuple(sorted(_points()))


def check_searcher_name(name: str) -> str:
    """Return the name of a searcher that is installed; imports nothing of it.

    Raises
    ------
    SearchError
        There is none of this name, or there are several.
    """
    _point(name)
    return name


def load_searcher(name: str) -> SearcherFactory:
    """Return what makes the searchers of this name.

    Raises
    ------
    SearchError
        There is none of this name, or several, or it cannot be imported or called.
    """
    point = _point(name)
    try:
        factory = point.load()
    except Exception as error:  # a user's module may raise anything
        raise SearchError(
            f"searcher {name!r} ({_origin(point)}) cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(factory):
        raise SearchError(
            f"searcher {name!r} ({_origin(point)}) is {short(factory)}; name a subclass of "
            "experiments.search.Searcher in its entry point"
        )
    made: SearcherFactory = factory
    return made


def _points() -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def _point(name: str) -> EntryPoint:
    known = _points()
    if not known:
        raise SearchError(
            f"no searcher is installed: the entry points of {GROUP} are missing; install this "
            "project again (pip install -e .)"
        )
    points = known.get(name, [])
    if not points:
        close = get_close_matches(str(name), known, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise SearchError(
            f"searcher {short(name)} is unknown{hint}; choose one of {', '.join(sorted(known))}"
        )
    if len({point.value for point in points}) > 1:
        origins = " and ".join(sorted(map(_origin, points)))
        raise SearchError(f"searcher {name!r} comes from {origins}; uninstall one of them")
    return points[0]


def _origin(point: EntryPoint) -> str:
    package = point.dist.name if point.dist is not None else "an unnamed distribution"
    return f"{point.value} of {package}"
