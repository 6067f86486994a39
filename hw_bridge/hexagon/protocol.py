"""The frames that the runner reads and writes; ``c/wire.h`` says the same in C."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_bridge.hexagon.errors import FrameError, KernelError

VERSION = 1
REQUEST_MAGIC, ANSWER_MAGIC = b"MHQ1", b"MHA1"
MOST_PAYLOAD = 1 << 29
"""Bytes; the runner refuses more."""
IN_TURN = 0x100
"""Beside the threads of a request: one after the other, for counts that repeat exactly. Only the
runner in the emulator knows it."""
_REQUEST, _ANSWER, _TENSOR = struct.Struct("<4s5IQ"), struct.Struct("<4s5I5Q"), struct.Struct("<2I")
ANSWER_BYTES = _ANSWER.size
_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<i1"),
    4: np.dtype("<i4"),
    8: np.dtype("<i8"),
}
_MOST_TENSORS, _MOST_VALUES = 8, 8


class Kernel(IntEnum):
    """Numbers of the kernels; ``c/kernels.c`` has the same table."""

    INFO = 0
    GEMM = 1
    CONV_FORWARD = 2
    CONV_INPUT_GRAD = 3
    CONV_WEIGHT_GRAD = 4
    AMAX = 5
    REQUANTISE = 6
    RESCALE = 7
    RELU_FORWARD = 8
    RELU_INPUT_GRAD = 9
    MAX_POOL_FORWARD = 10
    MAX_POOL_INPUT_GRAD = 11
    ADD = 12
    TRANSPOSE = 13
    TO_D32 = 14
    FROM_D32 = 15
    ROTATE180 = 16
    NITI_UPDATE = 17
    WIDE_UPDATE = 18


class Status(IntEnum):
    """How a call ended."""

    DONE = 0
    BAD_FRAME = 1
    BAD_VERSION = 2
    BAD_KERNEL = 3
    BAD_PARAMS = 4
    BAD_TENSORS = 5
    NO_MEMORY = 6
    WRAPPED = 7
    RPC_FAILED = 8


@dataclass(frozen=True, slots=True)
class Counts:
    """What the emulator counted while a kernel ran, its own packing and borders included.

    Attributes
    ----------
    packets, instructions, hvx
        Of all threads together; ``hvx`` counts HVX instructions.
    busiest
        Packets of the thread with the most, phase by phase, and of what one thread does alone.
    """

    packets: int
    instructions: int
    hvx: int
    busiest: int


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a kernel gave.

    Attributes
    ----------
    values
        Its numbers, such as the largest accumulator.
    tensors
        Flat arrays.
    counts
        What it took.
    """

    values: tuple[int, ...]
    tensors: tuple[NDArray[Any], ...]
    counts: Counts


@dataclass(frozen=True, slots=True)
class Head:
    """The fixed part of an answer, checked."""

    status: int
    values: int
    tensors: int
    text: int
    payload: int
    counts: Counts


def request_bytes(
    kernel: int, params: Sequence[int], tensors: Sequence[NDArray[Any]], threads: int = 1
) -> bytes:
    """Give one request as bytes.

    Parameters
    ----------
    kernel
        Its number.
    params
        Integers of 64 bits.
    tensors
        int8, int32 or int64 arrays, C-contiguous.
    threads
        HVX threads, 1 to 8; may have :data:`IN_TURN` set.

    Raises
    ------
    FrameError
        A tensor of another dtype or order, or more than the runner reads.
    """
    heads, bodies = [], []
    for i, tensor in enumerate(tensors):
        if tensor.dtype not in _DTYPES.values() or not tensor.flags.c_contiguous:
            raise FrameError(
                f"tensor {i} is {tensor.dtype}, strides {tensor.strides}; allowed: int8, int32 or"
                " int64, C-contiguous"
            )
        heads.append(_TENSOR.pack(tensor.dtype.itemsize, tensor.size))
        bodies.append(tensor.tobytes())
    try:
        numbers = struct.pack(f"<{len(params)}q", *params)
        body = b"".join([numbers, *heads, *bodies])
        head = _REQUEST.pack(
            REQUEST_MAGIC, VERSION, kernel, threads, len(params), len(tensors), len(body)
        )
    except struct.error as error:
        raise FrameError(f"a number does not fit the frame: {error}") from None
    if len(body) > MOST_PAYLOAD:
        raise FrameError(f"the payload has {len(body)} bytes; allowed: {MOST_PAYLOAD}; use parts")
    return head + body


def read_head(data: bytes) -> Head:
    """Check the first :data:`ANSWER_BYTES` of an answer.

    Raises
    ------
    FrameError
        They are no head of this protocol.
    """
    if len(data) != ANSWER_BYTES:
        raise FrameError(f"an answer's head has {len(data)} bytes; expected {ANSWER_BYTES}")
    magic, version, status, values, tensors, text, payload, *counts = _ANSWER.unpack(data)
    if magic != ANSWER_MAGIC or version != VERSION:
        raise FrameError(f"an answer starts with {magic!r}, version {version}; expected {VERSION}")
    if status not in set(Status) or values > _MOST_VALUES or tensors > _MOST_TENSORS:
        raise FrameError(f"an answer has status {status}, {values} values, {tensors} tensors")
    if not 8 * (values + tensors) + text <= payload <= MOST_PAYLOAD:
        raise FrameError(f"an answer's payload has {payload} bytes, which is not what it lists")
    return Head(status, values, tensors, text, payload, Counts(*counts))


def read_answer(head: Head, payload: bytes) -> Answer:
    """Make an answer from a head and the payload that it announced.

    Raises
    ------
    FrameError
        Sizes that do not fit.
    KernelError
        The kernel ended with another status than DONE.
    """
    if len(payload) != head.payload:
        raise FrameError(f"a payload has {len(payload)} bytes; expected {head.payload}")
    if head.status != Status.DONE:
        text = payload[len(payload) - head.text :].decode("utf-8", "replace")
        raise KernelError(head.status, f"{Status(head.status).name}: {text}")
    at = 8 * head.values
    values = struct.unpack(f"<{head.values}q", payload[:at])
    shapes = [_TENSOR.unpack_from(payload, at + 8 * i) for i in range(head.tensors)]
    at += 8 * head.tensors
    tensors: list[NDArray[Any]] = []
    for size, count in shapes:
        if size not in _DTYPES or at + size * count > len(payload) - head.text:
            raise FrameError(f"a tensor of {count} elements of {size} bytes is not in the payload")
        tensors.append(np.frombuffer(payload, _DTYPES[size], count, at).copy())
        at += size * count
    if at + head.text != len(payload):
        raise FrameError(f"a payload has {len(payload)} bytes; its tensors end at {at}")
    return Answer(values, tuple(tensors), head.counts)
