"""Batches are functions of their key; splits share out every image once."""

from __future__ import annotations

from functools import lru_cache
from math import inf
from threading import Thread
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gamma, kstest

from experiments.datasets import (
    Batches,
    Dataset,
    DatasetError,
    load_dataset,
    non_iid,
    split_validation,
)
from experiments.datasets.keyed import below, draws, key, permutation
from experiments.datasets.splits import _log_gamma_variate


@lru_cache(maxsize=1)
def five_hundred() -> Dataset:
    return load_dataset("shapes32", sizes=(500, 10))


@pytest.fixture
def drawn() -> Dataset:
    return five_hundred()


def test_draws_are_those_of_splitmix64() -> None:
    """Checked against the generator's published first outputs for the seed 1234567."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert draws(1234567, np.arange(1, 6)).tolist() == published


def test_keys_differ_by_each_word_and_its_place() -> None:
    words: list[tuple[int | str, ...]] = [
        *((), (0,), (0, 0), (1,), (2**64,), (2**64 + 1,), (1, 0), (0, 1)),
        *(("a",), ("b",), ("a", 0), (0, "a"), ("a" * 8,), ("a" * 9,), ("order", 0, 1)),
    ]
    assert len({key(*each) for each in words}) == len(words)
    with pytest.raises(ValueError, match="-1 is negative"):
        key("order", -1)


def test_draws_are_the_same_everywhere() -> None:
    order = key("order", 7, 3)
    assert order == 6296740653648091530
    assert draws(order, np.arange(3)).tolist() == [
        16599106388503670847,
        16169399098209936887,
        3350238906840446904,
    ]
    assert below(10, order, np.arange(8)).tolist() == [8, 8, 1, 4, 3, 6, 6, 3]
    assert permutation(8, order).tolist() == [2, 7, 4, 3, 6, 5, 1, 0]


@given(st.integers(1, 2**32), st.integers(0, 2**64 - 1))
def test_bounded_draws_are_in_range(bound: int, a_key: int) -> None:
    drawn = below(bound, a_key, np.arange(100))
    assert 0 <= drawn.min() <= drawn.max() < bound


def test_bounded_draws_are_uniform() -> None:
    counts = np.bincount(below(10, key("test"), np.arange(100_000)))
    assert abs(counts - 10_000).max() < 5 * 95  # five standard deviations


@given(st.integers(0, 300), st.integers(0, 2**64 - 1))
def test_permutations_hold_every_index(count: int, a_key: int) -> None:
    assert np.array_equal(np.sort(permutation(count, a_key)), np.arange(count))


def batch_slowly(batches: Batches, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch, pixel by pixel from the definition."""
    data, pad = batches.dataset, batches.crop_pad
    indices = batches.indices(number)
    height, width, channels = data.shape
    augment = key("augment", batches.seed, batches.epoch)
    images = np.empty((len(indices), *data.shape), np.float32)
    for n, index in enumerate(indices):
        own = np.array([index])
        top, left = (int(below(2 * pad + 1, key(augment, w), own)[0]) for w in ("top", "left"))
        flips = "flip" in batches.augment and below(2, key(augment, "flip"), own)[0] == 1
        for row, column, channel in np.ndindex(height, width, channels):
            y, x = row, width - 1 - column if flips else column
            if "crop" in batches.augment:
                y, x = y + top - pad, x + left - pad
            inside = 0 <= y < height and 0 <= x < width
            pixel = float(data.images[index, y, x, channel]) if inside else 0.0
            images[n, row, column, channel] = (pixel - data.mean[channel]) / data.std[channel]
    return images, data.labels[indices]


@pytest.mark.parametrize("augment", [(), ("flip",), ("crop",), ("crop", "flip")])
@pytest.mark.parametrize("name", ["shapes32", "digits"])
def test_batches_are_as_defined(drawn: Dataset, name: str, augment: tuple[str, ...]) -> None:
    data = drawn if name == "shapes32" else load_dataset("digits")
    batches = Batches(data, 7, seed=1, epoch=2, augment=augment, crop_pad=3)
    for number in (0, len(batches) - 1):
        images, labels = batches.at(number)
        slow_images, slow_labels = batch_slowly(batches, number)
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        assert np.array_equal(images, slow_images)
        assert np.array_equal(labels, slow_labels)


