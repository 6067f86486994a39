"""What the tests of the numeric kernels share."""

from __future__ import annotations

import pytest

from kernels import threads
from kernels.int8 import pointwise, pool


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share small arrays out among threads as well, in blocks of 16 elements or one row.

    A kernel hands over only what is worth it, tens of thousands of elements; ten thousand cases
    of that size would take hours.
    """
    monkeypatch.setattr(threads, "_TILE", 16)
    for module in (threads, pool, pointwise):
        monkeypatch.setattr(module, "_WORTHWHILE", 1)
