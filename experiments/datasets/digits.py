"""Handwritten digits that come with the package: 1,797 images of 8 x 8.

The test set of UCI's "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998,
CC BY 4.0), as the file ``digits.csv.gz`` of scikit-learn has it; see ``digits.LICENSE.txt``. Each
row is 64 counts of 0 to 16 and a label. A count becomes the byte ``(count * 255 + 8) // 16``. The
rows come writer by writer, so the split by order tests mostly on writers not trained on.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from experiments.datasets.dataset import DatasetError, Part, Parts, check_labels
from experiments.datasets.files import SourceFiles

FILE = Path(__file__).with_name("digits.csv.gz")
SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
TRAIN = 1_437
"""Images to train on, of 1,797: four fifths; the rest is tested on."""
CLASSES = tuple("0123456789")


def read() -> Parts:
    """Read both splits from the package.

    Raises
    ------
    DatasetError
        The file in the package is not what was shipped.
    """
    files = SourceFiles("digits", FILE.parent, FILE.name, "this package", {})
    content = files.content(FILE)
    if files.sha256[FILE.name] != SHA256:
        raise DatasetError(f"{FILE}: changed since it was shipped; install the package again")
    rows = np.array(
        [line.split(b",") for line in gzip.decompress(content).split()], dtype="S2"
    ).astype(np.int64)
    images = ((rows[:, :-1] * 255 + 8) // 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = check_labels(rows[:, -1], len(CLASSES), str(FILE))
    train, test = (
        Part(np.ascontiguousarray(images[half]), labels[half].copy())
        for half in (slice(TRAIN), slice(TRAIN, None))
    )
    return Parts(train, test, CLASSES, files.sha256, True)
