"""What ``make accept`` runs: the large counts, each part with its figures.

Parts are kept in ``results/accept.json`` together with a digest of the code they were computed
by: a run that was interrupted goes on where it stopped, and a part is computed again when the
code has changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from experiments.accept_common import Outcome, Size, full_size, source_digest
from experiments.accept_engines import determinism, engines
from experiments.accept_studies import counts, reuse, sums, vtcm
from experiments.accept_techniques import techniques
from experiments.results import FOLDER, read_result, versions, write_result
from experiments.told import one_line_errors

PARTS: dict[str, Callable[[Size], Outcome]] = {
    "counts": counts,
    "vtcm": vtcm,
    "reuse": reuse,
    "determinism": determinism,
    "sums": sums,
    "engines": engines,
    "techniques": techniques,
}
"""The quick ones first."""


def run_parts(names: Sequence[str], size: Size, path: Path, *, fresh: bool = False) -> bool:
    """Compute the named parts, print and keep their figures; return whether all passed.

    Parameters
    ----------
    fresh
        Compute parts again that ``path`` already holds for the same code and versions.
    """
    ground = {"code": source_digest(), "versions": versions()}
    content = read_result(path)
    if fresh or content.get("ground") != ground:
        content = {"ground": ground, "parts": {}}
    for name in names:
        kept = name in content["parts"]
        if not kept:
            print(f"{name}: {PARTS[name].__doc__ or 'no description'}", file=sys.stderr)
            begin = perf_counter()
            content["parts"][name] = PARTS[name](size)
            print(f"  {perf_counter() - begin:.0f} s", file=sys.stderr)
            write_result(path, content)
        print(summary(name, content["parts"][name], kept=kept), flush=True)
    return all(content["parts"][name]["passed"] for name in names)


def summary(name: str, outcome: Outcome, *, kept: bool = False) -> str:
    """One line of figures; tables are left to the JSON."""
    figures = [
        f"{key} {value}"
        for key, value in outcome.items()
        if key != "passed" and not _is_table(value)
    ]
    verdict = "passed" if outcome["passed"] else "FAILED"
    return f"{name}: {verdict}{' (kept)' if kept else ''}; {', '.join(figures)}".rstrip("; ")


def _is_table(value: object) -> bool:
    if isinstance(value, dict):
        return any(isinstance(inner, dict | list) for inner in value.values())
    return isinstance(value, list)


@one_line_errors()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that were asked for; exit status 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m experiments.accept", description=__doc__)
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this part")
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--fresh", action="store_true", help="compute kept parts again")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; give 1 or more")
    names = options.part or list(PARTS)
    size = full_size(options.workers)
    return 0 if run_parts(names, size, FOLDER / "accept.json", fresh=options.fresh) else 1


if __name__ == "__main__":
    sys.exit(main())
