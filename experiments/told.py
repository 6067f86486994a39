"""How errors are told: in one line on stderr, by every command and every ``python -m`` study."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from experiments.values import is_own

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""Base of all errors about options, from wherever this Typer keeps its copy of Click."""
STOPPED = "stopped; the same command goes on from the last checkpoint"


def say(text: str) -> None:
    """Print a line of progress, or where something was written, to stderr."""
    print(text, file=sys.stderr, flush=True)


def fail(message: str) -> int:
    """Print one line to stderr; return the exit code for bad input."""
    line = " ".join(message.split())
    clean = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    print(f"error: {clean}", file=sys.stderr)
    return 2


def os_failure(error: OSError) -> int:
    """Tell an operating system error in one line; a broken pipe is not worth a word."""
    if error.errno == errno.EPIPE:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # what is left goes nowhere
        return 1
    name = f"{error.filename}: " if error.filename else ""
    return fail(f"{name}{error.strerror or error}; check the path and the space left")


def told(error: Exception) -> int | None:
    """Tell an error in one line on stderr; None, and nothing told, for a fault of ours.

    Returns
    -------
    int or None
        The exit code.
    """
    if isinstance(error, UsageError):
        return fail(getattr(error, "format_message", error.__str__)())
    if isinstance(error, OSError):
        return os_failure(error)
    if isinstance(error, MemoryError):
        return fail(
            f"not enough memory on this machine ({error or 'none is left'}); take a smaller "
            "--batch, fewer or smaller images, or a smaller model"
        )
    return fail(str(error)) if is_own(error) else None


@contextmanager
def one_line_errors(stopped: str = "interrupted") -> Iterator[None]:
    """End ``python -m experiments...`` as ``mandheling`` ends: errors in one line, exit code 2.

    Around a ``main``, as a decorator.

    Parameters
    ----------
    stopped
        What Ctrl-C tells; its exit code is 130.
    """
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        say(stopped)
        raise SystemExit(130) from None
    except Exception as error:
        code = told(error)
        if code is None:
            raise
        raise SystemExit(code) from None
