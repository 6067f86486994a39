"""One runner process in the emulator: calls with time-outs, crashes noticed, a fresh start."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Self

from numpy.typing import NDArray

from hw_bridge.hexagon.build import runner_path
from hw_bridge.hexagon.errors import FrameError, RunnerError
from hw_bridge.hexagon.protocol import (
    ANSWER_BYTES,
    Answer,
    read_answer,
    read_head,
    request_bytes,
)
from hw_bridge.hexagon.toolchain import emulate

TIMEOUT_S = 300.0
"""Default time for one call; emulated HVX is thousands of times slower than a DSP."""
_CHUNK = 1 << 16
_LAST_WORDS = 400
_REMEDIES = {
    -signal.SIGKILL: "; if memory ran out, free some or take a smaller shape; run it again",
    -signal.SIGTERM: "; something ended it: run it again",
}
"""What to do about signals from outside; others are faults of the kernel or the emulator."""


class Runner:
    """A process that runs kernels, started at the first call.

    After a crash, a time-out or bytes that are no answer, the process is ended and the error
    raised; the next call starts a fresh one. A kernel that refuses its input ends nothing.

    Parameters
    ----------
    arch
        Hexagon version of the build: ``v66``, ``v68`` or ``v73``.
    command
        The words that start a process speaking the protocol; by default the built runner in the
        emulator.
    timeout_s
        Seconds that one call may take.

    Examples
    --------
    ``with Runner("v66") as runner: runner.call(Kernel.INFO).values``
    """

    def __init__(
        self,
        arch: str = "v66",
        command: Sequence[str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.arch = arch
        self.timeout_s = timeout_s
        self._command = None if command is None else list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def call(
        self,
        kernel: int,
        params: Sequence[int] = (),
        tensors: Sequence[NDArray[Any]] = (),
        threads: int = 1,
    ) -> Answer:
        """Run one kernel.

        Raises
        ------
        KernelError
            The runner refused the call.
        RunnerError, FrameError
            It crashed, hung, or answered with something else than an answer.
        ToolError
            No compiler or emulator, at the first call.
        """
        frame = request_bytes(kernel, params, tensors, threads)
        process = self._started()
        deadline = time.monotonic() + self.timeout_s
        try:
            self._send(process, frame, deadline)
            head = read_head(self._receive(process, ANSWER_BYTES, deadline))
            payload = self._receive(process, head.payload, deadline)
        except BaseException:  # an interrupt too leaves half a frame in the pipe
            self.close()
            raise
        try:
            return read_answer(head, payload)
        except FrameError:
            self.close()
            raise

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        command = self._command or [*emulate(self.arch), str(runner_path(self.arch))]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
            )
        except OSError as error:
            raise RunnerError(f"{command[0]} does not start: {error}") from None
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
        return self._process

    def _send(self, process: subprocess.Popen[bytes], frame: bytes, deadline: float) -> None:
        assert process.stdin is not None
        pipe, left = process.stdin.fileno(), memoryview(frame)
        while left:
            if not select.select([], [pipe], [], self._left(deadline))[1]:
                raise self._late()
            try:
                left = left[os.write(pipe, left[:_CHUNK]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._crashed(process) from None

    def _receive(self, process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
        assert process.stdout is not None
        pipe, got = process.stdout.fileno(), bytearray()
        while len(got) < size:
            if not select.select([pipe], [], [], self._left(deadline))[0]:
                raise self._late()
            part = os.read(pipe, min(size - len(got), 1 << 20))
            if not part:
                raise self._crashed(process)
            got += part
        return bytes(got)

    @staticmethod
    def _left(deadline: float) -> float:
        return max(deadline - time.monotonic(), 0.0)

    def _late(self) -> RunnerError:
        return RunnerError(
            f"the runner gave no answer in {self.timeout_s:g} s and was ended; allow more time, or"
            " give it less work"
        )

    def _crashed(self, process: subprocess.Popen[bytes]) -> RunnerError:
        try:
            code: int | None = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = None
        said = ""
        if self._stderr is not None:
            self._stderr.seek(0)
            said = " ".join(self._stderr.read().decode("utf-8", "replace").split())[-_LAST_WORDS:]
        told = f"the runner {_how(code)} in a call; it said: {said or 'nothing'}"
        return RunnerError(told + _REMEDIES.get(code or 0, ""), code, said)


def _how(code: int | None) -> str:
    """How a process ended, in words; below 0 is a signal."""
    if code is None or code >= 0:
        return f"ended with {code}"
    known = {one.value: f" ({one.name})" for one in signal.Signals}
    return f"was ended by signal {-code}{known.get(-code, '')}"
