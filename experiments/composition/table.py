"""The table of pairs as text, and the page that shows it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.composition.pairs import APART, FAILED, ONE, REFUSED, RUNS, Pair
from experiments.composition.techniques import CATALOGUE

PAGE = Path("docs/background/composition.md")
COMMAND = "$ python -m experiments.composition"
BLOCK = re.compile(rf"^{re.escape(COMMAND)}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARKS = {RUNS: "+", APART: "/", ONE: "=", REFUSED: "-", FAILED: "!"}
MEANINGS = {
    RUNS: "run together",
    APART: "exclude each other on a layer and run on different layers of one plan",
    ONE: "are choices of which a plan or a training has one",
    REFUSED: "are refused",
    FAILED: "FAIL, which is a fault",
}
WIDTH = 98
"""Longest line."""
INDENT = 6


def shown(pairs: Sequence[Pair]) -> str:
    """Return the techniques, the table, and every message that keeps pairs apart."""
    names = [name for name in CATALOGUE if any(name in (p.first, p.second) for p in pairs)]
    lines = [f"{len(names)} techniques, {len(pairs)} pairs"]
    counts = Counter(pair.result for pair in pairs)
    lines += [
        f"  {MARKS[result]}  {counts[result]:4d} {MEANINGS[result]}"
        for result in MARKS
        if counts[result]
    ]
    return "\n".join([*lines, "", *_matrix(names, pairs), "", *_reasons(pairs)])


def _matrix(names: Sequence[str], pairs: Iterable[Pair]) -> list[str]:
    """One row a technique: how it goes with those before it."""
    found = {frozenset((p.first, p.second)): MARKS[p.result] for p in pairs}
    widest = max(map(len, names))
    lines = []
    for number, name in enumerate(names, 1):
        row = "".join(found.get(frozenset((name, other)), " ") for other in names[: number - 1])
        lines.append(f"{number:3d} {name:{widest}s} {row}\\")
    ruler = [*range(1, len(names) + 1)]
    head = " " * (widest + 5)
    tens = "".join(str(k // 10) if k >= 10 else " " for k in ruler)
    return [head + tens, head + "".join(str(k % 10) for k in ruler), *lines]


def _reasons(pairs: Iterable[Pair]) -> list[str]:
    """Every message that keeps pairs apart, with the pairs."""
    kept: dict[tuple[str, str], dict[str, list[str]]] = {}
    for pair in pairs:
        if pair.result != RUNS:
            where = kept.setdefault((pair.result, message_of(pair.why)), {})
            where.setdefault(pair.second, []).append(pair.first)
    lines = []
    for (result, message), where in sorted(kept.items(), key=lambda one: [*MARKS].index(one[0][0])):
        by_partners: dict[tuple[str, ...], list[str]] = {}
        for second, firsts in where.items():
            by_partners.setdefault(tuple(firsts), []).append(second)
        lines += _wrapped(f"{MARKS[result]} {message}", 2)
        for partners, seconds in by_partners.items():
            lines += _wrapped(f"{', '.join(seconds)} | {', '.join(partners)}", INDENT, first=4)
    return lines


def message_of(why: str) -> str:
    """Return a refusal without the plan's name and the subject, which are those of one example.

    >>> message_of("plan 'composed': backward.conv1 = 'mask' is not allowed; choose one of exact")
    "backward = 'mask' is not allowed; choose one of exact"
    """
    why = re.sub(r"^plan '[^']*': ", "", why)
    return re.sub(r"^(placement|precision|backward|batch_split)\.\S+ = ", r"\1 = ", why)


def _wrapped(text: str, indent: int, first: int = 0) -> list[str]:
    lines, line = [], " " * first
    for word in text.split(" "):
        if len(line) + len(word) > WIDTH and line.strip():
            lines.append(line.rstrip())
            line = " " * indent
        line += word + " "
    return [*lines, line.rstrip()]


def described() -> str:
    """Return what each technique is."""
    lines = []
    for number, technique in enumerate(CATALOGUE.values(), 1):
        needs = f" (with {', '.join(technique.needs)})" if technique.needs else ""
        lines.append(f"{number:3d} {technique.name}: {technique.summary}{needs}")
    return "\n".join(lines)


def kept_in(page: str) -> str:
    """Return what a page shows of the command; empty if there is no such block."""
    block = BLOCK.search(page)
    return "" if block is None else block[1]


def kept_table() -> str:
    """Return what the page shows of the command.

    Raises
    ------
    ValueError
        The page is not there, or has no such block.
    """
    text = kept_in(PAGE.read_text("utf-8")) if PAGE.is_file() else ""
    if not text:
        raise ValueError(f"{PAGE} holds no table; run this from the root of the repository")
    return text


def renewed(page: str, text: str) -> str:
    """Return a page with its block replaced.

    Raises
    ------
    ValueError
        It has no block that begins with the command.
    """
    if BLOCK.search(page) is None:
        raise ValueError(f"{PAGE} has no console block that begins with {COMMAND!r}; add one")
    return BLOCK.sub(lambda _: f"{COMMAND}\n{text}\n```", page)


def pairs_in(text: str) -> dict[tuple[str, str], str]:
    """Return the result of each pair that a shown table holds."""
    results = {mark: result for result, mark in MARKS.items()}
    rows = re.findall(r"^ *\d+ (\S+) +([-+/=!]*)\\$", text, re.MULTILINE)
    names = [name for name, _ in rows]
    return {
        (names[column], name): results[mark]
        for name, marks in rows
        for column, mark in enumerate(marks)
    }


def reasons_in(text: str) -> dict[tuple[str, str], str]:
    """Return the message that keeps each pair apart, as a shown table tells it."""
    marks = "".join(mark for mark in MARKS.values() if mark != MARKS[RUNS])
    blocks = re.split(rf"^[{re.escape(marks)}] ", text, flags=re.MULTILINE)[1:]
    found: dict[tuple[str, str], str] = {}
    for block in blocks:
        whole = re.sub(rf"\n {{{INDENT}}}(?=\S)|\n  (?=\S)", " ", block)
        message, *lines = whole.strip().splitlines()
        for line in lines:
            seconds, firsts = (names.strip().split(", ") for names in line.split(" | "))
            found |= {(first, second): message for first in firsts for second in seconds}
    return found


def looked_up(names: Sequence[str], text: str) -> str:
    """Return how two techniques go together, or one with all others, by a shown table.

    Raises
    ------
    ValueError
        A name is not in the table, the two are one, or there are more.
    """
    kept = pairs_in(text)
    known = dict.fromkeys(name for pair in kept for name in pair)
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is not in the table; allowed: {', '.join(known)}")
    if len(set(names)) != len(names) or len(names) > 2:
        raise ValueError("give one technique, or two that differ")
    if len(names) == 2:
        pair = names[0], names[1]
        pair = pair if pair in kept else pair[::-1]
        why = reasons_in(text).get(pair)
        said = f"{' and '.join(names)} {MEANINGS[kept[pair]]}"
        return said if why is None else "\n".join([f"{said}:", *_wrapped(why, 2, first=2)])
    lines = []
    for result in MARKS:
        others = [
            other
            for pair in kept
            if kept[pair] == result and names[0] in pair
            for other in pair
            if other != names[0]
        ]
        if others:
            lines += _wrapped(f"{names[0]} and each of these {MEANINGS[result]}:", 2)
            lines += _wrapped(", ".join(others), 2, first=2)
    return "\n".join(lines)
