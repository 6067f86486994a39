"""Images brought to the shape that a model takes, by integer rules.

Channels first: grey becomes colour by repetition, colour becomes grey as
``(299 R + 587 G + 114 B + 500) // 1000`` (ITU-R BT.601). Then the size:

- smaller than wanted: each pixel becomes a square of the largest whole factor that fits, and black
  is padded around, the odd row or column below and to the right (28 to 32: 2 rows of padding on
  each side; 8 to 28: threefold, then 2 on each side);
- larger: the middle that is a whole multiple of the wanted size is averaged down, halves rounded
  up (32 to 28: the middle; 32 to 16: means of 2 x 2).
"""

from __future__ import annotations

import numpy as np

from experiments.datasets.dataset import DatasetError, Images
from experiments.values import short, whole

MOST = 1024
"""Largest height or width."""
MOST_BYTES = 1 << 34
"""Bytes of the images of one split, 16 GiB: they are held in memory, and copies of them."""


def fit_images(images: Images, shape: tuple[int, int, int]) -> Images:
    """Return images of another shape.

    Parameters
    ----------
    images
        uint8 (n, h, w, c), c of 1 or 3.
    shape
        Height, width and channels wanted: both sides at least as large as they are, or both at
        most; 1 or 3 channels.

    Returns
    -------
    ndarray
        uint8 (n, *shape), C-contiguous; ``images`` itself if it has that shape already.

    Raises
    ------
    DatasetError
        A shape that the rules do not reach.

    Examples
    --------
    >>> fit_images(np.full((5, 28, 28, 1), 9, np.uint8), (32, 32, 3)).shape
    (5, 32, 32, 3)
    """
    height, width, channels = check_shape(shape, len(images))
    _, old_height, old_width, _ = images.shape
    grows = height >= old_height and width >= old_width
    if not grows and not (height <= old_height and width <= old_width):
        raise DatasetError(
            f"shape: {shape} for images of {old_height} x {old_width}; give sides that are both at "
            "least as large, or both at most"
        )
    sized = _grown if grows else _shrunk
    return np.ascontiguousarray(sized(_coloured(images, channels), height, width))


def check_shape(shape: object, count: int) -> tuple[int, int, int]:
    """Return a shape that ``count`` images can have in memory.

    Raises
    ------
    DatasetError
        It is no height, width and channels, a side is not 1 to 1024, channels are not 1 or 3, or
        the images take more than 16 GiB.
    """
    sides = shape if isinstance(shape, tuple | list) else ()
    found = [whole(side, 1, MOST) for side in sides]
    if len(found) != 3 or None in found or found[2] not in (1, 3):
        raise DatasetError(
            f"shape: {short(shape)}; give height and width of 1 to {MOST}, and 1 or 3 channels"
        )
    height, width, channels = (side or 0 for side in found)
    if count * height * width * channels > MOST_BYTES:
        raise DatasetError(
            f"shape: {count:,} images of {height} x {width} x {channels} take "
            f"{count * height * width * channels:,} bytes; up to {MOST_BYTES:,} are held in "
            "memory: take fewer images, or a model of smaller ones"
        )
    return height, width, channels


def _coloured(images: Images, channels: int) -> Images:
    old = images.shape[3]
    if old == channels:
        return images
    if old == 1:
        return np.repeat(images, channels, axis=3)
    weights = np.array([299, 587, 114], np.int32)
    grey = np.empty((*images.shape[:3], 1), np.uint8)
    for first in range(0, len(images), MOST):  # in blocks: the sums are wider than the images
        block = slice(first, first + MOST)
        grey[block, ..., 0] = (images[block].astype(np.int32) @ weights + 500) // 1000
    return grey


def _grown(images: Images, height: int, width: int) -> Images:
    factor = min(height // images.shape[1], width // images.shape[2])
    larger = images.repeat(factor, axis=1).repeat(factor, axis=2) if factor > 1 else images
    rows, columns = height - larger.shape[1], width - larger.shape[2]
    if not rows and not columns:
        return larger
    margins = (
        (0, 0),
        (rows // 2, rows - rows // 2),
        (columns // 2, columns - columns // 2),
        (0, 0),
    )
    return np.pad(larger, margins)


def _shrunk(images: Images, height: int, width: int) -> Images:
    factor = min(images.shape[1] // height, images.shape[2] // width)
    top = (images.shape[1] - height * factor) // 2
    left = (images.shape[2] - width * factor) // 2
    middle = images[:, top : top + height * factor, left : left + width * factor]
    if factor == 1:
        return middle
    tiles = middle.reshape(len(images), height, factor, width, factor, images.shape[3])
    area = factor * factor
    means = (tiles.sum(axis=(2, 4), dtype=np.int32) + area // 2) // area
    return np.asarray(means, np.uint8)
