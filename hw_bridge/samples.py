"""The sample store: append-only, crash-safe, and a campaign of samples that resumes by itself.

A sample is on the disk before :meth:`SampleStore.add` returns. After a crash the last line may be
torn; opening the store again cuts it off and sampling goes on with what is missing. The format is
that of :mod:`cost_models.samples`.
"""

from __future__ import annotations

import fcntl
import os
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from cost_models.reading import read_bytes
from cost_models.samples import (
    LARGEST_FILE,
    SCHEMA,
    Fingerprint,
    Json,
    Sample,
    SampleError,
    StoreContent,
    canonical,
    line_of,
    parse_samples,
    read_samples,
)

__all__ = [
    "Fingerprint",
    "Sample",
    "SampleError",
    "SampleStore",
    "StoreContent",
    "collect",
    "read_samples",
]

Wanted = tuple[str, Mapping[str, Json]]
"""Key and configuration of a sample to be taken."""


class SampleStore:
    """One file of samples, open for writing by one process.

    Use :meth:`open`, in a ``with`` block.

    Attributes
    ----------
    torn_bytes
        What was cut off at the end when the store was opened: the rest of a crash.
    """

    def __init__(self, file: FileIO, path: Path, content: StoreContent, current: str) -> None:
        self._file, self.path = file, path
        self._samples = {sample.key: sample for sample in content.samples}
        self._fingerprints = list(content.fingerprints)
        self._current = current
        self.torn_bytes = content.torn_bytes

    @classmethod
    def open(cls, path: str | Path, fingerprint: Fingerprint, *, mixed: bool = False) -> Self:
        """Create a store, or continue one.

        Parameters
        ----------
        path
            Its file; the folder must exist.
        fingerprint
            What this process measures on.
        mixed
            Whether the store may hold samples of something else, too.

        Raises
        ------
        SampleError
            The file cannot be written, is in use, is no store or no regular file, or was measured
            on something else.
        """
        path = Path(path)
        if path.exists() and not path.is_file():  # opening a pipe would block
            raise SampleError(f"{path}: is not a regular file; give another file")
        try:
            file = path.open("a+b", buffering=0)  # nothing may linger in a buffer
        except OSError as error:
            raise SampleError(
                f"{path}: cannot be written ({error.strerror or error}); give another file"
            ) from None
        try:
            return cls._opened(file, path, fingerprint, mixed)
        except BaseException:
            file.close()
            raise

    @classmethod
    def _opened(cls, file: FileIO, path: Path, fingerprint: Fingerprint, mixed: bool) -> Self:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SampleError(
                f"{path}: another process is sampling into it; wait for it, or give another file"
            ) from None
        content = parse_samples(read_bytes(path, LARGEST_FILE, SampleError), str(path))
        known = content.fingerprints
        if known and fingerprint not in known and not mixed:
            what = "; ".join(fingerprint.differences(known[-1]))
            raise SampleError(
                f"{path}: was measured on something else ({what}); "
                "each machine has a file of its own: give another file"
            )
        store = cls(file, path, content, fingerprint.id)
        if content.torn_bytes:
            file.truncate(content.whole_bytes)
        if not content.whole_bytes:
            store._append({"schema": SCHEMA})
            _sync_folder(path.absolute().parent)
        if not known or known[-1] != fingerprint:
            store._append({"fingerprint": fingerprint.document()})
            store._fingerprints.append(fingerprint)
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; another process may open the store then."""
        self._file.close()

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, in order."""
        return tuple(self._samples.values())

    @property
    def fingerprints(self) -> tuple[Fingerprint, ...]:
        """What they were measured on, in order."""
        return tuple(self._fingerprints)

    def done(self, key: str) -> bool:
        """Whether there is a sample of this key."""
        return key in self._samples

    def check_config(self, key: str, config: Mapping[str, Json]) -> None:
        """Verify that a sample of this key, if there is one, was taken as it is wanted now.

        Raises
        ------
        SampleError
            Its configuration is another; the message says what differs.
        """
        if not self.done(key):
            return
        had = self._samples[key].config
        for name in sorted(had.keys() | config.keys()):
            old, new = ({name: one.get(name)} for one in (had, config))
            if canonical(old) != canonical(new):
                raise SampleError(
                    f"{self.path}: {key} was taken with {name} {old[name]}, and is wanted with"
                    f" {new[name]}; take the same options, or give another file"
                )

    def add(self, sample: Sample) -> None:
        """Append a sample; it is on the disk when this returns.

        Raises
        ------
        SampleError
            Its key is there already, a value has no JSON, or the disk is full. The store is as
            it was then.
        """
        if self.done(sample.key):
            raise SampleError(f"{self.path}: sample {sample.key!r} is there already")
        self._append({"sample": sample.document()})
        self._samples[sample.key] = replace(sample, fingerprint=self._current)

    def _append(self, data: Mapping[str, object]) -> None:
        left = memoryview(line_of(data))
        end = self._file.seek(0, os.SEEK_END)
        try:
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._cut(end)
            raise SampleError(
                f"{self.path}: cannot be written ({error.strerror or error}); "
                "what was sampled before is kept; make space and run the same command again"
            ) from None
        except BaseException:  # an interrupt between write and sync
            self._cut(end)
            raise

    def _cut(self, end: int) -> None:
        """Remove what a failed append left; if that fails too, opening again will."""
        descriptor = self._file.fileno()
        try:
            os.ftruncate(descriptor, end)
        except OSError:
            return


def _sync_folder(folder: Path) -> None:
    """Make a new file's name last, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def collect(
    store: SampleStore,
    wanted: Iterable[Wanted],
    measure: Callable[[str, Mapping[str, Json]], Sample],
    *,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> int:
    """Take every wanted sample that the store lacks, in a random order, and return how many.

    The order is drawn from the seed, so that drift of the machine does not follow the shapes; it
    is the same for those that are left after an interruption.

    Parameters
    ----------
    wanted
        Keys and configurations.
    measure
        Takes one sample; its key must be the one asked for.
    advance
        Called for every wanted sample, those that are there already at once.

    Raises
    ------
    SampleError
        As :meth:`SampleStore.add`; a sample is there with another configuration (nothing is taken
        then); or one came back under another key. Samples taken so far are kept.
    """
    todo = sorted(wanted, key=lambda pair: pair[0])
    for key, config in todo:
        store.check_config(key, config)
    random.Random(seed).shuffle(todo)
    taken = 0
    for key, config in todo:
        if not store.done(key):
            sample = measure(key, config)
            if sample.key != key:
                raise SampleError(f"sample {key!r} was asked for and {sample.key!r} came back")
            store.add(sample)
            taken += 1
        advance()
    return taken
