"""``mandheling calibrate``: coefficients from measured tables, and how well they predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import (
    CliError,
    JsonOption,
    deliver,
    manifest,
    say,
    stdout_console,
    working,
    write_file,
)
from experiments.cli_options import path_option

if TYPE_CHECKING:
    from cost_models.bundle import Validation
    from cost_models.fitting import Bundle, Grouping

ALL = "all"
NOTE = "held-out errors: every row predicted by a fit that has not seen its group"


def calibrate(
    name: Annotated[
        str, typer.Argument(metavar="NAME|all", help="One calibration, see --list.")
    ] = ALL,
    store: Annotated[
        Path | None,
        path_option("--store", "FILE", "Fit samples of this store, not the tables."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only list the calibrations.")] = False,
    folder: Annotated[
        Path | None,
        path_option("-o --output", "FOLDER", "Write a bundle NAME.json for each."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit coefficients to measurements, with held-out errors."""
    if listed:
        _refuse_beside_list(name, store, folder)
        _list(as_json)
        return
    if store is not None and not store.is_file():
        raise CliError(
            f"--store {store}: is no file; give one that `hw sample` or `hw packets` made"
        )
    if folder is not None and folder.exists() and not folder.is_dir():
        raise CliError(f"--output {folder}: is no folder; give the name of one")
    with working("Fitting"):
        bundles = _bundles(name, store)
    if folder is not None:
        _write(bundles, folder)
    document = {
        "note": NOTE,
        "bundles": [bundle.model_dump(mode="json") for bundle in bundles],
        "manifest": manifest(),
    }
    deliver(document, as_json, None)
    if not as_json:
        for bundle in bundles:
            _print(bundle)


def _refuse_beside_list(name: str, store: Path | None, folder: Path | None) -> None:
    """Refuse what a list of all calibrations would leave unread."""
    for word, given in (
        (name, name != ALL),
        (f"--store {store}", store is not None),
        (f"--output {folder}", folder is not None),
    ):
        if given:
            raise CliError(f"{word}: --list only lists all calibrations; leave one of them out")


def _bundles(name: str, store: Path | None) -> list[Bundle]:
    """Fit one calibration, or all: of the tables, or those that a store has samples for."""
    from cost_models.errors import unknown_name
    from experiments.calibration import STUDIES, run_study
    from experiments.packets import PACKET_STUDIES, run_packet_study
    from experiments.sampled import SAMPLED, fittable, run_sampled

    known = (ALL, *STUDIES, *SAMPLED, *PACKET_STUDIES)
    if name not in known:
        raise CliError(unknown_name("calibration", name, known))
    if store is not None and name in STUDIES:
        raise CliError(
            f"--store {store}: {name} is fitted to a table, not to samples; leave it out"
        )
    if name in PACKET_STUDIES:
        return [run_packet_study(name) if store is None else run_packet_study(name, store)]
    if store is None and name == ALL:
        return [*map(run_study, STUDIES), *map(run_packet_study, PACKET_STUDIES)]
    if store is None and name in SAMPLED:
        raise CliError(f"{name} is fitted to samples: give their file by --store")
    if store is None:
        return [run_study(name)]
    if name != ALL:
        return [run_sampled(name, store)]
    names = fittable(store)
    if not names:
        wanted = ", ".join(f"{study.kind} in ns" for study in SAMPLED.values())
        raise CliError(f"--store {store}: has no samples to fit; allowed: {wanted}")
    return [run_sampled(each, store) for each in names]


def _list(as_json: bool) -> None:
    from cost_models.fitting import LAWS
    from experiments.calibration import STUDIES
    from experiments.packets import GROUPINGS, PACKET_STUDIES, STORE
    from experiments.sampled import SAMPLED

    rows: list[dict[str, Any]] = []
    for name, study in STUDIES.items():
        rows.append(_listed(name, LAWS[name].title, study.file, None, study.groupings))
    for name, sampled in SAMPLED.items():
        rows.append(_listed(name, LAWS[name].title, None, sampled.kind, sampled.groupings))
    for name, packets in PACKET_STUDIES.items():
        rows.append(_listed(name, packets.title, STORE.name, "kernel", GROUPINGS))
    deliver({"calibrations": rows}, as_json, None)
    if not as_json:
        from experiments.render import show, table

        cells = [
            (str(r["name"]), str(r["title"]), ", ".join(k for k in ("table", "samples") if r[k]))
            for r in rows
        ]
        show(stdout_console(), table("Calibrations", ("name", "what", "from"), cells, left=3))


def _listed(
    name: str, title: str, table: str | None, kind: str | None, groupings: Sequence[Grouping]
) -> dict[str, Any]:
    return {
        "name": name,
        "title": title,
        "table": table,
        "samples": kind,
        "left_out_by": [grouping.by for grouping in groupings],
    }


def _write(bundles: list[Bundle], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for bundle in bundles:
        path = folder / f"{bundle.name}.json"
        write_file(path, bundle.to_json())
        say(f"wrote {path}")


def _print(bundle: Bundle) -> None:
    from experiments.render import number, show, table

    console = stdout_console()
    cells: list[tuple[str, ...]] = []
    for each in bundle.coefficients:
        if each.at_bound:
            span = "at its bound: not identified"
        elif each.low is None or each.high is None:
            span = "one group: no interval"
        else:
            span = f"{number(each.low, 3)} to {number(each.high, 3)}"
        value = number(each.value) if each.value < 1e7 else f"{each.value:.3g}"
        cells.append((each.name, value, each.unit, span, str(each.rows)))
    show(
        console, table(bundle.title, ("coefficient", "value", "unit", "90 % range", "rows"), cells)
    )
    columns = ("left out", "groups", "rows", "median %", "p90 %", "worst %", "worst row")
    validated = [_validation(each) for each in bundle.validations]
    show(console, table("Held-out errors", columns, validated, also_left=(6,)))
    for text in _remarks(bundle):
        show(console, text)


def _validation(each: Validation) -> tuple[str, ...]:
    figures = (f"{100 * each.median:.1f}", f"{100 * each.p90:.1f}", f"{100 * each.worst:+.1f}")
    return (each.by, str(each.groups), str(each.rows), *figures, each.worst_row)


def _remarks(bundle: Bundle) -> list[str]:
    """Target, interval, and rows that were not fitted or not predicted, in sentences."""
    from experiments.render import counted

    first = bundle.validations[0]
    remarks = []
    if first.target is not None:
        verdict = "met" if bundle.met else f"missed by {100 * (first.median - first.target):.1f}"
        remarks.append(f"Target: median of at most {100 * first.target:.0f} %: {verdict}.")
    remarks.append(_interval(first))
    for each in bundle.validations:
        if each.not_predicted:
            more = len(each.not_predicted) - 1
            rest = f" (and {counted(more, 'more group')})" if more else ""
            remarks.append(f"Not predicted, only fitted: {each.not_predicted[0]}{rest}.")
    for row in bundle.excluded:
        said = "" if row.predicted is None else f"; the law says {row.predicted:.4g}"
        remarks.append(
            f"Not fitted: {row.name}, {row.measured:g} {bundle.unit}{said}: {row.reason}."
        )
    return remarks


def _interval(each: Validation) -> str:
    found: Any = each.interval
    low, high = f"{found.low:.3g}", f"{found.high:.3g}"
    if found.kind == "range":
        return (
            f"The central 90 % of measurements were {low} to {high} times their prediction in "
            f"{found.groups} groups: a range, not an interval; 90 % would take 9 groups."
        )
    return f"90 % of measurements lie within {low} to {high} times their prediction (conformal)."
