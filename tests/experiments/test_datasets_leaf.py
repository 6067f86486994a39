"""LEAF's JSON files of FEMNIST: sound ones are read as they are, unsound ones refused by place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.datasets import DatasetError, by_user, load_dataset, load_splits


def leaf(users: dict[str, int], seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    data = {
        user: {
            "x": (rng.integers(0, 256, (count, 784)) / 255).tolist(),
            "y": rng.integers(0, 62, count).tolist(),
        }
        for user, count in users.items()
    }
    return {"users": list(users), "num_samples": list(users.values()), "user_data": data}


def write_leaf(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(content))


def test_femnist_as_leaf_split_it(tmp_path: Path) -> None:
    train = [leaf({"f01": 9, "f02": 4}), leaf({"f03": 5}, seed=1)]
    write_leaf(tmp_path / "train" / "all_data_0_train_9.json", train[0])
    write_leaf(tmp_path / "train" / "all_data_1_train_9.json", train[1])
    write_leaf(tmp_path / "test" / "all_data_0_test_9.json", leaf({"f02": 3, "f04": 1}, seed=2))
    first, second = load_splits("femnist", tmp_path)
    assert first.users == second.users == ("f01", "f02", "f03", "f04")
    assert [len(part) for part in by_user(first)] == [9, 4, 5, 0]
    assert [len(part) for part in by_user(second)] == [0, 3, 0, 1]
    own = first.of_user("f03")
    assert own.labels.tolist() == train[1]["user_data"]["f03"]["y"]
    assert (own.images.reshape(5, 784) / 255).tolist() == train[1]["user_data"]["f03"]["x"]
    assert first.classes[9:12] == ("9", "A", "B")
    assert first.classes[61] == "z"
    with pytest.raises(DatasetError, match="'f09' is not in femnist"):
        first.of_user("f09")


@pytest.mark.parametrize("place", [".", "all_data"])
def test_femnist_before_leaf_split_it(tmp_path: Path, place: str) -> None:
    write_leaf(tmp_path / place / "all_data_0.json", leaf({"a": 20, "b": 35}))
    write_leaf(tmp_path / place / "all_data_1.json", leaf({"c": 9}, seed=1))
    train, test = load_splits("femnist", tmp_path)
    assert [len(part) for part in by_user(train)] == [18, 32, 9]
    assert [len(part) for part in by_user(test)] == [2, 3, 0]
    assert load_dataset("femnist", tmp_path).digest() == train.digest()
    assert load_dataset("femnist", tmp_path, seed=1).digest() != train.digest()


def refused(folder: Path) -> str:
    """Read a folder that must be refused; return the one line."""
    with pytest.raises(DatasetError) as refusal:
        load_splits("femnist", folder)
    line = str(refusal.value)
    assert "\n" not in line
    assert len(line) < 300 + 2 * len(str(folder))
    return line


def spoiled(**parts: object) -> dict[str, Any]:
    """Return a file of one user with 20 images, with something else in its data."""
    content = leaf({"a": 20})
    content["user_data"]["a"] |= parts
    return content


def with_pixel(value: object) -> dict[str, Any]:
    """Return such a file with another pixel 7 of image 3."""
    content = leaf({"a": 20})
    content["user_data"]["a"]["x"][3][7] = value
    return content


def with_label(value: object) -> dict[str, Any]:
    """Return such a file with another label of image 3."""
    content = leaf({"a": 20})
    content["user_data"]["a"]["y"][3] = value
    return content


GOOD = leaf({"a": 20})
FORM = "it has users, num_samples, and user_data with x and y for each user"
FAULTS: dict[str, tuple[object, list[str]]] = {
    "a list": ([], ["not of LEAF's form (no users)", FORM]),
    "no data": ({"users": ["a"], "num_samples": [1]}, ["(no user_data)", FORM]),
    "users in a text": (GOOD | {"users": "a"}, ["(no users)", FORM]),
    "a user that is a number": (GOOD | {"users": [7]}, ["users[0] is 7; users are texts"]),
    "no counts": (GOOD | {"num_samples": []}, ["num_samples and user_data differ in length"]),
    "a user twice": (
        {
            "users": ["a", "a"],
            "num_samples": [20, 20],
            "user_data": leaf({"a": 20, "b": 1})["user_data"],
        },
        ["users has 'a' twice", "remove one"],
    ),
    "a user without data": (GOOD | {"users": ["b"]}, ["user 'b': is not in user_data"]),
    "a user without labels": (
        GOOD | {"user_data": {"a": {"x": []}}},
        ["user 'a': not of LEAF's form", FORM],
    ),
    "a count that is wrong": (
        GOOD | {"num_samples": [19]},
        ["user 'a': 20 images, 20 labels, num_samples 19"],
    ),
    "a count that is a float": (GOOD | {"num_samples": [20.0]}, ["num_samples 20.0; "]),
    "a count that is true": (
        leaf({"a": 1}) | {"num_samples": [True]},
        ["1 images, 1 labels, num_samples True"],
    ),
    "labels that lack": (spoiled(y=[1, 2]), ["20 images, 2 labels"]),
    "labels that are a text": (spoiled(y="9" * 20), ["20 images, '99999999999999999999' labels"]),
    "a label out of range": (with_label(62), ["y[3] is 62; labels are integers from 0 to 61"]),
    "a negative label": (with_label(-1), ["y[3] is -1; "]),
    "a label of 31 digits": (with_label(10**30), ["y[3] is 10000000000", "from 0 to 61"]),
    "a label of 401 digits": (with_label(10**400), ["y[3] is 10000000000", "0...0"]),
    "a label that is a text": (with_label("1"), ["y[3] is '1'; labels are integers"]),
    "a label that is true": (with_label(True), ["y[3] is True; labels are integers"]),
    "a label that is a float": (with_label(1.0), ["y[3] is 1.0; labels are integers"]),
    "an image that is short": (
        spoiled(x=[[0.5] * 783] * 20),
        ["x[0] has 783 values; each image must be 784 numbers"],
    ),
    "an image that is a number": (spoiled(x=[1] * 20), ["x[0] is 1; each image must be 784"]),
    "a pixel above 1": (with_pixel(1.5), ["user 'a': x[3][7] is 1.5; pixels are 0 to 1"]),
    "a pixel below 0": (with_pixel(-0.1), ["x[3][7] is -0.1; pixels are 0 to 1"]),
    "a pixel of 401 digits": (with_pixel(10**400), ["x[3][7] is 10000000000", "0...0"]),
    "a pixel that is no number": (with_pixel(float("nan")), ["x[3][7] is NaN; pixels are 0 to 1"]),
    "a pixel without end": (with_pixel(float("-inf")), ["x[3][7] is -Infinity; pixels are"]),
    "a pixel that is a text": (with_pixel("0.5"), ["x[3][7] is '0.5'; pixels are", "numbers"]),
    "a pixel that is true": (with_pixel(True), ["x[3][7] is True; pixels are"]),
    "a pixel that is null": (with_pixel(None), ["x[3][7] is None; pixels are"]),
    "a pixel that is a list": (with_pixel([0.5] * 9), ["x[3][7] is [0.5, 0.5", "pixels are"]),
}


@pytest.mark.parametrize(("content", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named_with_its_place(tmp_path: Path, content: object, words: list[str]) -> None:
    write_leaf(tmp_path / "all_data_0.json", content)
    line = refused(tmp_path)
    for word in ["all_data_0.json", *words]:
        assert word in line
    assert "preprocess.sh" in line or "remove" in line or FORM in line


def replaced(old: str, new: str) -> Callable[[str], str]:
    """Return a change of a file's text at one place."""
    return lambda text: text.replace(old, new, 1)


