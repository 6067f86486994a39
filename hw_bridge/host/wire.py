"""What the two processes say to each other: small JSON messages over a socket.

Tensors do not travel: a message says where a value lies in the shared memory, and its exponent.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from math import isnan
from typing import Any

import numpy as np

from hw_bridge.host.errors import GoneError, HostError
from hw_bridge.host.memory import Arena
from kernels.quantised import QTensor
from sim.numeric.values import Accumulator, Value

Message = list[Any]
"""A word, and what it comes with; or a row and the values that it brings."""
LARGEST = 1 << 22
"""Bytes of the largest message: the start of a step, with the shifts in force of all tensors."""
_PATIENCE_S = 1
"""Every so often a waiting process looks whether the other still lives."""


class Channel:
    """One end of the socket between the two processes.

    Parameters
    ----------
    end
        A socket that keeps messages apart (``SOCK_SEQPACKET``).
    peer
        Process number of the other.
    """

    def __init__(self, end: socket.socket, peer: int) -> None:
        self._end, self._peer = end, peer
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _PATIENCE_S, 0))

    def send(self, message: Message) -> None:
        """Send one message.

        Raises
        ------
        GoneError
            Nobody is there to take it.
        """
        try:
            self._end.send(json.dumps(message, separators=(",", ":")).encode())
        except (BrokenPipeError, ConnectionResetError):
            raise GoneError("the other process has ended") from None
        except OSError as error:
            raise HostError(
                f"a message cannot be sent ({error}); report it with the plan"
            ) from None

    def receive(self, *, wait: bool) -> Message | None:
        """Return the next message; None if there is none and ``wait`` is off.

        Raises
        ------
        GoneError
            The other process has ended.
        """
        flags = 0 if wait else socket.MSG_DONTWAIT
        while True:
            try:
                data = self._end.recv(LARGEST, flags)
            except BlockingIOError:
                if not wait:
                    return None
                if not self._peer_lives():
                    raise GoneError("the other process has ended") from None
                continue
            except ConnectionResetError:
                raise GoneError("the other process has ended") from None
            if not data:
                raise GoneError("the other process has ended")
            message: Message = json.loads(data)
            return message

    def close(self) -> None:
        """Close this end; the other process sees it."""
        self._end.close()

    def _peer_lives(self) -> bool:
        """A child that ended is a zombie until it is waited for, which closed its socket."""
        try:
            os.kill(self._peer, 0)
        except OSError:
            return False
        return True


def told(name: str, value: Value, arena: Arena) -> Message:
    """Put a value where the other process sees it, and say where."""
    if isinstance(value, int):
        return [name, "shift", value]
    if isinstance(value, Accumulator):
        if value.parts:
            raise HostError(f"{name}: sums of micro-batches in parts cannot change process")
        return [name, "sums", *_where(name, value.sums, arena), value.exponent, value.amax]
    if isinstance(value, QTensor):
        return [name, "int8", *_where(name, value.mantissa, arena), value.exponent]
    return [name, "array", *_where(name, value, arena)]


def _where(name: str, array: np.ndarray[Any, Any], arena: Arena) -> Message:
    shared = arena.publish(name, array)
    return [arena.offset(shared), shared.shape, shared.dtype.str]


def heard(message: Message, arena: Arena) -> tuple[str, Value]:
    """Name and value of what :func:`told` gave in the other process."""
    name, kind, *rest = message
    if kind == "shift":
        return name, int(rest[0])
    offset, shape, dtype, *numbers = rest
    array = arena.view(offset, tuple(shape), dtype)
    if kind == "sums":
        return name, Accumulator(array, *numbers)
    return name, QTensor(array, *numbers) if kind == "int8" else array


def told_float(value: float) -> str | None:
    """A float, exactly; NaN (no loss was computed here) is None."""
    return None if isnan(value) else value.hex()


def heard_float(text: str | None) -> float:
    """Return what :func:`told_float` was given."""
    return float("nan") if text is None else float.fromhex(text)
