"""Data sets without files, what a name and its options give, and the rules that fit images."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.datasets import (
    DatasetError,
    by_user,
    dataset_names,
    digits,
    fit_images,
    load_dataset,
    load_splits,
    shapes32,
)
from experiments.datasets.dataset import mean_and_std


def test_digits_are_those_of_uci() -> None:
    train, test = load_splits("digits")
    assert (train.images.shape, test.images.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert train.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    first = (0, 0, 5, 13, 9, 1, 0, 0)
    assert train.images[0, 0, :, 0].tolist() == [(count * 255 + 8) // 16 for count in first]
    labels = np.concatenate([train.labels, test.labels])
    published = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # per class, UCI's test set
    assert np.bincount(labels).tolist() == published
    assert train.official
    assert sha256(digits.FILE.read_bytes()).hexdigest() == train.sha256["digits.csv.gz"]


def test_drawn_images_are_the_same_everywhere() -> None:
    train, test = load_splits("shapes32", sizes=(600, 50), seed=3)
    pinned = (
        "8403d8c90eaefabb6f72394114b0aea1b10bbdc1e48cf6fbcf73619a23b8f6b5",
        "a8682e47c3b251bf92925f3c52d2ecede21f3454e3eb0d594652b54a054bdc25",
    )
    assert (train.digest(), test.digest()) == pinned


def test_an_image_depends_on_its_key_alone() -> None:
    many = shapes32.draw("train", shapes32.BLOCK + 37, 0)
    few = shapes32.draw("train", shapes32.BLOCK - 3, 0)
    assert np.array_equal(many.images[: len(few.images)], few.images)
    assert np.bincount(many.labels).max() - np.bincount(many.labels).min() <= 1
    for other in (shapes32.draw("test", 20, 0), shapes32.draw("train", 20, 1)):
        assert not any(np.array_equal(a, b) for a, b in zip(few.images, other.images, strict=False))


def test_drawn_shapes_can_be_told_apart_and_not_too_easily() -> None:
    train, test = load_splits("shapes32", sizes=(3000, 500))
    flat, wanted = (part.images.reshape(len(part), -1).astype(np.float64) for part in (train, test))
    distance = (wanted**2).sum(1)[:, None] + (flat**2).sum(1) - 2 * wanted @ flat.T
    nearest = train.labels[distance.argmin(axis=1)]
    assert 0.12 < (nearest == test.labels).mean() < 0.5  # chance is 0.1


def test_names_splits_and_options_are_checked() -> None:
    assert dataset_names() == tuple(sorted(dataset_names()))
    faults: list[tuple[Any, dict[str, object], str]] = [
        ("cifar", {}, "known are cifar10, digits"),
        ("digits", {"split": "validation"}, "allowed are train and test"),
        ("digits", {"folder": "/tmp"}, "folder: digits has no use for it; it is for cifar10"),
        ("digits", {"seed": 1}, "seed: digits has no use"),
        ("digits", {"sizes": (1, 1)}, "it is for shapes32"),
        ("shapes32", {"split_of_test": (1, 1)}, "it is for fashion-mnist, mnist"),
        *(
            ("shapes32", {"sizes": sizes}, r"sizes: .*; give two counts, .* up to 1,000,000")
            for sizes in (
                *((10, 0), (10**9, 10), (10**6 + 1, 1), (10**30, 1), (1, 2, 3), (1,), 5, "12"),
                *((2.5, 1), ("a", "b"), (True, True), (None, 1)),
            )
        ),
        ("mnist", {"folder": "/tmp", "split_of_test": (5,)}, r"split_of_test: \(5,\); give two"),
        ("mnist", {"folder": "/tmp", "split_of_test": (1.5, 2)}, r"split_of_test: \(1.5, 2\)"),
        *(
            ("shapes32", {"seed": seed}, "seed: .*; give 0 to")
            for seed in (-1, 1.5, "1", True, None)
        ),
        *(
            ("digits", {"shape": shape}, "shape: .*; give height and width of 1 to 1024")
            for shape in ((28, 28), (28, 28, 1, 1), (28.0, 28, 1), ("a", 1, 1), 5, (True, 8, 1))
        ),
        (
            "shapes32",
            {"sizes": (1, 10**6), "shape": (1024, 1024, 3)},
            "1,000,000 images of 1024 x 1024 x 3 take",
        ),
        (None, {}, "data set: None"),
        (["digits"], {}, r"data set: \['digits'\]; known are"),
        ("digits", {"split": ["train"]}, "split: .*; allowed are train and test"),
    ]
    for name, options, message in faults:
        with pytest.raises(DatasetError, match=message):
            load_dataset(name, **options)  # type: ignore[arg-type]


def test_a_data_set_is_read_only_and_selects_by_index() -> None:
    train = load_dataset("digits")
    with pytest.raises(ValueError, match="read-only"):
        train.images[0] = 0
    some = train.take([5, 0, 5])
    assert some.labels.tolist() == [5, 0, 5]
    assert (some.mean, some.split, some.shape) == (train.mean, "train", (8, 8, 1))
    for wrong in ([-1], [1437], [2**64 - 1]):
        with pytest.raises(DatasetError, match="give 0 to 1436"):
            train.take(wrong)
    mask = train.labels == 3
    for silent in (mask, [True, False], [0.7], ["1"], None, [10**30], [[1, 2], [3]]):
        with pytest.raises(DatasetError, match=r"integers, 0 to 1436 \(of a mask, its np.flatn"):
            train.take(silent)  # type: ignore[arg-type]
    assert set(train.take(np.flatnonzero(mask)).labels.tolist()) == {3}
    assert len(train.take([])) == 0
    with pytest.raises(DatasetError, match="names no users"):
        by_user(train)
    assert len({train.digest(), some.digest(), train.take(np.arange(3)).digest()}) == 3


def test_arrays_of_your_own_are_checked() -> None:
    """Floats of 0 to 1 would be taken for black, and NumPy wraps a label of -1."""
    own = load_dataset("digits").take([0, 1, 2])
    faults: list[tuple[dict[str, Any], str]] = [
        ({"images": own.images / np.float32(255)}, r"images: float32 \(3, 8, 8, 1\); give uint8"),
        ({"images": own.images[..., 0]}, r"images: uint8 \(3, 8, 8\); give uint8 \(n, h, w, c\)"),
        ({"images": own.images.tolist()}, "images: list"),
        ({"images": own.images[:2]}, r"labels: int64 \(3,\); give int64 \(2,\), one an image"),
        ({"labels": own.labels.astype(np.int32)}, r"labels: int32 \(3,\); give int64"),
        ({"labels": np.array([0, -1, 3])}, "labels: -1 to 3 for 10 names; give 0 to 9"),
        ({"labels": np.array([0, 10, 3])}, "labels: 0 to 10 for 10 names"),
        ({"mean": ()}, r"mean: \(\); give 1 finite numbers"),
        ({"std": (0.0,)}, r"std: \(0.0,\); give 1 finite numbers, one a channel, above 0"),
        ({"mean": (float("nan"),)}, "mean: "),
        ({"users": ("a",)}, r"owners: int64 \(0,\); give int64 \(3,\)"),
        ({"users": ("a",), "owners": np.array([0, 1, 0])}, "owners: 0 to 1 for 1 names"),
    ]
    for change, message in faults:
        with pytest.raises(DatasetError, match=message):
            replace(own, **change)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_means_and_deviations(count: int, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, rng.integers(1, 257), (count, 3, 5, channels), np.uint8)
    mean, std = mean_and_std(images)
    assert np.allclose(mean, images.mean(axis=(0, 1, 2)))
    expected = images.std(axis=(0, 1, 2))
    assert np.allclose(std, np.where(expected == 0, 1, expected))


def fitted_slowly(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The rules of fit_images, pixel by pixel."""
    count, old_height, old_width, old_channels = images.shape
    height, width, channels = shape
    fitted = np.zeros((count, *shape), np.uint8)

    def value(image: int, row: int, column: int, channel: int) -> int:
        pixel = images[image, row, column].astype(int).tolist()
        if old_channels == channels:
            return int(pixel[channel])
        if old_channels == 1:
            return int(pixel[0])
        return int((299 * pixel[0] + 587 * pixel[1] + 114 * pixel[2] + 500) // 1000)

    grows = height >= old_height and width >= old_width
    k = min(
        height // old_height if grows else old_height // height,
        width // old_width if grows else old_width // width,
    )
    for index in np.ndindex(*fitted.shape):
        image, row, column, channel = index
        if grows:
            y, x = row - (height - k * old_height) // 2, column - (width - k * old_width) // 2
            if 0 <= y < k * old_height and 0 <= x < k * old_width:
                fitted[index] = value(image, y // k, x // k, channel)
        else:
            y = (old_height - k * height) // 2 + k * row
            x = (old_width - k * width) // 2 + k * column
            tile = [value(image, y + i, x + j, channel) for i in range(k) for j in range(k)]
            fitted[index] = (sum(tile) + k * k // 2) // (k * k)
    return fitted


SIDES = st.integers(1, 9)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3]), st.sampled_from([1, 3]))
def test_fitting_is_as_the_rules_say(
    old_height: int, old_width: int, height: int, width: int, old_channels: int, channels: int
) -> None:
    rng = np.random.default_rng(old_height * 100 + width)
    images = rng.integers(0, 256, (2, old_height, old_width, old_channels), np.uint8)
    shape = (height, width, channels)
    if (height - old_height) * (width - old_width) < 0:
        with pytest.raises(DatasetError, match="both at least as large, or both at most"):
            fit_images(images, shape)
    else:
        fitted = fit_images(images, shape)
        assert np.array_equal(fitted, fitted_slowly(images, shape))
        assert fitted.flags.c_contiguous
        assert fitted.dtype == np.uint8


def test_shapes_that_no_model_has_are_refused() -> None:
    images = np.zeros((1, 8, 8, 1), np.uint8)
    for shape in ((8, 8, 2), (0, 8, 1), (8, 1025, 1), (8, 8, 0)):
        with pytest.raises(DatasetError, match="1 or 3 channels"):
            fit_images(images, shape)


def test_a_fitted_data_set_has_the_statistics_of_its_new_pixels() -> None:
    train, test = load_splits("digits", shape=(28, 28, 3))
    assert train.shape == test.shape == (28, 28, 3)
    assert np.allclose(train.mean, train.images.mean(axis=(0, 1, 2)))
    assert test.mean == train.mean
