"""The launcher's process on a board, as an object: one session with its DSP."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hw_bridge.board.build import ENTRY
from hw_bridge.board.errors import BoardError, RpcError
from hw_bridge.board.protocol import (
    FAILED_CALL,
    NO_IMPORT,
    DspInfo,
    Lap,
    Latency,
    Order,
    info_of,
    laps_of,
)
from hw_bridge.board.transports import Transport
from hw_bridge.hexagon.errors import FrameError, KernelError, RunnerError
from hw_bridge.hexagon.protocol import Answer, Status
from hw_bridge.hexagon.runner import Runner

CALL_S = 120
"""Seconds that one order may take; the launcher ends itself then, and this side a little later."""
_GRACE_S = 15
STACK_BYTES = 1 << 18
"""Of the DSP's thread that serves calls; 16 KiB, the default, is less than HVX code may spill."""
MEMORY_BYTES = 1 << 28
"""For the tensors of one kernel."""
_ATTRIBUTES = {
    "unsigned_modules": 1,
    "hvx_128": 3,
    "vtcm_page_bytes": 4,
    "vtcm_pages": 5,
    "arch": 6,
}
_ENDS = {
    -signal.SIGALRM: "an order took too long, and the launcher ended itself",
    128 + signal.SIGALRM: "an order took too long, and the launcher ended itself",
    -signal.SIGKILL: "the launcher was killed",
    128 + signal.SIGKILL: "the launcher was killed",
    -signal.SIGSEGV: "the launcher or the board's FastRPC library crashed",
    128 + signal.SIGSEGV: "the launcher or the board's FastRPC library crashed",
    126: "the launcher may not be run; the folder's file system forbids it",
    127: "the launcher, or the dynamic linker that it asks for, is not there",
}


@dataclass(frozen=True, slots=True)
class Vote:
    """What became of a vote for clocks.

    Attributes
    ----------
    status
        0; or what the system's function gave; :data:`NO_IMPORT` if there is none.
    form
        Which form of request was taken: 3, 2 or 0.
    clock_hz
        Of the DSP's core afterwards; 0: unknown.
    """

    status: int
    form: int
    clock_hz: int

    @property
    def words(self) -> str:
        """The status in words."""
        if self.status == NO_IMPORT:
            return "this firmware has no function to vote with"
        if self.status:
            return f"the vote was refused ({self.status})"
        return f"held by request form {self.form}, clock {self.clock_hz} Hz"


@dataclass(frozen=True, slots=True)
class Timed:
    """What the last kernel took.

    Attributes
    ----------
    laps
        Of each repetition, on the DSP.
    clock_hz
        Before and after; 0: unknown.
    call_ns
        The whole FastRPC call, warm repetitions included, on the CPU.
    """

    laps: tuple[Lap, ...]
    clock_hz: tuple[int, int]
    call_ns: int


