"""The runner answers whatever it is sent; this side believes nothing but answers."""

from __future__ import annotations

import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hexagon_cases import need_tools
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.build import build_hash, runner_path, source_files
from hw_bridge.hexagon.errors import FrameError, KernelError, RunnerError, ToolError
from hw_bridge.hexagon.protocol import (
    ANSWER_BYTES,
    Kernel,
    Status,
    read_answer,
    read_head,
    request_bytes,
)
from hw_bridge.hexagon.runner import Runner
from hw_bridge.hexagon.toolchain import check_architecture, compile_flags, compiler, emulate

INT8S = np.zeros(16, np.int8)


def raw(data: bytes) -> tuple[int, list[int]]:
    """Exit code of a runner fed these bytes, and the statuses of its answers."""
    command = [*emulate("v66"), str(runner_path("v66"))]
    done = subprocess.run(command, input=data, capture_output=True, timeout=120, check=False)
    left, statuses = done.stdout, []
    while left:
        head = read_head(left[:ANSWER_BYTES])
        statuses.append(head.status)
        left = left[ANSWER_BYTES + head.payload :]
    return done.returncode, statuses


def test_frames_follow_each_other_until_the_end() -> None:
    need_tools()
    info = request_bytes(Kernel.INFO, [], [])
    assert raw(info * 3) == (0, [Status.DONE] * 3)
    assert raw(b"") == (0, [])


def test_a_stream_that_is_no_sequence_of_frames_ends_it() -> None:
    need_tools()
    info = request_bytes(Kernel.INFO, [], [])
    assert raw(info + b"nonsense" * 8) == (2, [Status.DONE, Status.BAD_FRAME])
    assert raw(info[:-3]) == (2, [Status.BAD_FRAME])
    long = request_bytes(Kernel.RELU_FORWARD, [], [INT8S])
    assert raw(long[:-1]) == (2, [Status.BAD_FRAME])


def changed(frame: bytes, at: int, value: int) -> bytes:
    """The frame with another u32 in its head."""
    return frame[:at] + struct.pack("<I", value) + frame[at + 4 :]


@pytest.mark.parametrize(
    ("at", "value", "status"),
    [
        (4, 99, Status.BAD_VERSION),
        (8, 999, Status.BAD_KERNEL),
        (12, 0, Status.BAD_PARAMS),
        (12, 9, Status.BAD_PARAMS),
        (16, 1, Status.BAD_TENSORS),
        (16, 2**31, Status.BAD_TENSORS),
        (20, 2, Status.BAD_TENSORS),
        (20, 2**32 - 1, Status.BAD_TENSORS),
    ],
)
def test_a_wrong_head_is_answered_and_the_next_frame_runs(
    at: int, value: int, status: Status
) -> None:
    need_tools()
    frame = request_bytes(Kernel.RELU_FORWARD, [], [INT8S])
    assert raw(changed(frame, at, value) + frame) == (0, [status, Status.DONE])


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.sampled_from([*Kernel, 77]),
    params=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 40), max_size=24),
    sizes=st.lists(st.integers(0, 300), max_size=4),
    dtype=st.sampled_from([np.int8, np.int32, np.int64]),
)
def test_any_call_is_answered(
    runner: Runner, kernel: int, params: list[int], sizes: list[int], dtype: type[np.generic]
) -> None:
    with suppress(KernelError):
        runner.call(kernel, params, [np.zeros(size, dtype) for size in sizes])
    assert runner.call(Kernel.INFO).values[0] == 66


SHAPES = {
    Kernel.GEMM: (8, 2),
    Kernel.CONV_FORWARD: (17, 3),
    Kernel.CONV_INPUT_GRAD: (17, 2),
    Kernel.CONV_WEIGHT_GRAD: (12, 3),
    Kernel.RESCALE: (7, 1),
    Kernel.MAX_POOL_FORWARD: (11, 1),
    Kernel.MAX_POOL_INPUT_GRAD: (11, 2),
    Kernel.ADD: (11, 2),
    Kernel.TRANSPOSE: (3, 1),
    Kernel.TO_D32: (4, 1),
    Kernel.FROM_D32: (4, 1),
    Kernel.ROTATE180: (3, 1),
    Kernel.WIDE_UPDATE: (5, 3),
}
"""Parameters and tensors of the kernels that have sizes among their parameters."""


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_wild_sizes_are_refused_not_overrun(runner: Runner, data: st.DataObject) -> None:
    """Sizes whose products leave 32 or 64 bits, with as many tensors as the kernel takes."""
    kernel = data.draw(st.sampled_from(list(SHAPES)))
    count, tensors = SHAPES[kernel]
    size = st.sampled_from([0, 1, 1, 1, 2, 3, 8, 1 << 10, 1 << 15, 1 << 16, 1 << 24, 1 << 62, -1])
    params = data.draw(st.lists(size, min_size=count, max_size=count))
    sizes = data.draw(
        st.lists(st.sampled_from([0, 1, 8, 1 << 16]), min_size=tensors, max_size=tensors)
    )
    with suppress(KernelError):
        runner.call(kernel, params, [np.ones(one, np.int8) for one in sizes])
    assert runner.call(Kernel.INFO).values[0] == 66


