"""The library's entry, asked directly: every count and length is checked before it is used."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
from board_cases import dsp_program, need_board_tools
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_bridge.board.build import library_path
from hw_bridge.hexagon.protocol import ANSWER_BYTES, Kernel, read_answer, read_head, request_bytes
from hw_bridge.hexagon.toolchain import emulate

REFUSED, WRONG_HANDLE = 0x8000040E, 0x8000042C
OPEN, CLOSE, NOTHING, INFO, POWER, RUN, FETCH, ARENA, ECHO = range(9)
INFO_BYTES, LAP_BYTES, RUN_BYTES = 80, 48, 24


class Dsp:
    """One emulated DSP with a library in it, and calls to that."""

    def __init__(self, arch: str = "v66", bare: bool = False) -> None:
        library = library_path(arch, bare).read_bytes()
        words = [*emulate("v66"), str(dsp_program())]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        version = int(arch[1:], 16)
        self.put(struct.pack("<3I", version, len(library), 0) + library)
        (code,) = struct.unpack("<i", self.get(4))
        assert code == 0
        uri = b"file:///any.so\0"
        code, _, handles = self.call(0, OPEN, [struct.pack("<I", len(uri)), uri], [], outs=1)
        assert code == 0
        (self.handle,) = handles

    def put(self, data: bytes) -> None:
        assert self.process.stdin is not None
        left = memoryview(data)
        while left:
            left = left[self.process.stdin.write(left) or 0 :]

    def get(self, size: int) -> bytes:
        assert self.process.stdout is not None
        got = b""
        while len(got) < size:
            part = self.process.stdout.read(size - len(got))
            assert part, "the DSP died"
            got += part
        return got

    def call(
        self,
        handle: int,
        method: int,
        ins: list[bytes],
        sizes: list[int],
        fds: tuple[int, ...] = (),
        outs: int = 0,
    ) -> tuple[int, list[bytes], list[int]]:
        """Code, output buffers and output handles of a call."""
        scalars = method << 24 | len(ins) << 16 | len(sizes) << 8 | len(fds) << 4 | outs
        elements = [struct.pack("<2I", 0, len(one)) for one in ins]
        elements += [struct.pack("<2I", 0, size) for size in sizes]
        elements += [struct.pack("<Q", fd) for fd in fds]
        self.put(struct.pack("<Q2I", handle, scalars, 0) + b"".join([*elements, *ins]))
        (code,) = struct.unpack("<I", self.get(4))
        buffers = [self.get(size) for size in sizes]
        return code, buffers, list(struct.unpack(f"<{outs}Q", self.get(8 * outs)))

    def run(self, frame: bytes, repetitions: int = 1, warm: int = 0) -> tuple[int, bytes]:
        """Code and answer's record of a kernel call."""
        head = struct.pack("<3I", 1, repetitions, warm)
        sizes = [RUN_BYTES, repetitions * LAP_BYTES]
        code, buffers, _ = self.call(self.handle, RUN, [head, frame], sizes)
        return code, buffers[0]

    def fetch(self, record: bytes) -> bytes:
        (size,) = struct.unpack_from("<Q", record, 16)
        code, buffers, _ = self.call(self.handle, FETCH, [], [size])
        assert code == 0
        return buffers[0]


@pytest.fixture(scope="module")
def dsp() -> Iterator[Dsp]:
    """One DSP for all tests: it must outlive every refusal."""
    need_board_tools()
    one = Dsp()
    code, (status,), _ = one.call(one.handle, ARENA, [struct.pack("<Q", 1 << 27)], [4], fds=(5,))
    assert (code, status) == (0, bytes(4))
    yield one
    one.process.kill()
    one.process.wait()


RELU = request_bytes(Kernel.RELU_FORWARD, [], [np.arange(-50, 50, dtype=np.int8)])


def test_a_kernel_runs_and_its_answer_is_a_frame(dsp: Dsp) -> None:
    for repetitions in (1, 3):
        code, record = dsp.run(RELU, repetitions, warm=1)
        assert code == 0
        assert struct.unpack_from("<I", record, 12) == (repetitions,)
        answer = dsp.fetch(record)
        got = read_answer(read_head(answer[:ANSWER_BYTES]), answer[ANSWER_BYTES:])
        assert np.array_equal(got.tensors[0], np.maximum(np.arange(-50, 50), 0))


