"""Pickles of plain data: numbers, texts, lists, dicts and arrays of bytes; nothing else is built.

A pickle is a program that calls what it names. Here a machine of ours runs it, of bounded work
(:mod:`experiments.datasets.pickle_machine`), and the few names that an array of bytes needs lead
to stand-ins, which check what they are given; NumPy's own functions never see the file, and any
other name is refused before anything of it is called.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.datasets.dataset import DatasetError
from experiments.datasets.pickle_machine import Function, Machine
from experiments.values import short

VALUES = 1_000_000
"""Values that a file may hold, counted wherever they stand; one batch of CIFAR-10 holds 20,000."""
DEPTH = 50
"""How deep they may be nested; a batch nests 2 deep."""
AXES = 8


def plain_loads(content: bytes, where: str) -> object:
    """Read a pickle of plain data.

    Parameters
    ----------
    content
        The file. Texts of Python 2 become bytes, and so do byte arrays.
    where
        Its name, for messages.

    Returns
    -------
    object
        Of dict (with texts or bytes as keys), list, tuple, int, float, str, bytes, None, bool, and
        uint8 arrays, read-only.

    Raises
    ------
    DatasetError
        It names anything else, is damaged, is followed by other bytes, or holds more than
        :data:`VALUES` values or deeper than :data:`DEPTH`, as a list that holds itself does.

    Examples
    --------
    >>> import pickle
    >>> plain_loads(pickle.dumps({b"labels": [6, 9]}), "data_batch_1")
    {b'labels': [6, 9]}
    >>> try:
    ...     plain_loads(pickle.dumps(print), "bad")
    ... except DatasetError as error:
    ...     str(error)[:30]
    'bad: names builtins.print, whi'
    """
    machine = Machine(content, _NAMES)
    try:
        value = _Plain().of(machine.run())
    except DatasetError as error:
        raise DatasetError(f"{where}: {error}; fetch the file again") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DatasetError(f"{where}: not a sound pickle ({error}); fetch it again") from error
    rest = len(content) - machine.place
    if rest:
        raise DatasetError(f"{where}: {rest} bytes follow the pickle; fetch it again")
    return value


class _ByteType:
    """The dtype uint8; an array of another is refused where it is named."""

    __slots__ = ()

    def build(self, state: object) -> None:
        """Byte order and alignment: of no account for bytes."""


class _Bytes:
    """An array under construction: empty until its state comes."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: np.ndarray[Any, np.dtype[np.uint8]] | None = None

    def build(self, state: Any) -> None:
        """Take over shape, dtype, order and content."""
        _, shape, kind, column_major, content = state
        if not isinstance(kind, _ByteType):
            raise DatasetError("an array without a uint8 dtype")
        self.array = _array(content, shape, "F" if column_major else "C")


def _array(content: Any, shape: Any, order: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if not isinstance(content, bytes):
        raise DatasetError(f"the content of an array is a {type(content).__name__}, not bytes")
    if (
        not isinstance(shape, tuple)
        or len(shape) > AXES
        or not all(type(side) is int and 0 <= side < 1 << 31 for side in shape)
    ):
        raise DatasetError(f"the shape of an array is {short(shape)}, not a tuple of sizes")
    expected = int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise DatasetError(f"an array of {shape} with {len(content)} bytes, not {expected}")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if order == "F" else "C")


def _dtype(kind: object, *_: object) -> _ByteType:
    if kind not in ("u1", b"u1"):
        raise DatasetError(f"an array of {short(kind)}; images are arrays of 'u1'")
    return _ByteType()


def _from_buffer(content: object, kind: object, shape: object, order: object, *_: object) -> Any:
    if not isinstance(kind, _ByteType):
        raise DatasetError("an array without a uint8 dtype")
    return _array(content, shape, order)


def _encoded(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise DatasetError("an encoding other than latin1 of a text")
    return text.encode("latin1")


class _Plain:
    """Arrays in the place of what they were built from; whatever else is no data is refused.

    Values are counted where they stand: lists that share lists are few in the file and can be
    2^40 for whoever walks through them.
    """

    def __init__(self) -> None:
        self._count = 0

    def of(self, value: object, depth: int = 0) -> object:
        """Return a value of the machine as plain data."""
        self._count += 1
        if self._count > VALUES:
            raise DatasetError(f"holds more than {VALUES:,} values, shared ones counted each time")
        if depth > DEPTH:
            raise DatasetError(f"nests lists deeper than {DEPTH}, or in a circle")
        if isinstance(value, _Bytes):
            if value.array is None:
                raise DatasetError("an array without content")
            return value.array
        if isinstance(value, dict):
            return {name: self.of(item, depth + 1) for name, item in value.items()}
        if isinstance(value, list):
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple(self.of(item, depth + 1) for item in value)
        if value is None or isinstance(value, bool | int | float | str | bytes | np.ndarray):
            return value
        raise DatasetError(f"holds a {type(value).__name__.lstrip('_')}, which is no plain data")


_NO_BYTES = Function(lambda: b"")
_EMPTY = Function(lambda *_: _Bytes())
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _EMPTY,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _EMPTY,
    ("numpy.core.numeric", "_frombuffer"): Function(_from_buffer),  # protocol 5
    ("numpy._core.numeric", "_frombuffer"): Function(_from_buffer),
    ("numpy", "ndarray"): _EMPTY,
    ("numpy", "dtype"): Function(_dtype),
    ("_codecs", "encode"): Function(_encoded),  # how protocols below 3 write bytes
    ("__builtin__", "bytes"): _NO_BYTES,  # and empty ones
    ("builtins", "bytes"): _NO_BYTES,
}
