"""FEMNIST as LEAF writes it: JSON files of users with their images.

LEAF (S. Caldas et al., arXiv 1812.01097; ``data/femnist/preprocess/data_to_json.py`` of
TalwalkarLab/leaf) writes ``{"users": [...], "num_samples": [...], "user_data": {user: {"x":
[[784 numbers]], "y": [labels]}}}``: pixels are a byte / 255 with ink dark on white, labels 0 to 9
digits, 10 to 35 capitals, 36 to 61 small letters.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.datasets.dataset import DatasetError, Images, Part, Parts, check_labels
from experiments.datasets.files import SourceFiles
from experiments.datasets.keyed import key, permutation

CLASSES = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
SIDE = 28
ORIGIN = "https://github.com/TalwalkarLab/leaf, data/femnist/preprocess.sh"
WANTED = (
    "train/*.json and test/*.json as LEAF writes them, or all_data/all_data_*.json before they "
    "are split"
)
TEST_SHARE = 10
"""Without a split of LEAF's, one image of so many of each user is tested on (LEAF's --tf 0.9)."""

_ByUser = dict[str, tuple[list[Images], list[Any]]]


def read(folder: Path | str | None, seed: int = 0) -> Parts:
    """Read both splits, with who wrote each image.

    Parameters
    ----------
    folder
        The folder that holds ``train`` and ``test``, or ``all_data``, or files
        ``all_data_*.json`` themselves. In the last two cases every tenth image of each user, drawn
        by ``seed``, is tested on.
    seed
        Of that drawing.

    Raises
    ------
    DatasetError
        Files are missing or not LEAF's; counts that disagree; a pixel or label out of range.
    """
    files = SourceFiles("femnist", folder, WANTED, ORIGIN, {})
    train_files, test_files = (sorted(files.folder.glob(f"{s}/*.json")) for s in ("train", "test"))
    if train_files and test_files:
        train_users, test_users = _users(files, train_files), _users(files, test_files)
        users = tuple(sorted(train_users.keys() | test_users.keys()))
        train, test = _part(train_users, users), _part(test_users, users)
    else:
        all_files = sorted(
            [*files.folder.glob("all_data_*.json"), *files.folder.glob("all_data/*.json")]
        )
        if not all_files:
            raise files.missing(["train/*.json with test/*.json, and no all_data_*.json"])
        by_user = _users(files, all_files)
        users = tuple(sorted(by_user))
        train, test = _split(_part(by_user, users), users, seed)
    if not len(train.labels) or not len(test.labels):
        raise DatasetError(f"{files.folder}: too few images to train and to test on")
    return Parts(train, test, CLASSES, files.sha256, None, users)


def _users(files: SourceFiles, paths: Sequence[Path]) -> _ByUser:
    """Images and labels by user; one who stands in several files has them all."""
    by_user: _ByUser = {}
    for path in paths:
        try:
            content = json.loads(files.content(path))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DatasetError(f"{path}: not JSON, or truncated ({error})") from None
        try:
            users, counts = list(content["users"]), list(content["num_samples"])
            rows = [(u, content["user_data"][u]["x"], content["user_data"][u]["y"]) for u in users]
        except (KeyError, TypeError) as error:
            raise DatasetError(
                f"{path}: not of LEAF's form ({error!r}); "
                "it has users, num_samples, and user_data with x and y for each user"
            ) from None
        if len(counts) != len(users) or len(content["user_data"]) != len(users):
            raise DatasetError(f"{path}: users, num_samples and user_data differ in length")
        for (user, x, y), count in zip(rows, counts, strict=True):
            where = f"{path}, user {user!r}"
            images, labels = by_user.setdefault(str(user), ([], []))
            images.append(_images(x, y, count, where))
            labels.extend(y)
            check_labels(_integers(y, where), len(CLASSES), where)
    return by_user


def _integers(y: Any, where: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    if not isinstance(y, list) or not all(type(label) is int for label in y):
        raise DatasetError(f"{where}: y must be a list of integers")
    if not all(abs(label) < 2**31 for label in y):
        raise DatasetError(f"{where}: a label is out of range; labels are 0 to {len(CLASSES) - 1}")
    return np.array(y, np.int64)


def _images(x: Any, y: Any, count: Any, where: str) -> Images:
    if not isinstance(x, list) or not isinstance(y, list) or not len(x) == len(y) == count:
        sizes = [len(values) if isinstance(values, list) else values for values in (x, y)]
        raise DatasetError(f"{where}: {sizes[0]} images, {sizes[1]} labels, num_samples {count}")
    try:
        pixels = np.array(x, np.float64).reshape(count, SIDE, SIDE, 1)
    except (ValueError, TypeError):
        raise DatasetError(f"{where}: each image must be {SIDE * SIDE} numbers") from None
    if not np.all((pixels >= 0) & (pixels <= 1)):
        raise DatasetError(f"{where}: a pixel is out of range; pixels are 0 to 1")
    return np.rint(pixels * 255).astype(np.uint8)


def _part(by_user: _ByUser, users: Sequence[str]) -> Part:
    """All images, by user in the order of ``users``."""
    empty = np.empty((0, SIDE, SIDE, 1), np.uint8)
    images, labels, owners = [empty], [], []
    for number, user in enumerate(users):
        own_images, own_labels = by_user.get(user, ([], []))
        images += own_images
        labels += own_labels
        owners += [number] * len(own_labels)
    return Part(np.concatenate(images), np.array(labels, np.int64), np.array(owners, np.int64))


def _split(part: Part, users: Sequence[str], seed: int) -> tuple[Part, Part]:
    test = np.zeros(len(part.labels), np.bool_)
    for number, user in enumerate(users):
        own = np.flatnonzero(part.owners == number)
        order = permutation(len(own), key("femnist", seed, user))
        test[own[order[: len(own) // TEST_SHARE]]] = True
    train, tested = (
        Part(part.images[chosen], part.labels[chosen], part.owners[chosen])
        for chosen in (~test, test)
    )
    return train, tested
