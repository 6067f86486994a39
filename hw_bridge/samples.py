"""The sample store: append-only, crash-safe, and a campaign of samples that resumes by itself.

A sample is on the disk before :meth:`SampleStore.add` returns. After a crash the last line may be
torn; it is cut off when sampling goes on with what is missing. The format is that of
:mod:`cost_models.samples`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from cost_models.lines import LineFile
from cost_models.samples import (
    FORMAT,
    Fingerprint,
    Json,
    Sample,
    SampleError,
    StoreContent,
    canonical,
    content_of,
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
        What is no whole line at the end: the rest of a crash.
    """

    def __init__(self, file: LineFile, content: StoreContent, current: str) -> None:
        self._file, self.path = file, file.path
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
        file = LineFile.open(Path(path), FORMAT)
        try:
            return cls._opened(file, fingerprint, mixed)
        except BaseException:
            file.close()
            raise

    @classmethod
    def _opened(cls, file: LineFile, fingerprint: Fingerprint, mixed: bool) -> Self:
        content = content_of(file.found, str(file.path))
        known = content.fingerprints
        if known and fingerprint not in known and not mixed:
            what = "; ".join(fingerprint.differences(known[-1]))
            raise SampleError(
                f"{file.path}: was measured on something else ({what}); "
                "each machine has a file of its own: give another file"
            )
        store = cls(file, content, fingerprint.id)
        if not known or known[-1] != fingerprint:
            file.append({"fingerprint": fingerprint.document()})
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
        self._file.append({"sample": sample.document()})
        self._samples[sample.key] = replace(sample, fingerprint=self._current)


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