TEXTS: dict[str, tuple[Callable[[str], str], str]] = {
    "a number of 5,001 digits": (replaced('"y": [', '"y": [1' + "0" * 5000 + ", "), "num_samples"),
    "a pixel that is a float without end": (replaced('"x": [[', '"x": [[1e999, '), "785 values"),
    "two users of one name": (
        replaced('"user_data": {', '"user_data": {"a": {"x": [], "y": []}, '),
        "'a' stands twice",
    ),
    "two lists of pixels": (replaced('{"x": ', '{"x": [], "x": '), "'x' stands twice"),
    "the end missing": (lambda text: text[:-10], "not JSON, or truncated"),
    "nothing": (lambda _: "", "not JSON, or truncated"),
    "depth": (lambda _: "[" * 200_000, "not JSON, or truncated"),
}


@pytest.mark.parametrize(("change", "words"), TEXTS.values(), ids=TEXTS.keys())
def test_what_json_lets_pass_is_refused(
    tmp_path: Path, change: Callable[[str], str], words: str
) -> None:
    path = tmp_path / "all_data_0.json"
    path.write_text(change(json.dumps(leaf({"a": 20}))))
    assert words in refused(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "all_data_0.json").write_bytes(b'{"users": ["\xff\xfe"]}')
    assert "not JSON" in refused(tmp_path)


def test_a_user_in_two_files_is_refused(tmp_path: Path) -> None:
    write_leaf(tmp_path / "all_data_0.json", GOOD)
    write_leaf(tmp_path / "all_data" / "all_data_0.json", GOOD)
    line = refused(tmp_path)
    assert "user 'a': is in" in line
    assert "remove the copy" in line


def test_files_without_users_or_images_are_told(tmp_path: Path) -> None:
    path = tmp_path / "all_data_0.json"
    for users in ({}, {"a": 0}, {"a": 9}):
        write_leaf(path, leaf(users))
        assert "too few images" in refused(tmp_path)
    path.unlink()
    assert "train/*.json" in refused(tmp_path)
    path.mkdir()
    assert "all_data_0.json: is no file" in refused(tmp_path)
