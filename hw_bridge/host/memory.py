"""Memory that both processes see: made before the fork, without a name, gone with the last of them.

No file and no key stands for it, so nothing can be left behind, whoever is killed.
"""

from __future__ import annotations

import mmap
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_bridge.host.errors import HostError

_LINE = 64
"""Arrays begin at cache lines, so that the two processes never write to one."""
_MIB = 1 << 20


class Arena:
    """Shared memory that is handed out once and never taken back.

    After the fork each process takes from a half of the rest of its own (:meth:`split`).

    Parameters
    ----------
    size
        Bytes; pages that nobody touches cost nothing.

    Raises
    ------
    HostError
        This machine has not that much memory free.
    """

    def __init__(self, size: int) -> None:
        free = _available_bytes()
        if free is not None and size > free:
            raise HostError(
                f"shared memory of the two processes: {size // _MIB} MiB may be needed and "
                f"{free // _MIB} MiB are free; take a smaller batch, smaller images or a smaller "
                "model, or end other programs"
            )
        try:
            self._map = mmap.mmap(-1, size)
        except (OSError, ValueError, OverflowError) as error:
            raise HostError(
                f"shared memory of the two processes: {size // _MIB} MiB cannot be had ({error}); "
                "take a smaller batch, smaller images or a smaller model"
            ) from None
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._base = _address(self._bytes)
        self._next, self._end = 0, size
        self._slots: dict[str, NDArray[np.uint8]] = {}

    def take(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return a new array, zero at first.

        Raises
        ------
        HostError
            The arena is full: the bound that it was made with was too low.
        """
        raw = self._raw(prod(shape) * np.dtype(dtype).itemsize)
        made: NDArray[Any] = raw.view(dtype).reshape(shape)
        return made

    def _raw(self, size: int) -> NDArray[np.uint8]:
        first = self._next
        if first + size > self._end:
            raise HostError(
                f"shared memory is full: {size} bytes are wanted and {self._end - first} are left; "
                "report it with the plan file"
            )
        self._next = first + -(-size // _LINE) * _LINE
        return self._bytes[first : first + size]

    def place(self, array: NDArray[Any]) -> NDArray[Any]:
        """Copy an array to memory of its own here."""
        out = self.take(array.shape, array.dtype)
        out[...] = array
        return out

    def split(self, half: int) -> None:
        """From now on take from the lower (0) or the upper (1) half of what is left."""
        middle = self._next + (self._end - self._next) // (2 * _LINE) * _LINE
        self._next, self._end = (self._next, middle) if half == 0 else (middle, self._end)

    def publish(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array with this content here: itself, or a copy at the place of ``name``."""
        if self.offset(array) is not None:
            return array
        slot = self._slots.get(name)
        if slot is None or slot.nbytes < array.nbytes:
            slot = self._slots[name] = self._raw(array.nbytes)
        out = slot[: array.nbytes].view(array.dtype).reshape(array.shape)
        out[...] = array
        return out

    def offset(self, array: NDArray[Any]) -> int | None:
        """Where a C-contiguous array lies in the arena; None if it lies elsewhere."""
        first = _address(array) - self._base
        inside = first >= 0 and first + array.nbytes <= self._bytes.nbytes
        return first if inside and array.flags.c_contiguous else None

    def view(self, offset: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """The array that the other process published."""
        size = prod(shape) * np.dtype(dtype).itemsize
        return self._bytes[offset : offset + size].view(dtype).reshape(shape)


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