def test_an_epoch_shows_every_image_once(drawn: Dataset) -> None:
    whole = Batches(drawn, 64, 0, 0, drop_last=False)
    sizes = [len(labels) for _, labels in whole]
    assert sizes == [64] * 7 + [52]
    shown = np.concatenate([whole.indices(number) for number in range(len(whole))])
    assert np.array_equal(np.sort(shown), np.arange(500))
    assert len(Batches(drawn, 64, 0, 0)) == 7
    unshuffled = Batches(drawn, 64, 0, 0, shuffle=False)
    assert np.array_equal(unshuffled.indices(1), np.arange(64, 128))


def test_a_resumed_epoch_goes_on_with_the_same_bits(drawn: Dataset) -> None:
    whole = list(Batches(drawn, 32, 5, 6, ("crop", "flip")))
    resumed = list(Batches(drawn, 32, 5, 6, ("crop", "flip"), first=9))
    assert len(resumed) == len(Batches(drawn, 32, 5, 6, first=9)) == len(whole) - 9
    for (images, labels), (again, labels_again) in zip(whole[9:], resumed, strict=True):
        assert np.array_equal(images, again)
        assert np.array_equal(labels, labels_again)


def test_threads_change_nothing(drawn: Dataset) -> None:
    batches = Batches(drawn, 32, 5, 6, ("crop", "flip"))
    expected = [images for images, _ in batches]
    found: dict[int, np.ndarray] = {}
    threads = [
        Thread(target=lambda n=n: found.update({n: batches.at(n)[0]})) for n in range(len(batches))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[n], expected[n]) for n in range(len(batches)))


def test_seed_and_epoch_change_order_and_augmentation(drawn: Dataset) -> None:
    orders, first_images = set(), set()
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1)):
        orders.add(Batches(drawn, 64, seed, epoch).indices(0).tobytes())
        still = Batches(drawn, 500, seed, epoch, ("crop", "flip"), shuffle=False)
        first_images.add(still.at(0)[0].tobytes())
    assert len(orders) == len(first_images) == 4


def test_augmentation_does_not_depend_on_the_batch(drawn: Dataset) -> None:
    small = Batches(drawn, 10, 3, 4, ("crop", "flip"), shuffle=False)
    large = Batches(drawn, 50, 3, 4, ("crop", "flip"), shuffle=False)
    assert np.array_equal(large.at(0)[0][40:], small.at(4)[0])


def test_arguments_of_batches_are_checked(drawn: Dataset) -> None:
    for options, message in (
        ({"augment": ("crop", "turn")}, "augment: 'turn'; allowed are crop, flip"),
        ({"batch": 0}, "batch: 0; give 1 to 500"),
        ({"batch": 501}, "batch: 501"),
        ({"first": 51}, "first: 51; give 0 to 50"),
        ({"crop_pad": -1}, "crop_pad: -1"),
        ({"crop_pad": 10**6}, "crop_pad: 1000000; give 0 to 256"),
        ({"crop_pad": 1.5}, "crop_pad: 1.5; give 0 to 256, an integer"),
        ({"batch": True}, "batch: True"),
        ({"batch": 2.5}, "batch: 2.5; give 1 to 500"),
        ({"batch": "8"}, "batch: '8'"),
        ({"first": True}, "first: True"),
        ({"seed": -1}, "seed: -1; give 0 to"),
        ({"seed": 1.5}, "seed: 1.5; give 0 to .*, an integer"),
        ({"seed": "a"}, "seed: 'a'"),
        ({"epoch": -1}, "epoch: -1"),
        ({"augment": "crop"}, r"augment: 'crop' alone; give a tuple, \('crop',\)"),
        ({"augment": None}, "augment: None; allowed are crop, flip"),
        ({"augment": (3, "crop")}, "augment: 3; allowed"),
    ):
        arguments: dict[str, object] = {"batch": 10, "seed": 0, "epoch": 0} | options
        with pytest.raises(DatasetError, match=message):
            Batches(drawn, **arguments)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="batch number: 50; give 0 to 49"):
        Batches(drawn, 10, 0, 0).at(50)