@pytest.mark.parametrize(
    ("kernel", "params", "sizes"),
    [
        (Kernel.CONV_FORWARD, [1, 256, 256, 1, 1 << 16, 1, 1, 1, 0, 0, 1, 1], (1 << 16, 1 << 16)),
        (
            Kernel.CONV_INPUT_GRAD,
            [1, 256, 256, 1 << 16, 1, 1, 1, 1, 0, 0, 1, 1],
            (1 << 16, 1 << 16),
        ),
    ],
)
def test_a_result_beyond_memory_is_refused(
    runner: Runner, kernel: Kernel, params: list[int], sizes: tuple[int, int]
) -> None:
    tensors: list[np.ndarray] = [np.ones(size, np.int8) for size in sizes]  # type: ignore[type-arg]
    if kernel is Kernel.CONV_FORWARD:
        tensors.append(np.zeros(0, np.int32))
    with pytest.raises(KernelError, match=r"2\^28|elements|memory"):
        runner.call(kernel, [*params, 0, 0, 0, -128, 127], tensors)


def test_a_refusal_says_what_is_allowed(runner: Runner) -> None:
    with pytest.raises(KernelError, match=r"b is 16 elements of int8; allowed: 20 of int8"):
        runner.call(Kernel.GEMM, [1, 4, 5, 0, 0, 0, -128, 127], [INT8S[:4], INT8S])
    with pytest.raises(KernelError, match=r"bound is 300; allowed: 1 \.\. 128"):
        HexagonKernels(runner).relu_input_grad(INT8S, INT8S, 300)


def python(code: str, timeout_s: float = 20) -> Runner:
    """A runner whose process is a few lines of Python."""
    return Runner(command=[sys.executable, "-c", code], timeout_s=timeout_s)


@pytest.mark.parametrize(
    "said",
    [b"x" * ANSWER_BYTES, struct.pack("<4s5I5Q", b"MHA1", 1, 0, 9, 0, 0, 72, 0, 0, 0, 0)],
    ids=["noise", "too many values"],
)
def test_nonsense_is_refused(said: bytes) -> None:
    code = f"import sys; sys.stdin.buffer.read(32); sys.stdout.buffer.write({said!r})"
    with python(code) as runner, pytest.raises(FrameError):
        runner.call(Kernel.INFO)


def test_a_crash_is_told_and_the_next_call_starts_afresh() -> None:
    code = (
        "import sys; sys.stdin.buffer.read(32); print('out of luck', file=sys.stderr); sys.exit(7)"
    )
    with python(code) as runner:
        for _ in range(2):
            with pytest.raises(RunnerError, match="ended with 7 in a call; it said: out of luck"):
                runner.call(Kernel.INFO)


def test_a_signal_is_named_with_what_to_do() -> None:
    code = "import os, signal, sys; sys.stdin.buffer.read(32); os.kill(os.getpid(), signal.SIGKILL)"
    with python(code) as runner, pytest.raises(RunnerError) as told:
        runner.call(Kernel.INFO)
    assert told.value.code == -9
    assert "was ended by signal 9 (SIGKILL) in a call" in str(told.value)
    assert "free some or take a smaller shape; run it again" in str(told.value)


def test_a_hanging_runner_is_ended() -> None:
    with python("import time; time.sleep(600)", timeout_s=0.3) as runner:
        with pytest.raises(RunnerError, match="no answer in"):
            runner.call(Kernel.INFO)
        with pytest.raises(RunnerError, match="no answer in"):
            runner.call(Kernel.RELU_FORWARD, [], [np.zeros(1 << 22, np.int8)])


def test_a_program_that_is_not_there() -> None:
    with Runner(command=["/nonexistent"]) as runner, pytest.raises(RunnerError, match="not start"):
        runner.call(Kernel.INFO)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=ANSWER_BYTES, max_size=ANSWER_BYTES), st.binary(max_size=64))
def test_no_bytes_but_an_answer_pass(head: bytes, payload: bytes) -> None:
    for start in (head, b"MHA1\x01\0\0\0" + head[8:]):
        try:
            read_answer(read_head(start), payload)
        except (FrameError, KernelError):
            continue


def test_requests_hold_what_the_runner_reads() -> None:
    with pytest.raises(FrameError, match="float64"):
        request_bytes(Kernel.INFO, [], [np.zeros(3)])
    with pytest.raises(FrameError, match="does not fit"):
        request_bytes(Kernel.INFO, [2**63], [])


def test_builds_are_named_by_what_they_are_made_of() -> None:
    need_tools()
    assert len({build_hash(arch) for arch in ("v66", "v68", "v73")}) == 3
    assert runner_path("v66").name.endswith(build_hash("v66"))
    with pytest.raises(ToolError, match="allowed: v66, v68, v73"):
        check_architecture("v65")


def test_the_sources_compile_without_a_warning(tmp_path: Path) -> None:
    """A user's build does not ask for warnings: compilers differ in what they warn of."""
    need_tools()
    sources = [str(path) for path in source_files() if path.suffix == ".c"]
    strict = ["-Wall", "-Wextra", "-Werror", "-Wstrict-prototypes", "-o", str(tmp_path / "runner")]
    command = [*compiler().command, "cc", *compile_flags("v66"), *strict, *sources]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_emulator_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match="apt-get install qemu-user"):
        emulate("v66")
