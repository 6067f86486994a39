"""A run between two steps as one file: arrays in NumPy's archive, all else as JSON inside it.

No pickle is written or read. A new checkpoint takes the place of the old one in one go, so that
after a kill or on a full disk the old one is whole; the archive's checksums tell a damaged one.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from sim.files import replacing

FORMAT = 1
"""Version of the layout; others are refused."""
NAME = "checkpoint.npz"
META = "meta"
SECTIONS = ("identity", "config", "progress", "session")
DAMAGE = (BadZipFile, zlib.error, struct.error, ValueError, KeyError, EOFError, RuntimeError)
"""What the readers of archives and arrays raise on bytes that are none."""

Arrays = dict[str, NDArray[Any]]


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names the file and says what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Everything that a run needs to go on.

    Attributes
    ----------
    identity
        What the result follows from: a run with another identity may not go on from here.
    config
        Settings, as :meth:`experiments.training.config.TrainConfig.as_json` gives them.
    progress
        How far the run is, see :class:`experiments.training.progress.Progress`.
    session
        The part of :class:`sim.numeric.snapshot.Snapshot` that is no array.
    arrays
        By group (``parameters``, ``best``, ``trace``) and name.
    """

    identity: dict[str, Any]
    config: dict[str, Any]
    progress: dict[str, Any]
    session: dict[str, Any]
    arrays: Mapping[str, Arrays]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises
    ------
    sim.files.FileError
        The file cannot be written: the disk is full, or the folder is closed. What was at
        ``path`` is still there.
    """
    meta = {name: getattr(checkpoint, name) for name in SECTIONS} | {"format": FORMAT}
    flat = {
        f"{group}/{name}": array
        for group, arrays in checkpoint.arrays.items()
        for name, array in arrays.items()
    }
    text = json.dumps(meta, allow_nan=False, separators=(",", ":")).encode()
    flat[META] = np.frombuffer(text, np.uint8)
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **flat)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint whole; its checksums are verified.

    Raises
    ------
    CheckpointError
        The file cannot be read, is damaged or no checkpoint, or is of another format.
    """
    try:
        with ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:  # before NumPy trusts any header
                raise BadZipFile(f"checksum of {broken}")
        with np.load(path, allow_pickle=False) as stored:
            flat = {name: stored[name] for name in stored.files}
        meta = json.loads(flat.pop(META).tobytes())
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise CheckpointError(f"{path}: is not there; start the run anew") from error
        raise _damaged(path, error.strerror or str(error)) from error
    except DAMAGE as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = meta.get("format") if isinstance(meta, dict) else None
        raise CheckpointError(
            f"{path}: format is {found!r}, this version writes and reads {FORMAT}; continue with "
            "the version that began it, or start anew in another folder"
        )
    if not all(isinstance(meta.get(name), dict) for name in SECTIONS):
        raise _damaged(path, f"a section of {', '.join(SECTIONS)} is missing")
    groups: dict[str, Arrays] = {}
    for name, array in flat.items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = array
    return Checkpoint(**{name: meta[name] for name in SECTIONS}, arrays=groups)


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: is damaged or no checkpoint ({' '.join(why.split())[:120]}); restore it from a "
        "copy, or remove it to start anew"
    )
