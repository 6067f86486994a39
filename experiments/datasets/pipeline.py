"""Batches for training: shuffled, augmented and normalised, each a function of its key alone.

The order of an epoch depends on (seed, epoch); the crop and flip of an image on (seed, epoch,
index of the image). No state is carried from batch to batch, so a run can resume at any batch,
in any process, and sees the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.datasets.dataset import (
    SEEDS,
    Dataset,
    DatasetError,
    Images,
    Indices,
    Labels,
    whole_number,
)
from experiments.datasets.keyed import below, key, permutation
from experiments.values import short

AUGMENTATIONS = ("crop", "flip")
CROP = 4
"""Pixels of black padded on each side before a crop, as is usual for CIFAR-10."""
MOST_CROP = 256
"""More would make a batch of black, of megabytes for each image."""

Batch = tuple[NDArray[np.float32], Labels]


class Batches:
    """The batches of one epoch.

    Parameters
    ----------
    dataset
        What they are made of.
    batch
        Images in each.
    seed, epoch
        Non-negative; the key of the order and of the augmentation.
    augment
        Any of ``crop`` (black around the image, ``crop_pad`` pixels on each side, and a random
        window of the old size) and ``flip`` (left to right, with probability 1/2).
    drop_last
        Whether an incomplete last batch is left out.
    shuffle
        Whether the order is drawn; otherwise it is that of the data set.
    first
        The batch to begin with: the earlier ones are done.
    crop_pad
        See ``augment``.

    Raises
    ------
    DatasetError
        An argument out of range.

    Examples
    --------
    >>> from experiments.datasets import load_dataset
    >>> batches = Batches(load_dataset("digits"), 64, seed=0, epoch=0)
    >>> images, labels = next(iter(batches))
    >>> len(batches), images.shape, images.dtype, labels.shape
    (22, (64, 8, 8, 1), dtype('float32'), (64,))
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        seed: int,
        epoch: int,
        augment: Sequence[str] = (),
        drop_last: bool = True,
        *,
        shuffle: bool = True,
        first: int = 0,
        crop_pad: int = CROP,
    ) -> None:
        self.dataset, self.augment = dataset, _augmentations(augment)
        images = len(dataset)
        self.batch = batch = whole_number("batch", batch, 1, images, "the images there are")
        self.seed = seed = whole_number("seed", seed, 0, SEEDS - 1)
        self.epoch = epoch = whole_number("epoch", epoch, 0, SEEDS - 1)
        self.crop_pad = whole_number("crop_pad", crop_pad, 0, MOST_CROP)
        self._count = images // batch if drop_last else -(-images // batch)
        self.first = whole_number("first", first, 0, self._count, "the batches there are")
        self._key = key("augment", seed, epoch)
        self._order = (
            permutation(images, key("order", seed, epoch)) if shuffle else np.arange(images)
        )
        self._normal = _normal_values(dataset)

    def __len__(self) -> int:
        """Batches that are to come: those from ``first`` on."""
        return self._count - self.first

    def __iter__(self) -> Iterator[Batch]:
        for number in range(self.first, self._count):
            yield self.at(number)

    def indices(self, number: int) -> Indices:
        """Return which images batch ``number`` of the epoch shows, int64.

        Raises
        ------
        DatasetError
            No such batch.
        """
        number = whole_number("batch number", number, 0, self._count - 1)
        return self._order[number * self.batch : (number + 1) * self.batch]

    def at(self, number: int) -> Batch:
        """Return batch ``number`` of the epoch, counted from its beginning.

        Returns
        -------
        images, labels
            float32 (n, h, w, c), ``(pixel - mean) / std`` rounded once from float64; int64 (n,).
        """
        indices = self.indices(number)
        pixels = self._augmented(indices).astype(np.intp)
        if self._normal.shape[0] > 1:
            pixels += 256 * np.arange(self._normal.shape[0])
        return self._normal.reshape(-1)[pixels], self.dataset.labels[indices]

    def _augmented(self, indices: Indices) -> Images:
        images = self.dataset.images[indices]
        if "crop" in self.augment and self.crop_pad:
            images = self._cropped(images, indices)
        if "flip" in self.augment:
            flipped = below(2, key(self._key, "flip"), indices) == 1
            images[flipped] = images[flipped, :, ::-1]
        return images

    def _cropped(self, images: Images, indices: Indices) -> Images:
        count, height, width, channels = images.shape
        pad, choices = self.crop_pad, 2 * self.crop_pad + 1
        padded = np.zeros((count, height + 2 * pad, width + 2 * pad, channels), np.uint8)
        padded[:, pad : pad + height, pad : pad + width] = images
        tops = below(choices, key(self._key, "top"), indices).tolist()
        lefts = below(choices, key(self._key, "left"), indices).tolist()
        for image, source, top, left in zip(images, padded, tops, lefts, strict=True):
            image[:] = source[top : top + height, left : left + width]
        return images


def _augmentations(given: object) -> tuple[str, ...]:
    names = given if isinstance(given, tuple | list) else (given,)
    for name in names:
        if name not in AUGMENTATIONS:
            raise DatasetError(
                f"augment: {short(name)}; allowed are {', '.join(AUGMENTATIONS)}, in a tuple"
            )
    if isinstance(given, str):
        raise DatasetError(f"augment: {short(given)} alone; give a tuple, ({given!r},)")
    return tuple(names)


def _normal_values(dataset: Dataset) -> NDArray[np.float32]:
    """What each byte becomes, float32 (channels, 256)."""
    mean, std = np.array(dataset.mean), np.array(dataset.std)
    values = (np.arange(256.0) - mean[:, None]) / std[:, None]
    return np.asarray(values, np.float32)
