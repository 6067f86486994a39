"""The folder of a run: one process at a time, and nothing left over from one that was killed."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.training import checkpoint
from experiments.training.config import ConfigError

RESULT, TRACE, CURVES, LOCK = "result.json", "rescale-trace.json", "curves.png", ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make a run's folder, if it is new, and keep other processes out of it.

    Unfinished files of a process that was killed are removed. The claim ends with the process,
    however it ends.

    Raises
    ------
    ConfigError
        Another process trains there, the folder holds the result of something else, or it cannot
        be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("wb")
    except OSError as error:
        raise ConfigError(
            f"out: {folder} cannot be made or written ({error.strerror}); choose another folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"out: another process is training in {folder}; wait for it, or choose another"
            ) from error
        if (folder / RESULT).exists() and not (folder / checkpoint.NAME).exists():
            raise ConfigError(
                f"out: {folder} holds a {RESULT} and no checkpoint that it came from; choose "
                "another folder"
            )
        for left in folder.glob(".*.part"):
            left.unlink()
        yield
