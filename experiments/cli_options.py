"""Options of the commands that train, and the words that they take."""

from __future__ import annotations

from typing import Any

import typer

from experiments.cli_common import PLAIN_INTEGER, CliError, a_path, integer

IMAGE_COUNT = 1_000_000
"""Images to train or to test on, at most: a million of 32 x 32 x 3 take 3 GB."""


def _number(text: str | float) -> float:
    written = str(text)  # an option's default comes through here too
    try:
        if not written.isascii() or "_" in written or written != written.strip():
            raise ValueError(written)  # float would read it; it is more often a slip
        return float(written)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not allowed; give a number") from None


def text_option(names: str, metavar: str, text: str) -> Any:
    """An option that takes a word; ``names`` are separated by blanks."""
    return typer.Option(*names.split(), metavar=metavar, help=text)


def path_option(names: str, metavar: str, text: str) -> Any:
    """An option that takes a file or a folder."""
    return typer.Option(*names.split(), metavar=metavar, parser=a_path, help=text)


def count_option(names: str, low: int, high: int, text: str) -> Any:
    """An option that takes a whole number from ``low`` to ``high``."""
    return typer.Option(*names.split(), metavar="N", parser=integer(low, high), help=text)


def real_option(name: str, text: str) -> Any:
    """An option that takes a number."""
    return typer.Option(name, metavar="X", parser=_number, help=text)


def augmentations(text: str | None) -> tuple[str, ...] | None:
    """Augmentations from a list with commas, or ``none``."""
    if text is None:
        return None
    return () if text == "none" else tuple(text.split(","))


def pair(option: str, text: str | None) -> tuple[int, int] | None:
    """Two counts of images from a text with a comma."""
    if text is None:
        return None
    parts = text.split(",")
    counts = [int(part) for part in parts if PLAIN_INTEGER.fullmatch(part)]
    if len(parts) != 2 or len(counts) != 2 or not all(1 <= n <= IMAGE_COUNT for n in counts):
        raise CliError(
            f"{option} {text!r}: give two whole numbers, 1 to {IMAGE_COUNT}, with a comma between"
        )
    return counts[0], counts[1]
