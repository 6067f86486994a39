"""Pairs of techniques: how each pair composes, found by running it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations

from experiments.composition.combine import (
    BOTH,
    OneChoiceError,
    Parts,
    WholeChoiceError,
    united,
    with_needs,
    yielding,
)
from experiments.composition.runs import CompositionError, Evidence, evidence
from experiments.composition.techniques import CATALOGUE
from sim import PlanError

RUNS, APART, ONE, REFUSED, FAILED = "runs", "apart", "one choice", "refused", "failed"
"""Together everywhere; on different layers of one plan; a plan has one choice; refused by a
declared conflict; anything else, which is a fault."""


@dataclass(frozen=True, slots=True)
class Pair:
    """How two techniques compose, and the message that keeps them apart, if any."""

    first: str
    second: str
    result: str
    why: str = ""


@dataclass(slots=True)
class Tried:
    """Sets of techniques that were run, with what they came to; each is run once."""

    found: dict[tuple[tuple[str, frozenset[int]], ...], tuple[Evidence, ...]] = field(
        default_factory=dict
    )

    def evidence(self, parts: Parts) -> tuple[Evidence, ...]:
        """Return :func:`experiments.composition.runs.evidence`, remembered."""
        key = tuple(parts.items())
        if key not in self.found:
            self.found[key] = evidence(parts)
        return self.found[key]

    def check(self, parts: Parts, names: Iterable[str]) -> None:
        """Run techniques together; make sure that each of ``names`` is really on.

        Raises
        ------
        PlanError
            They exclude each other.
        CompositionError
            One changes nothing of what it should, or something that it must not.
        """
        whole = self.evidence(parts)
        for name in names:
            if any(name in with_needs(other) for other in parts if other != name):
                continue  # without it the other is off, too
            without = {other: halves for other, halves in parts.items() if other != name}
            rest = self.evidence(without)
            technique = CATALOGUE[name]
            for what in technique.changes:
                if _column(whole, what) == _column(rest, what):
                    raise CompositionError(f"{name} is dropped: it changes no {what}")
            for what in technique.keeps:
                if _column(whole, what) != _column(rest, what):
                    raise CompositionError(f"{name} must not change {what}, and does")


def _column(found: tuple[Evidence, ...], what: str) -> tuple[str, ...]:
    return tuple(getattr(one, what) for one in found)


def judged(first: str, second: str, tried: Tried) -> Pair:
    """Run two techniques together, or, if that is refused, on different layers of one plan."""
    names = first, second
    together = united((first, BOTH), (second, BOTH))
    try:
        tried.check(together, names)
        yields = yielding(together, names)
        return Pair(*names, APART if yields else RUNS, yields)
    except PlanError as error:
        refusal = error
    except Exception as error:  # whatever it is, it is no declared conflict
        return Pair(*names, FAILED, f"{type(error).__name__}: {error}")
    if isinstance(refusal, WholeChoiceError):
        return Pair(*names, ONE, str(refusal))
    try:
        tried.check(united((first, frozenset({0})), (second, frozenset({1}))), names)
        return Pair(*names, APART, str(refusal))
    except OneChoiceError as error:
        return Pair(*names, ONE, str(error))
    except PlanError as error:
        said = error if isinstance(refusal, OneChoiceError) else refusal
        return Pair(*names, REFUSED, str(said))
    except Exception as error:
        return Pair(*names, FAILED, f"on different layers: {type(error).__name__}: {error}")


def every_pair(names: Iterable[str] = CATALOGUE) -> list[tuple[str, str]]:
    """Return the unordered pairs of techniques, in the order of the table."""
    return [*combinations(names, 2)]
