"""What a file of a result must agree on with itself before anyone builds upon it.

The schema says of what kind each field is. Here is what it cannot say: numbers that JSON has and
arithmetic has not, parts that other modules make, and fields that contradict each other.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import TypeAdapter, ValidationError

from experiments.search.front import LARGEST_VALUE, Found, front_sha256, undominated
from experiments.search.objectives import (
    COLUMNS,
    SearchError,
    check_limits,
    check_objectives,
    column_of,
)
from experiments.values import short

if TYPE_CHECKING:
    from experiments.search.result import SearchResult

BASELINE = "baseline:"
"""What ids of baselines begin with on a report's page; no plan of a front may take one."""


def check_numbers(document: object, where: str) -> None:
    """Refuse numbers that are not finite, or beyond 64 bits.

    Raises
    ------
    SearchError
        There is one; the message names its field.
    """
    waiting: list[tuple[str, object]] = [("", document)]
    while waiting:  # no recursion: a file may be as deep as it likes
        field, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{field}.{key}" if field else str(key), v) for key, v in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(f"{field}.{k}", v) for k, v in enumerate(value)]
        elif isinstance(value, int | float) and not (
            isfinite(value) if isinstance(value, float) else abs(value) <= LARGEST_VALUE
        ):
            name = field if field.isprintable() else short(field)
            raise SearchError(
                f"{where}: {name}: {short(value)} is not allowed; give a finite number of 64 bits"
            )


class Documented(Protocol):
    """A part of a result that another module makes."""

    def document(self) -> dict[str, Any]:
        """Return it as plain data."""


def read_part(kind: type[Documented], part: object) -> Documented | None:
    """Read a part of a result that another module makes: a dataclass, from what it documents.

    Raises
    ------
    SearchError
        A field is missing, unknown, of another type, or not what the others come to.
    """
    if part is None or isinstance(part, kind):
        return part
    stated = json.dumps(part)
    try:
        found: Documented = TypeAdapter(kind).validate_json(stated, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "(whole)"
        raise SearchError(
            f"{field if field.isprintable() else short(field)}: {short(first['input'])} is not "
            f"allowed ({first['msg']}); search again"
        ) from None
    _check_same(json.loads(json.dumps(found.document())), json.loads(stated), "")
    return found


def _check_same(made: object, stated: object, where: str) -> None:
    """Refuse what a part states beside its fields, or otherwise than they give it."""
    if made == stated:
        return
    pairs: list[tuple[str, object, object]] = []
    if isinstance(made, dict) and isinstance(stated, dict):
        keys = {**made, **stated}
        pairs = [(f"{where}.{key}", made.get(key), stated.get(key)) for key in keys]
    elif isinstance(made, list) and isinstance(stated, list) and len(made) == len(stated):
        pairs = [(f"{where}.{k}", *pair) for k, pair in enumerate(zip(made, stated, strict=True))]
    for name, inner, outer in pairs:
        _check_same(inner, outer, name)
    field = where.removeprefix(".") or "(whole)"
    raise SearchError(
        f"{field if field.isprintable() else short(field)}: {short(stated)} is not what the other "
        f"fields come to, {short(made)}; search again"
    )


def check_consistent(found: SearchResult, where: str) -> None:
    """Refuse a result that contradicts itself.

    Raises
    ------
    SearchError
        It does; the message names the field, what it is and what is allowed.
    """
    for check in (_objectives, _names, _front, _progress, _parts, _digest):
        try:
            check(found)
        except ValueError as error:
            raise SearchError(f"{where}: {error}") from None


def _field(name: str, check: Callable[[Any], object], value: object) -> None:
    try:
        check(value)
    except ValueError as error:
        raise SearchError(f"{name}: {error}") from None


def _objectives(found: SearchResult) -> None:
    _field("objectives", check_objectives, found.objectives)
    _field("limits", check_limits, found.limits)
    stated = found.manifest.problem.get("objectives", list(found.objectives))
    if stated != list(found.objectives):
        raise SearchError(
            f"objectives: are {','.join(found.objectives)}, and {short(stated)} in "
            "manifest.problem; give the same"
        )


def _names(found: SearchResult) -> None:
    _once("front: id", (plan.id for plan in found.front))
    _once("baselines: name", (plan.name for plan in found.baselines))
    for plan in found.front:
        if plan.id.startswith(BASELINE):
            raise SearchError(f"front: id {short(plan.id)} is that of a baseline; give another")


def _once(what: str, names: Iterable[str]) -> None:
    name, times = Counter(names).most_common(1)[0] if (names := list(names)) else ("", 1)
    if times > 1:
        raise SearchError(f"{what} {short(name)} is there {times} times; give each once")


def _front(found: SearchResult) -> None:
    """Plans of the front are within the limits, none dominates another, the best is chosen."""
    columns = [column_of(name) for name in found.objectives]
    values = [tuple(getattr(plan, c) for c in columns) for plan in found.front]
    kept = undominated(np.array(values, dtype=np.int64))
    for plan, one, ok in zip(found.front, values, kept, strict=True):
        if not ok or values.count(one) > 1:
            raise SearchError(
                f"front: {short(plan.id)} is no better in any objective than another plan of the "
                "front; leave it out"
            )
        for name, limit in found.limits.items():
            value = getattr(plan, column_of(name))
            if value > limit:
                raise SearchError(
                    f"front: {column_of(name)} of {short(plan.id)} is {value}, and limits allow "
                    f"{limit}; leave it out"
                )
    best = found.front[values.index(min(values))].id
    if found.chosen not in {plan.id for plan in found.front}:
        raise SearchError(f"chosen: {found.chosen!r} is no plan of the front")
    if found.chosen != best:
        raise SearchError(
            f"chosen: is {short(found.chosen)}, and {short(best)} is best in "
            f"{found.objectives[0]}; give that"
        )


def _progress(found: SearchResult) -> None:
    shards = [row[0] for row in found.progress]
    if shards != sorted(set(shards)) or min(shards, default=1) < 1:
        raise SearchError("progress: its shards do not rise from 1; search again")
    here = found.manifest.shards, found.manifest.evaluations
    if found.progress and found.progress[-1][:2] != here:
        raise SearchError(
            f"progress: ends with {found.progress[-1][:2]} shards and evaluations, and manifest "
            f"has {here}; search again"
        )


def _parts(found: SearchResult) -> None:
    if found.robustness is not None and not found.robustness.spreads:
        raise SearchError("robustness.spreads: is empty; leave robustness out, or search again")
    if found.bound is not None:
        _check_bound(found.bound.time_ns, min(plan.time_ns for plan in found.front))


def _check_bound(bound: int, quickest: int) -> None:
    if not 0 <= bound <= quickest:
        raise SearchError(
            f"bound.time_ns: {bound} is not allowed; give 0 to {quickest}, the time of the "
            "quickest plan of the front"
        )


def _digest(found: SearchResult) -> None:
    """The front is the one that the manifest names."""
    plans = [Found(tuple(getattr(p, c) for c in COLUMNS), p.genes) for p in found.front]
    digest, stated = front_sha256(plans), found.manifest.front_sha256
    if digest != stated:
        raise SearchError(
            f"manifest.front_sha256: is {short(stated[:12])}..., and measures and genes of the "
            f"front give {digest[:12]}...: one of them was changed; search again"
        )