def test_normalised_pixels_have_mean_0_and_deviation_1(drawn: Dataset) -> None:
    (images, _), *_ = Batches(drawn, 500, 0, 0)
    assert np.allclose(images.mean(axis=(0, 1, 2), dtype=np.float64), 0, atol=1e-6)
    assert np.allclose(images.std(axis=(0, 1, 2), dtype=np.float64), 1, atol=1e-6)


def test_a_batch_takes_less_than_a_training_step(drawn: Dataset) -> None:
    batches = Batches(drawn, 64, 0, 0, ("crop", "flip"))

    def seconds() -> float:
        start = perf_counter()
        batches.at(1)
        return perf_counter() - start

    assert min(seconds() for _ in range(30)) < 0.004


@given(st.floats(0.01, 0.99) | st.integers(1, 499), st.integers(0, 9))
@settings(max_examples=30)
def test_a_validation_part_is_stratified(part: float | int, seed: int) -> None:
    data = five_hundred()
    rest, validation = split_validation(data, part, seed)
    wanted = round(part * 500) if isinstance(part, float) else part
    assert (len(validation), len(rest)) == (wanted, 500 - wanted)
    assert np.ptp(np.bincount(validation.labels, minlength=10)) <= 1
    assert (rest.split, validation.split) == ("train", "validation")
    images = [image.tobytes() for split in (rest, validation) for image in split.images]
    assert set(images) == {image.tobytes() for image in data.images}
    assert validation.digest() == split_validation(data, part, seed)[1].digest()


def test_a_validation_part_of_nothing_or_all_is_refused(drawn: Dataset) -> None:
    assert split_validation(drawn, 50)[1].digest() != split_validation(drawn, 50, 1)[1].digest()
    for part in (0, 500, -3, 10**30, 0.0, 1.0, 0.0001, float("nan"), True, "0.1", None):
        with pytest.raises(DatasetError, match="give a fraction above 0 and below 1, or a count"):
            split_validation(drawn, part)  # type: ignore[arg-type]


@given(st.integers(1, 20), st.sampled_from([0.01, 0.1, 1.0, 50.0, inf]), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_clients_share_every_image_once(clients: int, alpha: float, seed: int) -> None:
    data = load_dataset("digits")
    parts = non_iid(data, clients, alpha, seed, least=0)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(data)))
    assert all(np.array_equal(part, np.sort(part)) for part in parts)
    again = non_iid(data, clients, alpha, seed, least=0)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


def test_alpha_says_how_unlike_clients_are() -> None:
    data = load_dataset("digits")

    def classes_seen(alpha: float) -> float:
        """Effective number of classes per client, weighted by images."""
        parts = non_iid(data, 10, alpha)
        shares = [np.bincount(data.labels[part], minlength=10) / len(part) for part in parts]
        return sum(len(p) / (s**2).sum() for p, s in zip(parts, shares, strict=True)) / len(data)

    few, some, most, all_ten = (classes_seen(alpha) for alpha in (0.1, 1.0, 100.0, inf))
    assert few < some < most < all_ten
    assert few < 4
    assert all_ten > 9.9


def test_every_client_gets_enough_or_it_is_refused() -> None:
    data = load_dataset("digits")
    assert min(len(part) for part in non_iid(data, 20, 0.5, least=20)) >= 20
    with pytest.raises(DatasetError, match="no draw of 100 gave each of 40 clients 20 images"):
        non_iid(data, 40, 0.02, least=20)
    faults: list[dict[str, object]] = [
        *({"clients": 0}, {"clients": 2.5}, {"clients": True}, {"clients": "9"}),
        *({"alpha": 0.0}, {"alpha": float("nan")}, {"alpha": 1e-320}, {"alpha": 10**400}),
        *({"alpha": True}, {"alpha": "1"}, {"least": 144}, {"least": 1.5}, {"least": -1}),
    ]
    for wrong in faults:
        arguments: dict[str, object] = {"clients": 10, "alpha": 1.0} | wrong
        with pytest.raises(DatasetError, match="alpha above 0"):
            non_iid(data, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0, 3.0])
def test_gamma_variates_have_their_distribution(alpha: float) -> None:
    logs = np.array([_log_gamma_variate(alpha, key("test", n)) for n in range(2000)])
    values = np.exp(logs[logs > -700])
    assert kstest(values, gamma(alpha).cdf).pvalue > 0.001
