"""Options of the commands that train, and the words that they take."""

from __future__ import annotations

from typing import Any

import typer

from experiments.cli_common import PLAIN_INTEGER, CliError, integer


def _number(text: str | float) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not allowed; give a number") from None


def text_option(names: str, metavar: str, text: str) -> Any:
    """An option that takes a word; ``names`` are separated by blanks."""
    return typer.Option(*names.split(), metavar=metavar, help=text)


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
    """Two whole numbers from a text with a comma."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2 or not all(PLAIN_INTEGER.fullmatch(part) for part in parts):
        raise CliError(f"{option} {text!r}: give two whole numbers with a comma between")
    first, second = parts
    return int(first), int(second)