@pytest.mark.parametrize(
    ("method", "ins", "sizes"),
    [
        (OPEN, [b"1234"], []),
        (NOTHING, [b"x"], []),
        (NOTHING, [], [4]),
        (INFO, [], [INFO_BYTES - 1]),
        (INFO, [], [INFO_BYTES, 4]),
        (POWER, [bytes(8)], [11]),
        (POWER, [bytes(7)], [12]),
        (RUN, [bytes(12), RELU], [RUN_BYTES, LAP_BYTES]),  # version 0
        (RUN, [struct.pack("<3I", 1, 0, 0), RELU], [RUN_BYTES, 0]),
        (RUN, [struct.pack("<3I", 1, 4097, 0), RELU], [RUN_BYTES, 4097 * LAP_BYTES]),
        (RUN, [struct.pack("<3I", 1, 1, 4097), RELU], [RUN_BYTES, LAP_BYTES]),
        (RUN, [struct.pack("<3I", 1, 2, 0), RELU], [RUN_BYTES, LAP_BYTES]),
        (RUN, [struct.pack("<3I", 1, 1, 0), RELU[:31]], [RUN_BYTES, LAP_BYTES]),
        (RUN, [struct.pack("<3I", 1, 1, 0)], [RUN_BYTES, LAP_BYTES]),
        (FETCH, [], [1]),
        (ARENA, [bytes(8)], [4]),
        (ECHO, [bytes(8)], [7, LAP_BYTES]),
        (ECHO, [bytes(8)], [8, LAP_BYTES - 1]),
        (9, [], []),
        (31, [], []),
    ],
)
def test_wrong_counts_and_lengths_are_refused(
    dsp: Dsp, method: int, ins: list[bytes], sizes: list[int]
) -> None:
    assert dsp.call(dsp.handle, method, ins, sizes)[0] == REFUSED
    assert dsp.call(dsp.handle, NOTHING, [], [])[0] == 0


def test_a_wrong_handle_is_refused(dsp: Dsp) -> None:
    assert dsp.call(dsp.handle + 8, NOTHING, [], [])[0] == WRONG_HANDLE
    assert dsp.call(0, INFO, [], [INFO_BYTES])[0] == WRONG_HANDLE


def test_memory_is_given_once_and_within_limits(dsp: Dsp) -> None:
    code, (status,), _ = dsp.call(dsp.handle, ARENA, [struct.pack("<Q", 1 << 27)], [4], fds=(5,))
    assert (code, struct.unpack("<I", status)) == (0, (0x8000040D,))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_frame_is_answered(dsp: Dsp, data: st.DataObject) -> None:
    """Frames with wrong sizes, kernels or tensors; and bytes that are none."""
    frame = bytearray(RELU)
    for at in data.draw(st.lists(st.integers(0, 47), max_size=3)):
        frame[at] = data.draw(st.integers(0, 255))
    sent = bytes(frame[: data.draw(st.integers(32, len(frame)))])
    code, record = dsp.run(sent)
    assert code == 0
    answer = dsp.fetch(record)
    assert read_head(answer[:ANSWER_BYTES]).payload == len(answer) - ANSWER_BYTES
    assert dsp.run(RELU)[0] == 0


def test_echo_gives_the_bytes_back(dsp: Dsp) -> None:
    for size in (0, 1, 127, 128, 5000):
        sent = bytes(i % 251 for i in range(size))
        code, (got, _), _ = dsp.call(dsp.handle, ECHO, [sent], [size, LAP_BYTES])
        assert (code, got) == (0, sent)


def test_a_closed_library_touches_no_memory_again() -> None:
    """Kernels hold pointers into what was mapped; only a fresh load of the library opens."""
    need_board_tools()
    one = Dsp()
    try:
        memory = [struct.pack("<Q", 1 << 27)]
        assert one.call(one.handle, ARENA, memory, [4], fds=(5,))[0] == 0
        assert one.run(RELU)[0] == 0
        assert one.call(0, CLOSE, [], [], fds=(one.handle,))[0] == 0
        uri = b"file:///any.so\0"
        again = one.call(0, OPEN, [struct.pack("<I", len(uri)), uri], [], outs=1)
        assert again[0] == 0x8000040D
        assert one.run(RELU)[0] == WRONG_HANDLE
        assert one.call(one.handle, ARENA, memory, [4], fds=(5,))[0] == WRONG_HANDLE
        assert one.call(0, CLOSE, [], [], fds=(one.handle,))[0] == WRONG_HANDLE
    finally:
        one.process.kill()
        one.process.wait()


def test_the_bare_library_offers_what_needs_no_import() -> None:
    need_board_tools()
    one = Dsp("v68", bare=True)
    try:
        assert one.call(one.handle, NOTHING, [], [])[0] == 0
        code, (told,), _ = one.call(one.handle, INFO, [], [INFO_BYTES])
        assert (code, struct.unpack_from("<8I", told)) == (0, (1, 68, 1, 0, 0, 0, 0, 0))
        for method, ins, sizes in ((POWER, [bytes(8)], [12]), (FETCH, [], [72])):
            assert one.call(one.handle, method, ins, sizes)[0] == REFUSED
        assert one.call(0, CLOSE, [], [], fds=(one.handle,))[0] == 0
    finally:
        one.process.kill()
        one.process.wait()
