"""The launcher's orders, and what it answers; ``launcher/launcher.h`` says the same in C."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from hw_bridge.board.errors import BoardError


class Order(IntEnum):
    """Numbers of orders; a kernel's number is passed on to the DSP."""

    LOAD = 1000
    ATTRIBUTES = 1001
    SESSION = 1002
    OPEN_URI = 1003
    MEMORY = 1004
    TELL = 1005
    VOTE = 1006
    LATENCY = 1007
    STEADY = 1008
    NULL_CALLS = 1009
    COPIES = 1010
    REPEAT = 1011
    LAPS = 1012
    LEAVE = 1013


CALLS_VERSION = 1
NO_IMPORT = -1000
"""A status: the firmware lacks the function."""
LAP_WORDS = 6
TICKS_HZ = 19_200_000
"""Of the DSP's timer (c31:30)."""
LOOP_PACKETS = 100_000
FAILED_CALL = re.compile(r"RPC_FAILED: (.{1,60}) 0x([0-9a-f]{8})")


class Latency(IntEnum):
    """Quality-of-service modes of FastRPC."""

    OFF = 0
    PM_QOS = 1
    ADAPTIVE = 2
    POLL = 3


@dataclass(frozen=True, slots=True)
class Lap:
    """Counters of one repetition on the DSP; each 0 where the system hides it.

    Attributes
    ----------
    ticks
        Of 19.2 MHz.
    cycles
        Of the processor.
    packets
        Issued.
    """

    ticks: int
    cycles: int
    packets: int

    @property
    def time_ns(self) -> int:
        """Ticks as nanoseconds, to the nearest."""
        return (self.ticks * 10**9 + TICKS_HZ // 2) // TICKS_HZ


def laps_of(words: list[int]) -> tuple[Lap, ...]:
    """Give differences of the pairs (before, after) that the DSP wrote.

    Raises
    ------
    BoardError
        They are no whole records, or a counter ran backwards.
    """
    if len(words) % LAP_WORDS:
        raise BoardError(f"the launcher sent {len(words)} numbers; expected a multiple of 6")
    laps = []
    for i in range(0, len(words), LAP_WORDS):
        t0, t1, c0, c1, p0, p1 = words[i : i + LAP_WORDS]
        if t1 < t0 or c1 < c0 or p1 < p0:
            raise BoardError(f"a counter of the DSP ran backwards: {words[i : i + LAP_WORDS]}")
        laps.append(Lap(t1 - t0, c1 - c0, p1 - p0))
    return tuple(laps)


@dataclass(frozen=True, slots=True)
class DspInfo:
    """What the library on the DSP tells of itself and its system.

    Attributes
    ----------
    arch
        Hexagon version of the build, such as 68.
    bare
        Whether it is the build without kernels.
    threads
        Most threads of a kernel.
    hvx_contexts, vtcm_bytes, clock_hz
        Of the system; 0: unknown.
    arena_bytes
        Memory for kernels.
    loop
        A loop of :data:`LOOP_PACKETS` packets: which counters count.
    """

    arch: int
    bare: bool
    threads: int
    hvx_contexts: int
    vtcm_bytes: int
    arena_bytes: int
    clock_hz: int
    loop: Lap


def info_of(words: list[int]) -> DspInfo:
    """Read the record of TELL.

    Raises
    ------
    BoardError
        Another version's, or of another length.
    """
    if len(words) != 8 + LAP_WORDS or words[0] != CALLS_VERSION:
        raise BoardError("the library on the DSP is of another version; run the command again")
    _, arch, bare, threads, contexts, vtcm, arena, clock = words[:8]
    (loop,) = laps_of(words[8:])
    return DspInfo(arch, bool(bare), threads, contexts, vtcm, arena, clock, loop)
