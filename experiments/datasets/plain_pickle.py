"""Pickles of plain data: numbers, texts, lists, dicts and arrays of bytes; nothing else is built.

A pickle is a program that calls what it names. Here the few names that an array of bytes needs
lead to stand-ins of ours, which check what they are given; NumPy's own functions never see the
file, and any other name is refused before anything of it is called.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.datasets.dataset import DatasetError


def plain_loads(content: bytes, where: str) -> object:
    """Read a pickle of plain data.

    Parameters
    ----------
    content
        The file. Texts of Python 2 become bytes.
    where
        Its name, for messages.

    Returns
    -------
    object
        Of dict, list, tuple, int, float, str, bytes, None, bool, and uint8 arrays, read-only.

    Raises
    ------
    DatasetError
        It names anything else, is damaged, or is followed by other bytes.

    Examples
    --------
    >>> plain_loads(pickle.dumps({b"labels": [6, 9]}), "data_batch_1")
    {b'labels': [6, 9]}
    >>> try:
    ...     plain_loads(pickle.dumps(print), "bad")
    ... except DatasetError as error:
    ...     str(error)[:30]
    'bad: names builtins.print, whi'
    """
    stream = io.BytesIO(content)
    try:
        value = _plain(_Plain(stream, encoding="bytes").load())
    except DatasetError as error:
        raise DatasetError(f"{where}: {error}") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DatasetError(f"{where}: not a sound pickle ({error}); fetch it again") from error
    rest = len(content) - stream.tell()
    if rest:
        raise DatasetError(f"{where}: {rest} bytes follow the pickle; fetch it again")
    return value


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _STAND_INS:
            raise DatasetError(
                f"names {module}.{name}, which plain data does not need; "
                "do not open this file with anything else"
            )
        return _STAND_INS[module, name]

    def persistent_load(self, pid: object) -> object:
        raise DatasetError("refers to an object outside the file")


class _StandIn:
    """A function that a pickle may call, and cannot change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise DatasetError("sets the state of a function")


class _ByteType:
    """The dtype uint8; an array of another is refused where it is named."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment: of no account for bytes."""


class _Bytes:
    """An array under construction: empty until its state comes."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: np.ndarray[Any, np.dtype[np.uint8]] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, column_major, content = state
        if not isinstance(kind, _ByteType):
            raise DatasetError("an array without a uint8 dtype")
        self.array = _array(content, shape, "F" if column_major else "C")


def _array(content: Any, shape: Any, order: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if not isinstance(content, bytes | bytearray):
        raise DatasetError(f"the content of an array is a {type(content).__name__}, not bytes")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise DatasetError("the shape of an array is not a tuple of sizes")
    expected = int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise DatasetError(f"an array of {shape} with {len(content)} bytes, not {expected}")
    return np.frombuffer(bytes(content), np.uint8).reshape(
        shape, order="F" if order == "F" else "C"
    )


def _dtype(kind: object, *_: object) -> _ByteType:
    if kind not in ("u1", b"u1"):
        raise DatasetError(f"an array of {kind!r}; images are arrays of 'u1'")
    return _ByteType()


def _from_buffer(content: object, kind: object, shape: object, order: object, *_: object) -> Any:
    if not isinstance(kind, _ByteType):
        raise DatasetError("an array without a uint8 dtype")
    return _array(content, shape, order)


def _encoded(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise DatasetError("an encoding other than latin1 of a text")
    return text.encode("latin1")


def _plain(value: object) -> object:
    """Arrays in the place of what they were built from; whatever else is no data is refused."""
    if isinstance(value, _Bytes):
        if value.array is None:
            raise DatasetError("an array without content")
        return value.array
    if isinstance(value, dict):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if value is None or isinstance(value, bool | int | float | str | bytes | np.ndarray):
        return value
    raise DatasetError(f"holds a {type(value).__name__.lstrip('_')}, which is no plain data")


_NO_BYTES = _StandIn(lambda: b"")
_EMPTY = _StandIn(lambda *_: _Bytes())
_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _EMPTY,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _EMPTY,
    ("numpy.core.numeric", "_frombuffer"): _StandIn(_from_buffer),  # protocol 5
    ("numpy._core.numeric", "_frombuffer"): _StandIn(_from_buffer),
    ("numpy", "ndarray"): _EMPTY,
    ("numpy", "dtype"): _StandIn(_dtype),
    ("_codecs", "encode"): _StandIn(_encoded),  # how protocols below 3 write bytes
    ("__builtin__", "bytes"): _NO_BYTES,  # and empty ones
    ("builtins", "bytes"): _NO_BYTES,
}
