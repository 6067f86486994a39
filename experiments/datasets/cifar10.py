"""CIFAR-10 (A. Krizhevsky, 2009) from the binary or the Python layout of its author.

Binary: ``data_batch_1.bin`` to ``5`` and ``test_batch.bin`` of 10,000 records, each a label byte
and 3,072 pixel bytes: planes of red, green and blue, 32 rows of 32. Python: pickles without the
suffix, of a dict with ``data``, uint8 (10000, 3072), and ``labels``, a list; they are read by
:mod:`experiments.datasets.plain_pickle`, which runs nothing that a file names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.datasets.dataset import DatasetError, Images, Part, Parts, check_labels
from experiments.datasets.files import SourceFiles
from experiments.datasets.plain_pickle import plain_loads
from experiments.values import short

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
RECORDS = 10_000
PIXELS = 3 * 32 * 32
PICKLED = 1 << 28
"""Bytes of a batch in the Python layout, at most: 31 million, and four times that as text."""
ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar.html"
WANTED = (
    "cifar-10-batches-bin (data_batch_1.bin to data_batch_5.bin, test_batch.bin) or "
    "cifar-10-batches-py (the same without .bin)"
)
FETCH = f"fetch the file again (from {ORIGIN})"
MD5 = {  # of the members of the author's two archives
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


def read(folder: Path | str | None, records: int = RECORDS) -> Parts:
    """Read both splits, from the binary layout where both are there.

    Parameters
    ----------
    folder
        The folder of the files, or the one that holds it under its usual name.
    records
        Images in each file.

    Raises
    ------
    DatasetError
        A file is missing, has another size or structure, or a label above 9.
    """
    files = SourceFiles("cifar10", folder, WANTED, ORIGIN, MD5)
    files.enter("cifar-10-batches-bin", "cifar-10-batches-py")
    binary = files.find(f"{TRAIN[0]}.bin", f"{TEST}.bin") is not None
    names = [f"{name}.bin" if binary else name for name in (*TRAIN, TEST)]
    missing = [name for name in names if files.find(name) is None]
    if missing:
        raise files.missing(missing)
    read_one = _binary if binary else _python
    parts = [read_one(files, files.folder / name, records) for name in names]
    images = np.concatenate([part.images for part in parts[:-1]])
    labels = np.concatenate([part.labels for part in parts[:-1]])
    return Parts(Part(images, labels), parts[-1], CLASSES, files.sha256, files.official)


def _binary(files: SourceFiles, path: Path, records: int) -> Part:
    content = files.content(path, records * (1 + PIXELS))
    table = np.frombuffer(content, np.uint8).reshape(records, 1 + PIXELS)
    labels = check_labels(table[:, 0], len(CLASSES), str(path))
    return Part(_channels_last(table[:, 1:]), labels)


def _python(files: SourceFiles, path: Path, records: int) -> Part:
    batch = plain_loads(files.content(path, most=PICKLED), str(path))
    if not isinstance(batch, dict):
        raise DatasetError(
            f"{path}: holds a {type(batch).__name__}; a CIFAR-10 batch is a dict: {FETCH}"
        )
    data, labels = _entry(batch, "data", path), _entry(batch, "labels", path)
    if not isinstance(data, np.ndarray) or data.shape != (records, PIXELS):
        found = data.shape if isinstance(data, np.ndarray) else short(data)
        raise DatasetError(
            f"{path}: data is {found}; it must be uint8 ({records}, {PIXELS}): {FETCH}"
        )
    if not isinstance(labels, list):
        raise DatasetError(f"{path}: labels is {short(labels)}; it must be a list: {FETCH}")
    if len(labels) != records:
        raise DatasetError(f"{path}: {len(labels)} labels for {records} images; {FETCH}")
    for place, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < len(CLASSES):
            raise DatasetError(
                f"{path}: label {short(label)} of image {place} is out of range; labels are "
                f"integers from 0 to {len(CLASSES) - 1}: {FETCH}"
            )
    return Part(_channels_last(data), np.array(labels, np.int64))


def _entry(batch: dict[Any, Any], name: str, path: Path) -> object:
    """Value of a key that Python 2 wrote as bytes and Python 3 as text."""
    for written in (name.encode(), name):
        if written in batch:
            return batch[written]
    raise DatasetError(
        f"{path}: no {name!r} in the dict; a CIFAR-10 batch has data and labels: {FETCH}"
    )


def _channels_last(planes: Images) -> Images:
    wide = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(wide)
