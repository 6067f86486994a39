"""One JSON file of LEAF's: users with their images and labels, each value checked.

``{"users": [...], "num_samples": [...], "user_data": {user: {"x": [[784 numbers]], "y":
[labels]}}}``: pixels are a byte / 255. JSON says more than that, and what NumPy would take for a
number (``"0.5"``, ``true``), Python for one of 4,301 digits, or a dict for the last of two users
of one name, is refused with its place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.datasets.dataset import DatasetError, Images, Labels
from experiments.values import short

SIDE = 28
PIXELS = SIDE * SIDE
DIGITS = 20
"""Longer integers are not read: no pixel, label or count has as many digits."""
FORM = "it has users, num_samples, and user_data with x and y for each user"
REMEDY = "make the file again with LEAF's preprocess.sh"


class _Odd:
    """A number of JSON's that is none here, as it was written: NaN, Infinity, 999...9."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def read_users(content: bytes, path: Path, classes: int) -> dict[str, tuple[Images, Labels]]:
    """Return the images and labels of a file by user, in its order.

    Parameters
    ----------
    content
        The file.
    path
        Its name, for messages.
    classes
        Labels are below.

    Returns
    -------
    dict
        Per user uint8 (n, 28, 28, 1) and int64 (n,); n may be 0.

    Raises
    ------
    DatasetError
        It is not JSON or not of LEAF's form, names a user twice, has counts that disagree, or a
        value that is no pixel or label; the message names file, user, place and value.
    """
    document = _parsed(content, path)
    users, counts, data = _parts(document, path)
    found = {}
    for user, count in zip(users, counts, strict=True):
        where = f"{path}, user {short(user)}"
        own = data[user]
        if not isinstance(own, dict) or not own.keys() >= {"x", "y"}:
            raise DatasetError(f"{where}: not of LEAF's form; {FORM}")
        x, y = own["x"], own["y"]
        lists = isinstance(x, list) and isinstance(y, list)
        if not lists or type(count) is not int or not len(x) == len(y) == count:
            sizes = [
                len(values) if isinstance(values, list) else short(values) for values in (x, y)
            ]
            raise DatasetError(
                f"{where}: {sizes[0]} images, {sizes[1]} labels, num_samples {short(count)}; the "
                f"three must be one count: {REMEDY}"
            )
        found[user] = _images(x, where), _labels(y, classes, where)
    return found


def _parsed(content: bytes, path: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            raise DatasetError(
                f"{path}: {_twice([name for name, _ in pairs])} stands twice in one object; each "
                "user and field stands once: remove one"
            )
        return made

    def integer(text: str) -> int | _Odd:
        return int(text) if len(text) <= DIGITS else _Odd(text)

    try:
        return json.loads(content, object_pairs_hook=unique, parse_int=integer, parse_constant=_Odd)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: not JSON, or truncated ({error}); {REMEDY}") from None


def _parts(document: Any, path: Path) -> tuple[list[str], list[Any], dict[str, Any]]:
    """Users, counts and data; every user once, and with data."""
    kinds = {"users": list, "num_samples": list, "user_data": dict}
    for field, kind in kinds.items():
        value = document.get(field) if isinstance(document, dict) else None
        if not isinstance(value, kind):
            raise DatasetError(f"{path}: not of LEAF's form (no {field}); {FORM}")
    users, counts, data = (document[field] for field in kinds)
    for place, user in enumerate(users):
        if not isinstance(user, str):
            raise DatasetError(
                f"{path}: users[{place}] is {short(user)}; users are texts: {REMEDY}"
            )
    if len(counts) != len(users) or len(data) != len(users):
        raise DatasetError(
            f"{path}: users, num_samples and user_data differ in length ({len(users)}, "
            f"{len(counts)}, {len(data)}): {REMEDY}"
        )
    if len(set(users)) < len(users):
        raise DatasetError(
            f"{path}: users has {_twice(users)} twice; each user stands once: remove one"
        )
    if lost := sorted(set(users) - data.keys()):
        raise DatasetError(f"{path}, user {short(lost[0])}: is not in user_data; {REMEDY}")
    return users, counts, data


def _twice(names: Sequence[str]) -> str:
    """Return the first name that stands again."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return short(name)
        seen.add(name)
    raise AssertionError("no name stands twice")


def _labels(y: list[Any], classes: int, where: str) -> Labels:
    for place, label in enumerate(y):
        if type(label) is not int or not 0 <= label < classes:
            raise DatasetError(
                f"{where}: y[{place}] is {short(label)}; labels are integers from 0 to "
                f"{classes - 1}: {REMEDY}"
            )
    return np.array(y, np.int64)


def _images(x: list[Any], where: str) -> Images:
    for place, image in enumerate(x):
        if not isinstance(image, list) or len(image) != PIXELS:
            size = f"has {len(image)} values" if isinstance(image, list) else f"is {short(image)}"
            raise DatasetError(
                f"{where}: x[{place}] {size}; each image must be {PIXELS} numbers: {REMEDY}"
            )
        if not {float, int}.issuperset(map(type, image)):
            kinds = (float, int)
            raise _no_pixel(x, place, [type(value) not in kinds for value in image], where)
    pixels = np.array(x, np.float64).reshape(len(x), PIXELS)
    outside = ~((pixels >= 0) & (pixels <= 1))
    if outside.any():
        place = int(np.flatnonzero(outside.any(axis=1))[0])
        raise _no_pixel(x, place, outside[place].tolist(), where)
    return np.rint(pixels * 255).astype(np.uint8).reshape(-1, SIDE, SIDE, 1)


def _no_pixel(x: list[Any], image: int, wrong: Sequence[bool], where: str) -> DatasetError:
    """Return the error for the first wrong pixel of an image."""
    pixel = wrong.index(True)
    return DatasetError(
        f"{where}: x[{image}][{pixel}] is {short(x[image][pixel])}; pixels are 0 to 1, numbers: "
        f"{REMEDY}"
    )