class Launcher(Runner):
    """One launcher on a board, from its start to its end.

    Everything raises :class:`BoardError` when the board is lost, :class:`RpcError` when a FastRPC
    call fails, and :class:`~hw_bridge.hexagon.KernelError` when a kernel refuses its input. After
    one of the first two there is no session any more: make another launcher.

    Parameters
    ----------
    transport
        Where.
    program
        Absolute path of the launcher on the board; the DSP's libraries lie beside it.
    call_s
        Seconds that one order may take.
    """

    def __init__(self, transport: Transport, program: str, call_s: int = CALL_S) -> None:
        folder = program.rsplit("/", 1)[0]
        # Every name that a FastRPC library is known to read; several folders would be joined by ;
        paths = [f"{part}DSP_LIBRARY_PATH={folder}" for part in ("", "A", "C")]
        remote = ["env", *paths, program, str(call_s)]
        super().__init__(command=transport.words(remote), timeout_s=call_s + _GRACE_S)
        self.transport = transport
        self._lost = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None and not self._lost and self._process is not None:
                self.call(Order.LEAVE)
        finally:
            self.close()

    def close(self) -> None:
        """End the launcher. No call starts it again: another one would have no session."""
        if self._process is not None:
            self._lost = self._lost or "the launcher was ended"
        super().close()

    def call(
        self,
        kernel: int,
        params: Sequence[int] = (),
        tensors: Sequence[NDArray[Any]] = (),
        threads: int = 1,
    ) -> Answer:
        """Run one kernel on the DSP, or carry out one order."""
        if self._lost:
            raise BoardError(f"the session with {self.transport.where} is over: {self._lost}")
        try:
            if self._process is not None and self._process.poll() is not None:
                raise self._crashed(self._process)  # another one would know nothing of this session
            return super().call(kernel, params, tensors, threads)
        except KernelError as error:
            if error.status == Status.BAD_FRAME:
                self._lost = "the launcher ended"
            found = FAILED_CALL.fullmatch(str(error))
            if error.status != Status.RPC_FAILED or found is None:
                raise
            self._lost = "a FastRPC call failed"
            self.close()
            raise RpcError(found[1], int(found[2], 16)) from None
        except FrameError as error:
            self._lost = "it answered nonsense"
            raise BoardError(
                f"{self.transport.where} answered what is no answer of the launcher ({error});"
                " does a login script print something?"
            ) from None
        except RunnerError as error:
            self._lost = "the launcher ended"
            raise BoardError(self._end(error)) from None

    def _end(self, error: RunnerError) -> str:
        remedy = self.transport.explain(error.code, error.said)
        if not remedy:
            remedy = _ENDS.get(error.code or 0, "the connection broke, or the board restarted")
        told = str(error).replace("the runner", f"the launcher on {self.transport.where}")
        return f"{told}: {remedy}"

    def load(self) -> str:
        """Load the board's FastRPC library; its name as it was found."""
        try:
            return self.call(Order.LOAD).tensors[0].tobytes().decode("utf-8", "replace")
        except KernelError as error:
            raise BoardError(
                f"the board's FastRPC library cannot be loaded ({error}); is libcdsprpc.so"
                " installed (Debian: libfastrpc1), and may this user read it?"
            ) from None

    def attributes(self) -> dict[str, int]:
        """What the firmware tells of the DSP; those that it does not tell are left out."""
        pairs = self.call(Order.ATTRIBUTES).tensors[0].tolist()
        return {name: pairs[2 * i + 1] for name, i in _ATTRIBUTES.items() if pairs[2 * i] == 0}

    def session(self) -> None:
        """Ask for an unsigned process with room on its stack; before :meth:`open`."""
        names = ("remote_session_control(unsigned module)", "remote_session_control(stack)")
        for name, code in zip(names, self.call(Order.SESSION, [STACK_BYTES]).values, strict=True):
            if code:
                raise RpcError(name, code & 0xFFFFFFFF)

    def open(self, library: str) -> None:
        """Load a library on the DSP, by its file name."""
        uri = f"file:///{library}?{ENTRY}&_modver=1.0&_dom=cdsp"
        text = np.frombuffer(uri.encode("ascii"), np.int8)
        self.call(Order.OPEN_URI, [], [text])

    def give_memory(self, size: int = MEMORY_BYTES) -> None:
        """Map memory for the kernels' tensors."""
        self.call(Order.MEMORY, [size])

    def tell(self) -> DspInfo:
        """What the library tells."""
        return info_of(self.call(Order.TELL).tensors[0].tolist())

    def vote(self, corner: int | None) -> Vote:
        """Hold clocks of core and bus at a corner; None gives the vote back."""
        wanted = [0, 0] if corner is None else [1, corner]
        status, form, clock = self.call(Order.VOTE, wanted).values
        return Vote(status, form, clock)

    def latency(self, mode: Latency, us: int = 100) -> int:
        """Choose a quality-of-service mode; FastRPC's number, 0 where it took it."""
        return self.call(Order.LATENCY, [mode, us]).values[0] & 0xFFFFFFFF

    def steady(self, cpu: int | None, awake: bool) -> tuple[int, int]:
        """Pin the launcher to a CPU, and keep CPUs from deep sleep or let them; errno of each."""
        pinned, held = self.call(Order.STEADY, [-1 if cpu is None else cpu, int(awake)]).values
        return -pinned, -held

    def null_calls(self, count: int, warm: int = 0, gap_us: int = 0) -> tuple[int, ...]:
        """Nanoseconds of calls that do nothing, one by one."""
        return tuple(self.call(Order.NULL_CALLS, [warm, count, gap_us]).tensors[0].tolist())

    def copies(
        self, size: int, shared: bool, count: int, warm: int = 0
    ) -> tuple[tuple[int, ...], tuple[Lap, ...]]:
        """Calls that bring bytes there and as many back: nanoseconds, and the DSP's part.

        Raises
        ------
        KernelError
            Also if other bytes came back.
        """
        words = self.call(Order.COPIES, [size, int(shared), warm, count]).tensors[0].tolist()
        laps = [word for i, word in enumerate(words) if i % 7]
        return tuple(words[::7]), laps_of(laps)

    def repeat(self, repetitions: int, warm: int = 0) -> None:
        """Let the next kernel run several times on the same input, in one call."""
        self.call(Order.REPEAT, [repetitions, warm])

    def timed(self) -> Timed:
        """What the last kernel took."""
        answer = self.call(Order.LAPS)
        _, before, after, call_ns = answer.values
        return Timed(laps_of(answer.tensors[0].tolist()), (before, after), call_ns)
