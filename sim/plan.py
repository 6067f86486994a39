"""A plan is data: choices by (aspect, subject), for one graph, and nothing else.

A policy makes a plan; every executor runs it. Plans are frozen, sort their choices, survive a
JSON round trip byte for byte and can be compared. What a plan does not mention takes
its aspect's default.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from cost_models.errors import shown
from cost_models.reading import each_key_once, read_bytes
from sim.files import write_atomic

SCHEMA_VERSION = 1
MAX_FILE_BYTES = 64 << 20
"""Plans of the largest networks take less than 1 MB."""
MAX_NAME_CHARS = 200
Key = tuple[str, str]


class PlanError(ValueError):
    """A plan, or a choice in it, cannot be used; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Choices of one training step.

    Attributes
    ----------
    name
        A label for people, without meaning: up to 200 printable characters.
    graph_hash
        :meth:`sim.graph.TrainingGraph.hash` of the graph that the subjects belong to.
    choices
        ``((aspect, subject), choice)``, sorted and without repetition.
    """

    name: str
    graph_hash: str
    choices: tuple[tuple[Key, str], ...]
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if len(self.name) > MAX_NAME_CHARS or not self.name.isprintable():
            raise PlanError(
                f"plan name {self.name[:40]!a} ({len(self.name)} characters) is not allowed; "
                f"give up to {MAX_NAME_CHARS} printable characters on one line"
            )
        keys = [key for key, _ in self.choices]
        if any(a >= b for a, b in pairwise(keys)):
            raise PlanError(f"plan {self.name!r}: choices must be sorted, each once: use Plan.make")

    @classmethod
    def make(cls, name: str, graph_hash: str, choices: Mapping[Key, str]) -> Plan:
        """Build a plan from a mapping, sorting its choices."""
        return cls(name, graph_hash, tuple(sorted(choices.items())))

    def aspect(self, name: str) -> dict[str, str]:
        """Choices of one aspect, by subject."""
        first = bisect_left(self.choices, name, key=lambda pair: pair[0][0])
        found = takewhile(lambda pair: pair[0][0] == name, self.choices[first:])
        return {subject: choice for (_, subject), choice in found}

    def get(self, aspect: str, subject: str, default: str) -> str:
        """Return the choice for a subject, or ``default`` where the plan is silent."""
        return dict(self.choices).get((aspect, subject), default)

    def replace(self, aspect: str, subject: str, choice: str) -> Plan:
        """Return the same plan with one choice changed or added."""
        return self.update({(aspect, subject): choice})

    def update(self, changes: Mapping[Key, str], name: str | None = None) -> Plan:
        """Return the same plan with several choices changed or added."""
        return Plan.make(name or self.name, self.graph_hash, {**dict(self.choices), **changes})

    def diff(self, other: Plan) -> list[tuple[str, str, str | None, str | None]]:
        """List ``(aspect, subject, here, there)`` wherever two plans differ, sorted."""
        here, there = dict(self.choices), dict(other.choices)
        keys = sorted(here.keys() | there.keys())
        return [(*k, here.get(k), there.get(k)) for k in keys if here.get(k) != there.get(k)]

    def to_json(self) -> str:
        """Canonical JSON: the same plan always gives the same bytes."""
        nested: dict[str, dict[str, str]] = {}
        for (aspect, subject), choice in self.choices:
            nested.setdefault(aspect, {})[subject] = choice
        document = {
            "schema_version": self.schema_version,
            "name": self.name,
            "graph_hash": self.graph_hash,
            "choices": nested,
        }
        return json.dumps(document, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "plan") -> Plan:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        PlanError
            The text is not JSON, has unknown or missing keys, or another schema version.
        """
        try:
            document = json.loads(text, object_pairs_hook=each_key_once)
        except (ValueError, RecursionError) as error:  # also for integers of 4300 digits or more
            raise PlanError(
                f"{where}: not JSON ({error}); write it with `plan show --json`"
            ) from None
        expected = {"schema_version", "name", "graph_hash", "choices"}
        if not isinstance(document, dict) or document.keys() != expected:
            found = (
                shown(sorted(document)) if isinstance(document, dict) else type(document).__name__
            )
            raise PlanError(f"{where}: keys are {found}; a plan has exactly {sorted(expected)}")
        version = document["schema_version"]
        if type(version) is not int or version != SCHEMA_VERSION:  # True and 1.0 equal 1
            raise PlanError(
                f"{where}: schema_version {shown(version)} is not {SCHEMA_VERSION}; "
                "write the plan again with this version"
            )
        for field in ("name", "graph_hash"):
            if not isinstance(document[field], str):
                raise PlanError(f"{where}: {field} is {shown(document[field])}, not a string")
        choices = dict(_flatten(document["choices"], where))
        return cls.make(document["name"], document["graph_hash"], choices)

    def write(self, path: Path) -> None:
        """Write :meth:`to_json` to a file, whole or not at all.

        Raises
        ------
        FileError
            It cannot be written there; see :func:`sim.files.replacing`.
        """
        write_atomic(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a regular file of up to 64 MiB; see :meth:`from_json` for what else is refused."""
        raw = read_bytes(path, MAX_FILE_BYTES, PlanError)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise PlanError(f"{path}: cannot be read ({error}); save it as UTF-8") from None
        return cls.from_json(text, str(path))


def _flatten(nested: Any, where: str) -> Iterable[tuple[Key, str]]:
    if not isinstance(nested, dict):
        raise PlanError(f"{where}: choices must be a mapping of aspects, not {shown(nested)}")
    for aspect, subjects in nested.items():
        if not isinstance(subjects, dict):
            raise PlanError(f"{where}: choices.{aspect} must map subjects to choices")
        for subject, choice in subjects.items():
            if not isinstance(choice, str):
                raise PlanError(
                    f"{where}: choices.{aspect}.{subject} is {shown(choice)}, not a string"
                )
            yield (aspect, subject), choice
