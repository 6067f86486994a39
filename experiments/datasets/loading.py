"""Data sets by name: read or drawn, fitted to a model, with the statistics to normalise by."""

from __future__ import annotations

from pathlib import Path

from experiments.datasets import cifar10, digits, femnist, idx, shapes32
from experiments.datasets.dataset import (
    SEEDS,
    Dataset,
    DatasetError,
    Part,
    Parts,
    mean_and_std,
    whole_number,
)
from experiments.datasets.fitting import check_shape, fit_images
from experiments.values import short

_OPTIONS = {
    "cifar10": ("folder",),
    "digits": (),
    "fashion-mnist": ("folder", "split_of_test", "seed"),
    "femnist": ("folder", "seed"),
    "mnist": ("folder", "split_of_test", "seed"),
    "shapes32": ("sizes", "seed"),
}
SPLITS = ("train", "test")


def dataset_names() -> tuple[str, ...]:
    """Return the names that :func:`load_dataset` knows, sorted.

    Examples
    --------
    >>> dataset_names()
    ('cifar10', 'digits', 'fashion-mnist', 'femnist', 'mnist', 'shapes32')
    """
    return tuple(_OPTIONS)


def load_dataset(
    name: str,
    folder: Path | str | None = None,
    split: str = "train",
    *,
    shape: tuple[int, int, int] | None = None,
    split_of_test: tuple[int, int] | None = None,
    sizes: tuple[int, int] | None = None,
    seed: int = 0,
) -> Dataset:
    """Load one split of a data set. Nothing is downloaded.

    Parameters
    ----------
    name
        One of :func:`dataset_names`.
    folder
        Where the files are; ``digits`` and ``shapes32`` need none.
    split
        ``train`` or ``test``.
    shape
        Height, width and channels that the model takes; see :mod:`experiments.datasets.fitting`.
        As in the files if None.
    split_of_test
        ``mnist`` and ``fashion-mnist`` without train files: how many images of the test file to
        train on and to test on.
    sizes
        ``shapes32``: images to draw to train on and to test on, up to 1,000,000 each.
    seed
        What is drawn: the images of ``shapes32``, the split of ``split_of_test``, the split of a
        ``femnist`` that LEAF did not split.

    Raises
    ------
    DatasetError
        An unknown name or split, an option that the data set has no use for, missing or damaged
        files, a shape that cannot be reached, or images that take more than 16 GiB in it.

    Examples
    --------
    >>> digits = load_dataset("digits", shape=(28, 28, 1))
    >>> digits.images.shape, digits.classes[3]
    ((1437, 28, 28, 1), '3')
    """
    if split not in SPLITS:
        raise DatasetError(
            f"split: {short(split)}; allowed are train and test (split_validation makes a third)"
        )
    splits = load_splits(
        name, folder, shape=shape, split_of_test=split_of_test, sizes=sizes, seed=seed
    )
    return splits[SPLITS.index(split)]


def load_splits(
    name: str,
    folder: Path | str | None = None,
    *,
    shape: tuple[int, int, int] | None = None,
    split_of_test: tuple[int, int] | None = None,
    sizes: tuple[int, int] | None = None,
    seed: int = 0,
) -> tuple[Dataset, Dataset]:
    """Load the train and the test split in one go; arguments as :func:`load_dataset` has them."""
    if not isinstance(name, str) or name not in _OPTIONS:
        raise DatasetError(f"data set: {short(name)}; known are {', '.join(_OPTIONS)}")
    given = {
        "folder": folder is not None,
        "split_of_test": split_of_test is not None,
        "sizes": sizes is not None,
        "seed": seed != 0,
    }
    for option, is_given in given.items():
        if is_given and option not in _OPTIONS[name]:
            users = [other for other in _OPTIONS if option in _OPTIONS[other]]
            raise DatasetError(f"{option}: {name} has no use for it; it is for {', '.join(users)}")
    seed = whole_number("seed", seed, 0, SEEDS - 1)
    if shape is not None:  # before what may take minutes: images that no memory holds
        check_shape(shape, shapes32.largest(sizes) if name == "shapes32" else 1)
    parts = _parts(name, folder, split_of_test, sizes, seed)
    return _datasets(name, parts, shape)


def _parts(
    name: str,
    folder: Path | str | None,
    split_of_test: tuple[int, int] | None,
    sizes: tuple[int, int] | None,
    seed: int,
) -> Parts:
    match name:
        case "cifar10":
            return cifar10.read(folder)
        case "digits":
            return digits.read()
        case "femnist":
            return femnist.read(folder, seed)
        case "shapes32":
            return shapes32.read(sizes, seed)
        case _:
            return idx.read(name, folder, split_of_test, seed)


def _datasets(
    name: str, parts: Parts, shape: tuple[int, int, int] | None
) -> tuple[Dataset, Dataset]:
    def fitted(part: Part) -> Part:
        if shape is None:
            return part
        return Part(fit_images(part.images, shape), part.labels, part.owners)

    train, test = fitted(parts.train), fitted(parts.test)
    mean, std = mean_and_std(train.images)
    first, second = (
        Dataset(
            name=name,
            split=split,
            images=part.images,
            labels=part.labels,
            classes=parts.classes,
            mean=mean,
            std=std,
            sha256=parts.sha256,
            official=parts.official,
            users=parts.users,
            owners=part.owners,
        )
        for split, part in zip(SPLITS, (train, test), strict=True)
    )
    return first, second
