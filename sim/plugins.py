"""Plug-ins: objects with a name that installed distributions bring, this one like any other.

A distribution lists what it brings among the entry points of its ``pyproject.toml``::

    [project.entry-points."mandheling.plans"]
    my-plan = "my_package:MY_PLAN"

:class:`Plugins` is the table of one such group. Names are known without an import; an object is
imported when it is asked for. What cannot be imported, is of another kind than its group, or has
a name twice is refused in one line that names the distribution, and only when somebody asks for
it: everything else goes on working.

A script may also :meth:`~Plugins.add` an object of its own, for its own process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

T = TypeVar("T")

OWN = "mandheling-sandbox"
"""The distribution that brings the built-in ones."""
HERE = "this process"
"""Origin of what a script added."""


class PluginError(ValueError):
    """A plug-in cannot be used; the message names it, its distribution, and what to do."""


class Plugins(Mapping[str, T], Generic[T]):
    """The objects of one group of entry points, by name.

    Parameters
    ----------
    group
        Name of the group, such as ``mandheling.plans``.
    noun
        What one of them is called in messages.
    accept
        Makes of a name and a loaded object what is handed out; raises ValueError or TypeError if
        the object is not of this group's kind.

    Examples
    --------
    >>> from sim.rescaling import RULES
    >>> RULES.origin("adaptive").partition(" ")[0]
    'mandheling-sandbox'
    """

    def __init__(self, group: str, noun: str, accept: Callable[[str, object], T]) -> None:
        self.group, self.noun = group, noun
        self._accept = accept
        self._added: dict[str, tuple[object, T]] = {}
        self._loaded: dict[tuple[str, str], T] = {}

    def __iter__(self) -> Iterator[str]:
        """Names, the built-in ones first; those of broken plug-ins too."""
        return iter((*self._installed, *self._added))

    def __len__(self) -> int:
        return len(self._installed) + len(self._added)

    def __contains__(self, name: object) -> bool:
        return name in self._added or name in self._installed

    def __getitem__(self, name: str) -> T:
        """Return the object of that name, importing it if need be.

        Raises
        ------
        KeyError
            There is none.
        PluginError
            There is one that cannot be used.
        """
        if name in self._added:
            return self._added[name][1]
        found = self._installed[name]
        if len(found) > 1:
            brought = " and ".join(sorted(_brought_by(entry) for entry in found))
            raise PluginError(
                f"{self.noun} {name!r} is there twice ({self.group}: {brought}); uninstall one, "
                "or give it another name"
            )
        (entry,) = found
        key = name, entry.value
        if key not in self._loaded:
            self._loaded[key] = self._load(entry)
        return self._loaded[key]

    def _load(self, entry: EntryPoint) -> T:
        try:
            loaded = entry.load()
        except (Exception, SystemExit) as error:  # whatever a module does when it is imported
            raise PluginError(
                f"{self.noun} {entry.name!r} of {_brought_by(entry)} cannot be imported from "
                f"{entry.value!r}: {described(error)}; mend or uninstall that distribution"
            ) from error
        return self._accepted(entry.name, loaded, f"of {_brought_by(entry)} ({entry.value})")

    def _accepted(self, name: str, given: object, whence: str) -> T:
        try:
            return self._accept(name, given)
        except Exception as error:  # a constructor of the plug-in may raise anything
            reason = str(error) if isinstance(error, PluginError) else described(error)
            raise PluginError(f"{self.noun} {name!r} {whence}: {reason}") from error

    def add(self, name: str, given: object) -> None:
        """Add an object for this process alone: for scripts, where nothing is installed.

        Workers of a search and other programs do not have it. A name keeps its object, since
        results are remembered by name; adding the same object again changes nothing.

        Raises
        ------
        PluginError
            The name has another object, or the object is not of this group's kind.
        """
        if name in self._added and self._added[name][0] is given:
            return
        if name in self:
            raise PluginError(
                f"{self.noun} {name!r} is there already (of {self.origin(name)}), and results are "
                "remembered by name; choose another name, or start Python again"
            )
        self._added[name] = given, self._accepted(name, given, f"of {HERE}")

    def origin(self, name: str) -> str:
        """Return what brings a name: a distribution with its version; KeyError if nothing does."""
        if name in self._added:
            return HERE
        return " and ".join(sorted(map(_brought_by, self._installed[name])))

    def built_in(self) -> tuple[str, ...]:
        """Return the names that come with the sandbox."""
        return tuple(n for n, found in self._installed.items() if any(map(_is_own, found)))

    def problems(self) -> dict[str, str]:
        """Return what is wrong with each name that cannot be used; imports all of them."""
        found = {}
        for name in self:
            try:
                self[name]
            except PluginError as error:
                found[name] = str(error)
        return found

    def usable(self) -> dict[str, T]:
        """Return all that can be used; what cannot is told by :meth:`problems`."""
        broken = self.problems()
        return {name: self[name] for name in self if name not in broken}

    @property
    def _installed(self) -> dict[str, tuple[EntryPoint, ...]]:
        return _found(self.group, tuple(sys.path))


@lru_cache(maxsize=16)
def _found(group: str, path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """Entry points of a group by name as found on this ``sys.path``: our own first, by name.

    Metadata is read once per search path.
    """
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in sorted(entry_points(group=group), key=lambda e: (not _is_own(e), e.name, e.value)):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    if not any(_is_own(entry) for entries in found.values() for entry in entries):
        raise PluginError(
            f"{group}: what is installed of {OWN} lists nothing there: it is older than this "
            "code; install it again (python -m pip install --no-deps -e . in its folder)"
        )
    return found


def _is_own(entry: EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name == OWN


def _brought_by(entry: EntryPoint) -> str:
    """Distribution and version."""
    return (
        "an unnamed distribution"
        if entry.dist is None
        else (f"{entry.dist.name} {entry.dist.version}")
    )


def described(error: BaseException) -> str:
    """Return an error as ``Kind: message``, or its kind alone where it has no message."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
