"""A bounded memory for pure results, keyed by content."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Memo(Generic[Value]):
    """Remembers the newest ``size`` results; forgetting one costs time, never correctness."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._known: dict[Hashable, Value] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the result for ``key``, making it if it is not remembered."""
        known = self._known.get(key)
        if known is None:
            known = make()
            if len(self._known) >= self.size:
                self._known.pop(next(iter(self._known)), None)
            self._known[key] = known
        return known
