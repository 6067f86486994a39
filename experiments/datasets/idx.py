"""MNIST and Fashion-MNIST from IDX files, packed by gzip or not.

IDX (Y. LeCun): two zero bytes, the type (8: uint8), the number of dimensions, each dimension as a
big-endian uint32, then the values, the last dimension fastest.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.datasets.dataset import (
    MOST_IMAGES,
    DatasetError,
    Part,
    Parts,
    check_labels,
    two_counts,
)
from experiments.datasets.files import SourceFiles, wrong_size
from experiments.datasets.keyed import key, permutation

SIDE = 28
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}
ORIGIN = {
    "mnist": "https://yann.lecun.com/exdb/mnist, or a mirror of it",
    "fashion-mnist": "https://github.com/zalandoresearch/fashion-mnist",
}
MD5 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion-mnist": {  # the table in its repository's README
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
}
WANTED = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte, each as it is or with .gz"
)


def read(
    name: str,
    folder: Path | str | None,
    split_of_test: tuple[int, int] | None = None,
    seed: int = 0,
) -> Parts:
    """Read both splits.

    Parameters
    ----------
    name
        ``mnist`` or ``fashion-mnist``.
    folder
        Where the files are.
    split_of_test
        Leave the train files aside and share out the images of the ``t10k`` files: how many to
        train on and to test on, drawn by a permutation with the key ``seed``. A result must then
        say so.
    seed
        Of that permutation.

    Raises
    ------
    DatasetError
        A file is missing, not an IDX file, or has other sizes than it says; images and labels
        differ in number; a label above 9.
    """
    files = SourceFiles(name, folder, WANTED, ORIGIN[name], MD5[name])
    if split_of_test is not None:
        sizes = two_counts("split_of_test", split_of_test)
        train, test = _shared(_part(files, name, "t10k"), sizes, seed, str(files.folder))
        return Parts(train, test, CLASSES[name], files.sha256, files.official)
    if _path(files, name, "train-images-idx3") is None and _path(files, name, "t10k-images-idx3"):
        raise DatasetError(
            f"{name}: only the t10k files are in {files.folder}; add the train files (from "
            f"{ORIGIN[name]}), or share these out with split_of_test=(8000, 2000)"
        )
    train, test = _part(files, name, "train"), _part(files, name, "t10k")
    return Parts(train, test, CLASSES[name], files.sha256, files.official)


def _path(files: SourceFiles, name: str, stem: str) -> Path | None:
    """Return the file, under its own name or with that of the data set before it."""
    return files.find(
        *(f"{before}{stem}-ubyte{end}" for before in ("", f"{name}-") for end in ("", ".gz"))
    )


def _part(files: SourceFiles, name: str, split: str) -> Part:
    paths = [_path(files, name, f"{split}-{kind}") for kind in ("images-idx3", "labels-idx1")]
    if paths[0] is None or paths[1] is None:
        raise files.missing([f"{split}-images-idx3-ubyte or {split}-labels-idx1-ubyte"])
    images = idx_array(files.content(paths[0]), paths[0], (SIDE, SIDE))
    labels = idx_array(files.content(paths[1]), paths[1], ())
    if len(images) != len(labels):
        raise DatasetError(f"{paths[1]}: {len(labels)} labels for {len(images)} images")
    return Part(images[..., None], check_labels(labels, len(CLASSES[name]), str(paths[1])))


def _shared(part: Part, sizes: tuple[int, int], seed: int, where: str) -> tuple[Part, Part]:
    train, test = sizes
    if train + test > len(part.labels):
        raise DatasetError(
            f"split_of_test: {sizes} of the {len(part.labels)} images in {where}; "
            "give two counts of at least 1 whose sum is no more"
        )
    order = permutation(len(part.labels), key("split_of_test", seed))
    shares = np.sort(order[:train]), np.sort(order[train : train + test])
    first, second = (Part(part.images[share], part.labels[share]) for share in shares)
    return first, second


def idx_array(content: bytes, path: Path, inner: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the array in an IDX file.

    Parameters
    ----------
    content
        The file, packed by gzip if it begins like that.
    path
        Its name, for messages.
    inner
        The dimensions after the first.

    Returns
    -------
    ndarray
        uint8 (n, *inner), read-only.

    Raises
    ------
    DatasetError
        Another magic number, type, dimensions or size; gzip that ends early.

    Examples
    --------
    >>> idx_array(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), Path("labels"), ())
    array([7, 9], dtype=uint8)
    """
    packed = content[:2] == b"\x1f\x8b"
    stream = gzip.GzipFile(fileobj=BytesIO(content)) if packed else BytesIO(content)
    head = 4 * (2 + len(inner))
    try:
        header = stream.read(head)
        if len(header) < head:
            raise wrong_size(path, head, len(header))
        magic, count, *dimensions = struct.unpack(f">{len(header) // 4}I", header)
        expected_magic = 0x800 + 1 + len(inner)
        if magic != expected_magic:
            raise DatasetError(
                f"{path}: begins with 0x{magic:08x}; an IDX file of uint8 in {1 + len(inner)} "
                f"dimensions begins with 0x{expected_magic:08x}; fetch the file again"
            )
        if tuple(dimensions) != inner or not 1 <= count <= MOST_IMAGES:
            raise DatasetError(
                f"{path}: dimensions {(count, *dimensions)}; allowed is (n, *{inner}) with n from "
                f"1 to {MOST_IMAGES:,}; fetch the file again"
            )
        size = count * int(np.prod(inner, dtype=np.int64))
        values = stream.read(size + 1)  # one more, to see that there is none
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path}: damaged gzip ({error}); fetch the file again") from error
    if len(values) != size:
        found = head + len(values) if packed else len(content)
        raise wrong_size(path, head + size, found)
    return np.frombuffer(values, np.uint8).reshape(count, *inner)
