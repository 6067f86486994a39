"""Drawn images of ten shapes, 32 x 32 in colour: a data set without files.

An image depends on its seed, its split and its index alone, through integers: the same bytes on
every machine, for any size. It shows one shape at a random place, size and angle in a random
colour, on another; waves, small discs, a bar across and noise make it harder.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from experiments.datasets.dataset import Images, Labels, Part, Parts, two_counts
from experiments.datasets.keyed import below, draws, key

SIDE = 32
CLASSES = (
    *("disc", "square", "triangle", "cross", "ring"),
    *("frame", "half disc", "bar", "crescent", "hourglass"),
)
SIZES = (10_000, 2_000)
"""Images to train and to test on, unless told otherwise."""
BLOCK = 256
"""Images drawn at once: bounds the memory."""

_Grid = NDArray[np.int32]
_QUARTER = (256, 251, 237, 213, 181, 142, 98, 50, 0)
"""round(256 cos(k pi / 16)), k = 0 to 8."""
_COSINE = (
    *_QUARTER,
    *(-c for c in _QUARTER[-2::-1]),
    *(-c for c in _QUARTER[1:]),
    *_QUARTER[-2:0:-1],
)
_ANGLES = len(_COSINE)


def _disc(u: _Grid, v: _Grid, r: _Grid) -> NDArray[np.bool_]:
    return u * u + v * v <= r * r


def _square(u: _Grid, v: _Grid, r: _Grid) -> NDArray[np.bool_]:
    return 8 * np.maximum(abs(u), abs(v)) <= 7 * r


_INSIDE: tuple[Callable[[_Grid, _Grid, _Grid], NDArray[np.bool_]], ...] = (
    _disc,
    _square,
    lambda u, v, r: (2 * v <= r) & (7 * abs(u) <= 4 * (v + r)),
    lambda u, v, r: (3 * np.minimum(abs(u), abs(v)) <= r) & _square(u, v, r),
    lambda u, v, r: _disc(u, v, r) & (3 * (u * u + v * v) > r * r),
    lambda u, v, r: _square(u, v, r) & (2 * np.maximum(abs(u), abs(v)) > r),
    lambda u, v, r: _disc(u, v, r) & (v >= 0),
    lambda u, v, r: (abs(u) <= r) & (3 * abs(v) <= r),
    lambda u, v, r: _disc(u, v, r) & ~_disc(2 * u - r, 2 * v, 3 * r // 2),
    lambda u, v, r: (abs(u) <= abs(v)) & _square(u, v, r),
)
"""Whether (u, v), from the centre of a shape of radius r, is in it; by label."""


def read(sizes: tuple[int, int] | None = None, seed: int = 0) -> Parts:
    """Draw both splits.

    Parameters
    ----------
    sizes
        Images to train and to test on, up to 1,000,000 each; (10,000, 2,000) if None.
    seed
        Another seed, other images.

    Raises
    ------
    DatasetError
        A size that is not 1 to 1,000,000.
    """
    train, test = two_counts("sizes", SIZES if sizes is None else sizes)
    return Parts(draw("train", train, seed), draw("test", test, seed), CLASSES, {})


def largest(sizes: tuple[int, int] | None) -> int:
    """Return the images of the larger split, as :func:`read` would draw it."""
    return max(two_counts("sizes", SIZES if sizes is None else sizes))


def draw(split: str, count: int, seed: int) -> Part:
    """Draw images ``0 .. count - 1`` of a split; label ``index % 10``.

    Returns
    -------
    Part
        uint8 (count, 32, 32, 3) and int64 (count,). The first images do not depend on ``count``.
    """
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    for first in range(0, count, BLOCK):
        indices = np.arange(first, min(first + BLOCK, count))
        images[indices] = _block(indices, labels[indices], ("shapes32", seed, split))
    return Part(images, labels)


class _Choices:
    """Named draws for a block of images, shaped to work on (images, rows, columns)."""

    def __init__(self, indices: NDArray[np.int64], purpose: tuple[str | int, ...]) -> None:
        self._indices, self._purpose = indices, purpose

    def __call__(self, name: str, least: int, most: int) -> _Grid:
        """Integers from ``least`` to ``most``, (images, 1, 1)."""
        drawn = below(most - least + 1, key(*self._purpose, name), self._indices)
        return (drawn + least).astype(np.int32)[:, None, None]

    def noise(self) -> NDArray[np.int32]:
        """Integers from -128 to 127, (images, rows, columns, channels)."""
        own = draws(key(*self._purpose, "noise"), self._indices)[:, None]
        words = draws(own, np.arange(SIDE * SIDE * 3 // 8)[None])
        drawn = words.astype("<u8").view(np.uint8).astype(np.int32) - 128
        return drawn.reshape(-1, SIDE, SIDE, 3)


def _block(indices: NDArray[np.int64], labels: Labels, purpose: tuple[str | int, ...]) -> Images:
    choose = _Choices(indices, purpose)
    ground = [choose(f"ground {channel}", 0, 130) for channel in range(3)]
    colour = [choose(f"colour {channel}", 110, 255) for channel in range(3)]
    shape = _shape_mask(labels, choose)
    disturbed = _disturbances(choose)
    wave = _wave(choose)
    canvas = np.empty((len(indices), SIDE, SIDE, 3), np.int32)
    for channel in range(3):
        plane = np.where(shape, colour[channel], ground[channel]) + wave
        for number, mask in enumerate(disturbed):
            plane = np.where(mask, choose(f"disturbance {number} {channel}", 0, 255), plane)
        canvas[..., channel] = plane
    canvas += (choose.noise() * choose("noise level", 8, 56)[..., None]) >> 7
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _turned(choose: _Choices, name: str, reach: int) -> tuple[_Grid, _Grid]:
    """Coordinates in half pixels from a random centre, turned by a random angle.

    The centre is at most ``reach`` half pixels from the middle, each way.
    """
    row, column = np.mgrid[0:SIDE, 0:SIDE].astype(np.int32) * 2 - (SIDE - 1)
    x = column - choose(f"{name} x", -reach, reach)
    y = row - choose(f"{name} y", -reach, reach)
    angle = choose(f"{name} angle", 0, _ANGLES - 1)
    table = np.array(_COSINE, np.int32)
    cosine, sine = table[angle], table[angle - _ANGLES // 4]
    return (x * cosine + y * sine) >> 8, (y * cosine - x * sine) >> 8


def _shape_mask(labels: Labels, choose: _Choices) -> NDArray[np.bool_]:
    u, v = _turned(choose, "shape", 8)
    radius = choose("shape radius", 14, 24)
    mask = np.empty(u.shape, np.bool_)
    for label, inside in enumerate(_INSIDE):
        own = labels == label
        mask[own] = inside(u[own], v[own], radius[own])
    return mask


def _disturbances(choose: _Choices) -> list[NDArray[np.bool_]]:
    """Two small discs anywhere, and a bar of two or three pixels across the image."""
    masks = []
    for number in range(2):
        u, v = _turned(choose, f"disc {number}", SIDE - 1)
        masks.append(_disc(u, v, choose(f"disc {number} radius", 3, 6)))
    u, _ = _turned(choose, "bar", 16)
    return [*masks, abs(u) <= choose("bar width", 2, 3)]


def _wave(choose: _Choices) -> _Grid:
    """Triangle waves of random direction, length and height, around 0."""
    u, _ = _turned(choose, "wave", SIDE - 1)
    length = choose("wave length", 6, 24)
    height = choose("wave height", 0, 32)
    return (abs(u % (2 * length) - length) * 2 - length) * height // length
