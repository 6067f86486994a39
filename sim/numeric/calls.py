"""Items with their kernels: what is computed of each, and when buffers are done with."""

from __future__ import annotations

from dataclasses import dataclass

from sim.draft import Item
from sim.numeric.frame import Frame, Kernel, kernel_of


@dataclass(frozen=True, slots=True)
class Call:
    """One item, its kernel, and the samples it computes.

    ``complete``: buffers that it is the last to write; ``dead``: those that nobody touches after;
    ``narrow``: those that nothing but quantise kernels read.
    """

    item: Item
    kernel: Kernel
    part: slice
    complete: tuple[str, ...]
    dead: tuple[str, ...]
    narrow: frozenset[str]

    def compute(self, frame: Frame, kernel: Kernel | None = None) -> None:
        """Run the kernel, or the same one from elsewhere, on the values of a frame."""
        frame.part, frame.narrow = self.part, self.narrow
        (kernel or self.kernel)(frame, self.item)


def calls_of(items: list[Item], keep: str = "") -> tuple[Call, ...]:
    """Give each item its kernel; buffers but ``keep`` die with their last use in this order."""
    readers: dict[str, set[str]] = {}
    last: dict[str, int] = {}
    last_write: dict[str, int] = {}
    for index, item in enumerate(items):
        last.update(dict.fromkeys((*item.reads, *item.writes), index))
        last_write.update(dict.fromkeys(item.writes, index))
        for name in item.reads:
            readers.setdefault(name, set()).add(item.op.kind)
    seen: dict[str, int] = {}
    calls = []
    for index, item in enumerate(items):
        part = slice(None)
        if "#" in item.name:
            first = seen.get(item.subject, 0)
            part = slice(first, first + item.op.batch)
            seen[item.subject] = part.stop
        touched = dict.fromkeys((*item.reads, *item.writes))
        dead = tuple(n for n in touched if last[n] == index and n != keep)
        complete = tuple(n for n in item.writes if last_write[n] == index)
        narrow = frozenset(n for n in item.writes if readers.get(n) == {"quantise"})
        calls.append(Call(item, kernel_of(item), part, complete, dead, narrow))
    return tuple(calls)
