"""A pickle of plain data is read; one that would run anything is refused before it runs."""

from __future__ import annotations

import os
import pickle
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.datasets import DatasetError
from experiments.datasets.plain_pickle import plain_loads

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=10,
)


@given(PLAIN, st.integers(0, 5))
def test_plain_data_comes_back(value: object, protocol: int) -> None:
    assert plain_loads(pickle.dumps(value, protocol), "f") == value


@given(st.lists(st.integers(0, 4), max_size=3), st.booleans(), st.integers(0, 5))
def test_arrays_of_bytes_come_back(sides: list[int], by_columns: bool, protocol: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, sides, np.uint8)
    array = np.asfortranarray(values) if by_columns else values
    back = plain_loads(pickle.dumps({"a": [array]}, protocol), "f")
    assert isinstance(back, dict)
    assert np.array_equal(back["a"][0], array)
    assert back["a"][0].dtype == np.uint8


def test_a_batch_as_python_2_wrote_it() -> None:
    pixels = bytes(range(200, 206))
    content = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
        b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01"
        b"\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", len(pixels))
        + pixels
        + b"tbU\x06labelsq\x08](K\x06K\x09eu."
    )
    batch = plain_loads(content, "data_batch_1")
    assert isinstance(batch, dict)
    assert batch[b"data"].tolist() == [[200, 201, 202], [203, 204, 205]]
    assert batch[b"labels"] == [6, 9]


class Runs:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, eval, exec, open, np.load, np.fromfile, getattr])
def test_a_malicious_file_runs_nothing(
    tmp_path: Path, function: Callable[..., object], protocol: int
) -> None:
    mark = tmp_path / "mark"
    content = pickle.dumps({b"data": Runs(function, f"touch {mark}")}, protocol)
    with pytest.raises(DatasetError, match=r"data_batch_1: names \w+\.\w+, which plain data"):
        plain_loads(content, "data_batch_1")
    assert not mark.exists()


MALFORMED = {
    "a class": b"cnumpy\nmatrix\n.",
    "a module behind a known name": b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.tofile\x93.",
    "a function by itself": b"cnumpy\ndtype\n.",
    "a function among data": b"(cnumpy\ndtype\nl.",
    "the state of a function": b"cnumpy\ndtype\n}b.",
    "an object outside": b"Psomewhere\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "an array without content": b"cnumpy\nndarray\n)R.",
    "an array that is its own dtype": b"cnumpy\nndarray\n)R(K\x01)K\x00K\x00U\x00tb.",
    "another dtype": b"cnumpy\ndtype\n(U\x01OtR.",
    "other text than latin1": b"c_codecs\nencode\n(X\x01\x00\x00\x00aU\x05utf-8tR.",
    "a list that holds itself": b"](h\x00l.",
    "nothing": b"",
    "no end": b"]",
    "more after the end": b"].]",
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_pickles_are_refused(content: bytes) -> None:
    with pytest.raises(DatasetError, match=r"^f: "):
        plain_loads(content, "f")


def test_cycles_are_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(DatasetError, match="f: nests lists deeper than 50, or in a circle; fetch"):
        plain_loads(pickle.dumps(cycle), "f")


def laughs(pair: Callable[[Any], Any], levels: int = 40) -> object:
    """Return pairs of twice the same pair: 2^40 values, in a few bytes for each level."""
    value: Any = ()
    for _ in range(levels):
        value = pair(value)
    return value


PAIRS = b")" + b"".join(b"q%ch%c\x86" % (level, level) for level in range(40))
"""The program of 40 levels of tuples."""
OVERWORK = {
    "lists": (pickle.dumps(laughs(lambda x: [x, x])), "more than 1,000,000 values"),
    "dicts": (pickle.dumps(laughs(lambda x: {"a": x, "b": x})), "more than 1,000,000 values"),
    "tuples": (PAIRS + b".", "more than 1,000,000 values"),
    "a key that is hashed for ever": (b"}" + PAIRS + b"Ns.", "a key of"),
    "a key that overflows the stack of C": (b"})" + b"\x85" * 900_000 + b"Ns.", "a key of"),
    "keys of one hash": (
        b"}(" + b"".join(b"L%dL\nN" % (n * (2**61 - 1)) for n in range(9000)) + b"u.",
        "a key of a dict is 0; keys are texts",
    ),
    "depth": (b"]" * 100_000 + b"a" * 99_999 + b".", "deeper than 50"),
    "operations": (b"]" + b"Na" * 600_000 + b".", "more than 1,000,000 operations"),
    "the slot of a memo": (b"]r\xff\xff\xff\xff(h\x00l.", "no value has the number 0"),
    "a written number": (b"I" + b"9" * 5000 + b"\n.", "a number of 5,000 digits"),
    "a packed number": (b"\x8b\x00\x10\x00\x00" + b"9" * 4096 + b".", "a number of 4,096 bytes"),
    "copies of a text": (
        b"X\x10\x27\x00\x00"
        + b"a" * 10_000
        + b"q\x00(c_codecs\nencode\nq\x01"
        + b"h\x01(h\x00U\x06latin1tR" * 1000
        + b"l.",
        "makes more bytes than it has",
    ),
    "many axes": (
        b"cnumpy\nndarray\n)R(K\x01(%btcnumpy\ndtype\n(U\x02u1tRK\x00U\x01atb." % (b"K\x01" * 9),
        r"the shape of an array is \(1, 1,",
    ),
}


@pytest.mark.parametrize(("content", "message"), OVERWORK.values(), ids=OVERWORK.keys())
def test_a_small_file_cannot_ask_for_endless_work(content: bytes, message: str) -> None:
    begin = time.process_time()
    with pytest.raises(DatasetError, match=f"^f: .*{message}.*; fetch") as refused:
        plain_loads(content, "f")
    assert time.process_time() - begin < 10
    assert len(str(refused.value)) < 200


def test_shared_values_are_data_like_others() -> None:
    shared = [1, (2, b"3")]
    value = {"a": shared, "b": [shared, shared]}
    assert plain_loads(pickle.dumps(value), "f") == value


@pytest.mark.parametrize("kind", ["<i8", "f4", "O", "S3", "i1", "bool"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_of_anything_else_are_refused(kind: str, protocol: int) -> None:
    with pytest.raises(DatasetError, match="an array of"):
        plain_loads(pickle.dumps(np.zeros(3, kind), protocol), "f")


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_gives_plain_data_or_a_clear_error(place: int, value: int) -> None:
    content = bytearray(pickle.dumps({b"data": np.arange(9, dtype=np.uint8), b"labels": [1, 2]}, 2))
    content[place % len(content)] = value
    with suppress(DatasetError):
        value = plain_loads(bytes(content), "f")
        pickle.dumps(value)  # of plain data: nothing that refuses to be written
