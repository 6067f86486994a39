"""``python -m experiments.composition``: every pair of techniques, run.

Prints how each pair composes; ``--write`` renews the table in the documentation, ``--of`` reads it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from experiments.composition.pairs import FAILED, Tried, every_pair, judged
from experiments.composition.table import PAGE, described, kept_table, looked_up, renewed, shown
from experiments.composition.techniques import CATALOGUE
from experiments.told import one_line_errors


@one_line_errors()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pairs; 1 if one of them fails."""
    parser = argparse.ArgumentParser(prog="python -m experiments.composition", description=__doc__)
    parser.add_argument("--list", action="store_true", help="say what the techniques are")
    parser.add_argument(
        "--of", nargs="+", metavar="NAME", help=f"look up one or two techniques in {PAGE}"
    )
    parser.add_argument("--only", metavar="NAME", help="pairs with this technique")
    parser.add_argument("--write", action="store_true", help=f"renew the table in {PAGE}")
    options = parser.parse_args(arguments)
    if options.of is not None:
        if options.list or options.write or options.only is not None:
            parser.error("--of runs nothing; leave --list, --only and --write out")
        try:
            print(looked_up(options.of, kept_table()))
        except ValueError as error:
            parser.error(f"--of {' '.join(options.of)}: {error}")
        return 0
    if options.list:
        print(described())
        return 0
    if options.only is not None and options.only not in CATALOGUE:
        parser.error(f"--only {options.only!r}: allowed: {', '.join(CATALOGUE)}")
    if options.only is not None and options.write:
        parser.error("--write renews the whole table; leave --only out")
    tried = Tried()
    pairs = [judged(*p, tried) for p in every_pair() if options.only in (None, *p)]
    text = shown(pairs)
    print(text)
    if any(pair.result == FAILED for pair in pairs):
        return 1
    if options.write:
        PAGE.write_text(renewed(PAGE.read_text("utf-8"), text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
