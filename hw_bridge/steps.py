"""One thing that a backend needs: whether it is there, and what to do if not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hw_bridge.errors import BridgeError


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is needed.

    Attributes
    ----------
    name
        What it is.
    ok
        Whether it is there and works.
    found
        Its version, or what went wrong.
    remedy
        What to do; empty if it is there.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""


def look(name: str, find: Callable[[], str], remedy: str) -> Step:
    """Try to find it; what an error of the bridge says becomes the step's failure."""
    try:
        return Step(name, True, find())
    except (BridgeError, OSError) as error:
        return Step(name, False, str(error), remedy)
