"""A data set in memory: images as bytes, labels, and what a result has to say about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from experiments.values import short, whole

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Indices = NDArray[np.int64]


MOST_IMAGES = 1_000_000
"""Images of one split: a header that announces more is damaged, a size that asks for more a slip.
The largest set read here has 805,263; a million drawn ones of 32 x 32 x 3 take 3 GB."""
SEEDS = 1 << 63
"""Seeds are below."""


class DatasetError(ValueError):
    """A data set that cannot be had so; the message says what was found and what is needed."""


def whole_number(name: str, value: object, low: int, high: int, why: str = "an integer") -> int:
    """Return an argument that must be an integer from ``low`` to ``high``.

    Raises
    ------
    DatasetError
        It is anything else; the message ends in ``why``.
    """
    found = whole(value, low, high)
    if found is None:
        raise DatasetError(f"{name}: {short(value)}; give {low} to {high}, {why}")
    return found


def two_counts(name: str, value: object) -> tuple[int, int]:
    """Return an argument that must be two counts of images: to train and to test on.

    Raises
    ------
    DatasetError
        It is anything else, or a count is not 1 to 1,000,000.
    """
    counts = value if isinstance(value, tuple | list) else ()
    found = [count for one in counts if (count := whole(one, 1, MOST_IMAGES)) is not None]
    if len(found) != 2 or len(counts) != 2:
        raise DatasetError(
            f"{name}: {short(value)}; give two counts, to train and to test on, each of at least 1 "
            f"and up to {MOST_IMAGES:,}"
        )
    return found[0], found[1]


@dataclass(frozen=True, slots=True)
class Part:
    """Images and labels of one split, as a reader returns them.

    Attributes
    ----------
    images
        uint8 (n, h, w, c).
    labels
        int64 (n,).
    owners
        int64 (n,): index of the user who made each image; empty where nobody is named.
    """

    images: Images
    labels: Labels
    owners: Indices = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Parts:
    """Both splits of a data set and what its files say, before they are fitted to a model.

    Attributes
    ----------
    train, test
        The splits.
    classes
        Names, by label.
    sha256
        Hex digest of each file read, by name; empty where nothing was read.
    official
        Whether the files are byte for byte those that were published; None where no checksum of
        them is published.
    users
        Names that ``owners`` count.
    """

    train: Part
    test: Part
    classes: tuple[str, ...]
    sha256: Mapping[str, str]
    official: bool | None = None
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """One split of a data set. Its arrays are read-only.

    Attributes
    ----------
    name
        As in :func:`experiments.datasets.dataset_names`.
    split
        ``train``, ``test`` or ``validation``.
    images
        uint8 (n, h, w, c), C-contiguous: 0 is black, channels are grey or red, green, blue.
    labels
        int64 (n,), 0 to ``len(classes) - 1``.
    classes
        Names, by label.
    mean, std
        Per channel over the pixels of the whole TRAINING part, in pixel units (0 to 255); the
        population's deviation. The same for every split. A deviation of 0 is given as 1.
    sha256
        Hex digest of each source file by name; empty for a drawn set.
    official
        True: the files are those that were published. False: they are not (a copy that went
        through JPEG, say), so a result must not be reported under the plain name. None: nobody
        published a checksum of them.
    users, owners
        Who made the images: names, and int64 (n,) an index into them. Empty where not told.

    Raises
    ------
    DatasetError
        An array of another type or shape, a label or owner out of range, or a mean and deviation
        that images of these channels cannot be normalised by.
    """

    name: str
    split: str
    images: Images
    labels: Labels
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: Mapping[str, str]
    official: bool | None = None
    users: tuple[str, ...] = ()
    owners: Indices = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        _check_images(self)
        _check_indices("labels", self.labels, len(self.images), len(self.classes))
        _check_indices("owners", self.owners, len(self.images) * bool(self.users), len(self.users))
        for array in (self.images, self.labels, self.owners):
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    def take(self, indices: ArrayLike, split: str | None = None) -> Dataset:
        """Return the images at ``indices``, copied, with the same mean and deviation.

        Parameters
        ----------
        indices
            Integers (m,), 0 to n - 1, in the wanted order; of a mask, its ``np.flatnonzero``.
        split
            What the selection is called; the same as here if None.

        Raises
        ------
        DatasetError
            An index out of range, or none: a float, or a mask.
        """
        try:
            given = np.asarray(indices).reshape(-1)
        except ValueError:  # rows of several lengths
            given = np.empty(1, object)
        if given.size and given.dtype.kind not in "iu":
            raise DatasetError(
                f"indices: {short(indices)}; give integers, 0 to {len(self) - 1} (of a mask, its "
                "np.flatnonzero)"
            )
        if given.size and not 0 <= int(given.min()) <= int(given.max()) < len(self):
            raise DatasetError(
                f"indices: {given.min()} to {given.max()} in a data set of {len(self)} images; "
                f"give 0 to {len(self) - 1}"
            )
        wanted = given.astype(np.int64)
        return replace(
            self,
            split=self.split if split is None else split,
            images=self.images[wanted],
            labels=self.labels[wanted],
            owners=self.owners[wanted] if self.owners.size else self.owners,
        )

    def of_user(self, user: str) -> Dataset:
        """Return the images that one user made.

        Raises
        ------
        DatasetError
            An unknown user, or a data set that names none.
        """
        if user not in self.users:
            known = ", ".join(self.users[:5]) + (", ..." if len(self.users) > 5 else "")
            raise DatasetError(
                f"user: {user!r} is not in {self.name}; it has {known or 'no users'}"
            )
        return self.take(np.flatnonzero(self.owners == self.users.index(user)))

    def digest(self) -> str:
        """Return the SHA-256 of shape, pixels and labels: equal for equal data, however stored."""
        content = sha256(repr((self.images.shape, "uint8", "int64")).encode())
        content.update(np.ascontiguousarray(self.images).data)
        content.update(self.labels.astype("<i8").data)
        return content.hexdigest()


def _check_images(dataset: Dataset) -> None:
    """Refuse pixels that are no bytes: floats of 0 to 1 would all be taken for 0."""
    images = dataset.images
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        kind = getattr(images, "dtype", type(images).__name__)
        raise DatasetError(
            f"images: {kind} {getattr(images, 'shape', '')}; give uint8 (n, h, w, c), 0 to 255"
        )
    for name, values in (("mean", dataset.mean), ("std", dataset.std)):
        sound = len(values) == images.shape[3] and all(map(isfinite, values))
        if not sound or (name == "std" and min(values) <= 0):
            raise DatasetError(
                f"{name}: {short(values)}; give {images.shape[3]} finite numbers, one a channel"
                f"{', above 0' if name == 'std' else ''}"
            )


def _check_indices(name: str, array: Labels, count: int, most: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.int64 or array.shape != (count,):
        kind = getattr(array, "dtype", type(array).__name__)
        raise DatasetError(
            f"{name}: {kind} {getattr(array, 'shape', '')}; give int64 ({count},), one an image"
        )
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < most:
        raise DatasetError(
            f"{name}: {array.min()} to {array.max()} for {most} names; give 0 to {most - 1}"
        )


def check_labels(labels: NDArray[np.generic], classes: int, where: str) -> Labels:
    """Return ``labels`` as int64.

    Raises
    ------
    DatasetError
        One is not below ``classes``; the message gives ``where``, its place and value.
    """
    wide = np.asarray(labels, np.int64)
    wrong = np.flatnonzero((wide < 0) | (wide >= classes))
    if wrong.size:
        raise DatasetError(
            f"{where}: label {wide[wrong[0]]} of image {wrong[0]} is out of range; "
            f"labels are 0 to {classes - 1}. The file is damaged or of another data set"
        )
    return wide


def mean_and_std(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, in pixel units.

    The sums are exact integers and the divisions are of float64, so the result has the same bits
    everywhere. A channel without variation gets a deviation of 1.

    Parameters
    ----------
    images
        uint8 (n, h, w, c), not empty.

    Examples
    --------
    >>> mean_and_std(np.array([0, 4], np.uint8).reshape(1, 1, 2, 1))
    ((2.0,), (2.0,))
    """
    values = np.arange(256)
    means, deviations = [], []
    for channel in range(images.shape[3]):
        counts = np.zeros(256, np.int64)
        for block in np.array_split(images[..., channel], max(1, len(images) // 4096)):
            counts += np.bincount(block.reshape(-1), minlength=256)
        count = int(counts.sum())
        total, squares = int(counts @ values), int(counts @ values**2)
        means.append(total / count)
        deviations.append(((count * squares - total**2) / count**2) ** 0.5 or 1.0)
    return tuple(means), tuple(deviations)
