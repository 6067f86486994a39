"""FEMNIST as LEAF writes it: JSON files of users with their images.

LEAF (S. Caldas et al., arXiv 1812.01097; ``data/femnist/preprocess/data_to_json.py`` of
TalwalkarLab/leaf) writes files of 100 users, see :mod:`experiments.datasets.leaf`. Ink is dark on
white; labels 0 to 9 are digits, 10 to 35 capitals, 36 to 61 small letters.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.datasets.dataset import DatasetError, Images, Labels, Part, Parts
from experiments.datasets.files import SourceFiles
from experiments.datasets.keyed import key, permutation
from experiments.datasets.leaf import SIDE, read_users
from experiments.values import short

CLASSES = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
ORIGIN = "https://github.com/TalwalkarLab/leaf, data/femnist/preprocess.sh"
WANTED = (
    "train/*.json and test/*.json as LEAF writes them, or all_data/all_data_*.json before they "
    "are split"
)
TEST_SHARE = 10
"""Without a split of LEAF's, one image of so many of each user is tested on (LEAF's --tf 0.9)."""

_ByUser = dict[str, tuple[Images, Labels]]


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
        Files are missing or not LEAF's; a user stands twice; counts disagree; a value is no pixel
        or label.
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
        counts = f"{len(train.labels)} to train and {len(test.labels)} to test on"
        raise DatasetError(
            f"{files.folder}: too few images, {counts}; each part needs one: add files"
        )
    return Parts(train, test, CLASSES, files.sha256, None, users)


def _users(files: SourceFiles, paths: Sequence[Path]) -> _ByUser:
    """Images and labels by user, from all files of a split.

    LEAF puts each user in one file. One who stands in two is there by a copy of a file (or by
    ``all_data`` inside the folder that it was copied to) and would weigh double.
    """
    by_user: _ByUser = {}
    seen: dict[str, Path] = {}
    for path in paths:
        for user, own in read_users(files.content(path), path, len(CLASSES)).items():
            if user in seen:
                raise DatasetError(
                    f"{path}, user {short(user)}: is in {seen[user]} as well; each user stands in "
                    "one file: remove the copy"
                )
            by_user[user], seen[user] = own, path
    return by_user


def _part(by_user: _ByUser, users: Sequence[str]) -> Part:
    """All images, by user in the order of ``users``."""
    nothing = np.empty((0, SIDE, SIDE, 1), np.uint8), np.empty(0, np.int64)
    own = [by_user.get(user, nothing) for user in users]
    images = np.concatenate([nothing[0], *(images for images, _ in own)])
    labels = np.concatenate([nothing[1], *(labels for _, labels in own)])
    counts = np.array([len(labels) for _, labels in own], np.int64)
    return Part(images, labels, np.repeat(np.arange(len(users), dtype=np.int64), counts))


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
