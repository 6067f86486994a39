"""Numbers of a description that come from calibration bundles, in place of written ones.

A file lists the bundles that it takes coefficients from under ``bundles``; instead of a ``value``
with ``kind`` and ``source``, a number then has ``calibrated``: a sum of coefficients, each
``bundle/coefficient`` with its weight. What is read is a plain ``derived`` quantity whose source
says the sum, and whose spread is what the fit leaves open, or a wider one that the file gives:

>>> from cost_models.device import load_device
>>> load_device("snapdragon-855").quantities()["fastrpc.modes.adaptive.null_us"].kind
'derived'

A bundle was fitted on something. Where that is not what the file describes, the file is refused
unless it says under ``accept`` why it takes the bundle all the same; reports repeat that. That one
kernel library is as fast as another is an assumption, so what a library takes from a bundle of
another one is ``assumed``, whatever the fit leaves open.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log, sqrt
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from cost_models.bundle import Bundle, FittedCoefficient, FittedOn
from cost_models.errors import CalibrationError, one_line, shown, unknown_name
from cost_models.quantity import DEFAULT_SPREAD, MAX_SPREAD, Name, Part, Prose, Spread

DIGITS: Final = 6
"""Significant digits of a calibrated number, as many as a bundle's coefficients have."""
WRITTEN: Final = ("value", "kind", "source", "spread", "rows", "common")
"""What a calibrated number has from its bundle and must not be given besides."""

Weight = Annotated[float, Field(strict=True)]
"""A number as it is written, not ``true`` and no text."""


class BundleUse(Part):
    """A bundle that a file takes coefficients from; ``accept``: why, though fitted elsewhere.

    ``sha256`` and ``fitted_on`` are those of the bundle and filled in as it is read.
    """

    name: Name
    accept: Prose | None = None
    sha256: str = ""
    fitted_on: tuple[FittedOn, ...] = ()

    def mismatches(self, facts: Mapping[str, str], asked: Container[str] = ()) -> list[str]:
        """Return in words what differs between what was fitted on and ``facts``.

        Of the facts ``asked`` for, one that the bundle does not tell differs too.
        """
        found = [
            f"{name} {on.facts.get(name, 'not told')}, not {value}"
            for on in self.fitted_on
            for name, value in facts.items()
            if on.facts.get(name, value if name not in asked else None) != value
        ]
        return list(dict.fromkeys(found))


class _Entry(Part):
    name: Name
    accept: Prose | None = None


class _Sum(Part):
    """``plus`` and the weighted coefficients, times powers of others; ``note``: in words.

    ``kind``: assumed where the arithmetic rests on more than the bundles. ``spread``: no less.
    """

    terms: dict[str, Weight] = Field(min_length=1)
    plus: Weight = 0.0
    times: dict[str, Annotated[Weight, Field(ge=-3, le=3)]] = Field(default_factory=dict)
    kind: Literal["assumed"] | None = None
    note: Prose | None = None
    spread: Spread | None = None


class _Rows(Part):
    rows: tuple[tuple[Weight, dict[str, Weight]], ...] = Field(min_length=2)
    kind: Literal["assumed"] | None = None
    note: Prose | None = None
    spread: Spread | None = None


def resolve(content: Mapping[str, Any], path: Path, library: str | None = None) -> dict[str, Any]:
    """Return the content of a file with all its calibrated numbers filled in.

    Parameters
    ----------
    content
        What the YAML file at ``path`` holds; bundles with a path are sought beside it.
    library
        Kernel library that the numbers are of, if they are of one.

    Raises
    ------
    CalibrationError
        Names file and field: an unknown bundle or coefficient, one that its rows do not identify,
        or a number that is both written and calibrated.
    """
    entries = content.get("bundles", ())
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise CalibrationError(f"{path.name}: bundles: {shown(entries)} is no list; write - name:")
    reader = _Reader(path, library)
    for index, entry in enumerate(entries):
        reader.take(f"bundles.{index}", entry)
    filled = {key: reader.filled(key, value) for key, value in content.items() if key != "bundles"}
    uses = reader.uses()
    return {**filled, "bundles": uses} if uses else filled


class _Reader:
    """Bundles of one file by name, and what of them was used."""

    def __init__(self, path: Path, library: str | None) -> None:
        self._path = path
        self._library = library
        self._entries: dict[str, _Entry] = {}
        self._bundles: dict[str, Bundle] = {}
        self._used: dict[str, dict[str, FittedOn]] = {}

    def _error(self, where: str, text: str) -> CalibrationError:
        return CalibrationError(f"{self._path.name}: {where}: {text}")

    def _parsed(self, model: type[Part], where: str, data: object) -> Any:
        try:
            return model.model_validate(data)
        except ValidationError as cause:
            raise CalibrationError(one_line(f"{self._path.name}: {where}", model, cause)) from None

    def take(self, where: str, data: object) -> None:
        entry: _Entry = self._parsed(_Entry, where, data)
        try:
            bundle = Bundle.load(entry.name, self._path.parent)
        except CalibrationError as cause:
            raise self._error(where, str(cause)) from None
        if bundle.name in self._bundles:
            raise self._error(where, f"bundle {bundle.name!r} is listed twice; keep one")
        self._entries[bundle.name], self._bundles[bundle.name] = entry, bundle
        self._used[bundle.name] = {}

    def uses(self) -> list[dict[str, Any]]:
        """What the description keeps of its bundles."""
        for name, used in self._used.items():
            if not used:
                raise self._error("bundles", f"{name} is listed and not used; remove it")
        return [
            {
                "name": entry.name,
                "accept": entry.accept,
                "sha256": self._bundles[name].sha256,
                "fitted_on": tuple(on.model_dump() for on in self._used[name].values()),
            }
            for name, entry in self._entries.items()
        ]

    def filled(self, where: str, node: Any) -> Any:
        """Return a part of the content with its calibrated numbers."""
        if isinstance(node, dict):
            if "calibrated" in node:
                return self._number(where, node)
            return {key: self.filled(f"{where}.{key}", value) for key, value in node.items()}
        if isinstance(node, list):
            return [self.filled(f"{where}.{index}", value) for index, value in enumerate(node)]
        return node

    def _number(self, where: str, node: Mapping[str, Any]) -> dict[str, Any]:
        twice = [key for key in WRITTEN if key in node]
        if twice:
            raise self._error(where, f"has {twice[0]} and calibrated; keep one of them")
        given, unit = node["calibrated"], str(node.get("unit", "")).rpartition(", ")[2]
        where = f"{where}.calibrated"
        table = isinstance(given, dict) and "rows" in given
        sums = self._parsed(_Rows if table else _Sum, where, given)
        rows = sums.rows if table else ((0.0, sums.terms),)
        powers: dict[str, float] = {} if table else sums.times
        used = {t: self._coefficient(where, t) for t in (*(t for _, r in rows for t in r), *powers)}
        other = [t for t, (_, each) in used.items() if each.unit != unit]
        if (other or powers) and sums.note is None:
            what = (
                f"{other[0]} is in {used[other[0]][1].unit!r}, not {unit!r}" if other else "times"
            )
            raise self._error(where, f"{what}; say the arithmetic in a note")
        plus = 0.0 if table else sums.plus
        found = [_valued(terms, plus, powers, used) for _, terms in rows]
        if not all(isfinite(each.value) for each in found):
            raise self._error(where, f"comes to {found[-1].value}; correct the weights")
        kind = sums.kind or self._kind(list(used))
        # What divides puts another in proportion; its own predictions are not asked for.
        asked = [term for term in used if powers.get(term, 1) > 0]
        limits = [_prediction_factor(used[term][0], term) for term in asked]
        least = DEFAULT_SPREAD["assumed"] if kind == "assumed" else 1.0
        widest = max(found, key=lambda each: each.factor)
        spread = min(MAX_SPREAD, max([sums.spread or 1.0, least, widest.factor, *limits]))
        filled = {
            **{key: value for key, value in node.items() if key != "calibrated"},
            "kind": kind,
            "spread": spread,
            "common": _within(widest.slopes, log(spread)),
            "source": self._source(sums, rows, powers),
        }
        if table:
            pairs = zip(rows, found, strict=True)
            return {**filled, "rows": [[row[0], each.value] for row, each in pairs]}
        return {**filled, "value": found[0].value}

    def _kind(self, terms: Sequence[str]) -> str:
        """Evidence of a number: a fit of another library says nothing sure of this one."""
        if self._library is None:
            return "derived"
        told = (term.partition("/")[::2] for term in terms)
        libraries = {self._bundles[b].measured_on(each).facts.get("library") for b, each in told}
        return "derived" if libraries == {self._library} else "assumed"

    def _coefficient(self, where: str, term: str) -> tuple[Bundle, FittedCoefficient]:
        name, _, coefficient = term.partition("/")
        if name not in self._bundles:
            known = list(self._bundles) or ["none; list it under bundles"]
            raise self._error(where, unknown_name("bundle of a term", name, known))
        bundle = self._bundles[name]
        try:
            found = bundle.coefficient(coefficient)
        except CalibrationError as cause:
            raise self._error(where, str(cause)) from None
        on = bundle.measured_on(coefficient)
        self._used[name][on.block] = on
        return bundle, found

    def _source(
        self, sums: Any, rows: Sequence[tuple[float, Mapping[str, float]]], powers: dict[str, float]
    ) -> str:
        terms = list(dict.fromkeys([*(term for _, each in rows for term in each), *powers]))
        formula = _formula(rows[0][1], sums.plus, powers) if len(rows) == 1 else ", ".join(terms)
        names = list(dict.fromkeys(term.partition("/")[0] for term in terms))
        quality = "; ".join(_quality(self._bundles[name], terms) for name in names)
        note = f"; {sums.note}" if sums.note else ""
        return f"calibration: {formula}{note}; {quality}"


@dataclass(frozen=True, slots=True)
class _Valued:
    """What a sum comes to, and the factor that the ranges of its coefficients leave open.

    ``slopes``: of each coefficient, how far the logarithm moves over the half-width of its range.
    """

    value: float
    factor: float
    slopes: tuple[tuple[str, float], ...]


def _valued(
    terms: Mapping[str, float],
    plus: float,
    powers: Mapping[str, float],
    used: Mapping[str, tuple[Bundle, FittedCoefficient]],
) -> _Valued:
    parts = {term: weight * used[term][1].value for term, weight in terms.items()}
    factors = {term: _factor(used[term][1]) for term in (*terms, *powers)}
    value = plus + sum(parts.values())
    slack = sum(abs(part) * (factors[term] - 1) for term, part in parts.items())
    factor = 1 + slack / abs(value) if value else 1.0
    elasticities = {term: part / value if value else 0.0 for term, part in parts.items()}
    for term, power in powers.items():
        value *= used[term][1].value ** power
        factor *= factors[term] ** abs(power)
        elasticities[term] = elasticities.get(term, 0.0) + power
    slopes = tuple((term, e * log(factors[term])) for term, e in elasticities.items())
    return _Valued(float(f"{value:.{DIGITS}g}"), factor, slopes)


def _within(slopes: Sequence[tuple[str, float]], most: float) -> list[tuple[str, float]]:
    """Slopes that together, as independent ones, do not come to more than ``most``."""
    whole = sqrt(sum(slope * slope for _, slope in slopes))
    scale = min(1.0, most / whole) if whole else 1.0
    return [(term, float(f"{slope * scale:.{DIGITS}g}")) for term, slope in slopes]


def _formula(terms: Mapping[str, float], plus: float, powers: Mapping[str, float]) -> str:
    """The sum and its factors on one line.

    >>> _formula({"a/x": 1, "a/y": -2}, 92, {"b/z": -1})
    '(a/x - 2 a/y + 92) / b/z'
    """
    weights = [(weight, term) for term, weight in terms.items()] + ([(plus, "")] if plus else [])
    text = ""
    for weight, term in weights:
        sign = " - " if weight < 0 else " + "
        size = "" if term and abs(weight) == 1 else f"{abs(weight):g}"
        text += f"{sign}{size} {term}".replace("  ", " ") if text else f"{size} {term}"
    if weights and weights[0][0] < 0:
        text = f"-{text.strip()}"
    text = f"({text.strip()})" if powers and len(weights) > 1 else text.strip()
    for term, power in powers.items():
        text += f" {'/' if power < 0 else 'x'} {term}"
        text += f"^{abs(power):g}" if abs(power) != 1 else ""
    return text


def _quality(bundle: Bundle, terms: Sequence[str]) -> str:
    worst = max(bundle.validations, key=lambda each: each.median)
    own = [term.partition("/")[2] for term in terms if term.startswith(f"{bundle.name}/")]
    on = dict.fromkeys(bundle.measured_on(each).words for each in own)
    return (
        f"{bundle.name} was fitted on {' and '.join(on)}; held-out error {100 * worst.median:.1f} "
        f"% (median of {worst.rows} rows in {worst.groups} groups by {worst.by})"
    )


def _factor(each: FittedCoefficient) -> float:
    """Half-width of a coefficient's range as a factor; where there is none, that of a guess."""
    if each.low is None or each.high is None:
        return DEFAULT_SPREAD["assumed"]
    return max(each.high / each.value, each.value / each.low)


def _prediction_factor(bundle: Bundle, term: str) -> float:
    """Half-width of what a measurement was off its held-out prediction, as a factor.

    That of the term's own block. A range that a few groups happened to show promises nothing: then
    no less than the default; where nothing was predicted, that of a guess.
    """
    interval = bundle.interval_of(term.partition("/")[2])
    if interval is None:
        return DEFAULT_SPREAD["assumed"]
    least = DEFAULT_SPREAD["derived"] if interval.kind == "range" else 1.0
    return max(least, interval.high, 1 / interval.low)
