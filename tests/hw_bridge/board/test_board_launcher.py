"""The launcher on an emulated board: kernels to the last bit, orders, and how sessions end."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from board_cases import Device, board, make_device
from hexagon_cases import KERNELS
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_bridge.board import BoardError, Launcher, RpcError
from hw_bridge.board.board import library_for
from hw_bridge.board.build import launcher_path
from hw_bridge.board.protocol import Latency, Order, info_of, laps_of
from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.errors import KernelError
from hw_bridge.hexagon.protocol import Kernel
from hw_bridge.hexagon.verify import run_case, verify_on

QUICK_CASES, ACCEPT_CASES = 2, 2_000
X = np.arange(-100, 100, dtype=np.int8)


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """One session for the tests that end none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_TIMER", "1")
        make_device(tmp_path_factory.mktemp("board"), patch)
        with board("adb").session() as one:
            yield one


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name.lower())
def test_kernels_agree_through_the_whole_path(launcher: Launcher, kernel: Kernel) -> None:
    assert all(run_case(launcher, kernel, seed=5, case=case)[0] for case in range(QUICK_CASES))


@pytest.mark.accept
@pytest.mark.parametrize("arch", [66, 68, 73])
def test_many_cases_agree(device: Device, monkeypatch: pytest.MonkeyPatch, arch: int) -> None:
    monkeypatch.setenv("TEST_ARCH", str(arch))
    with board("ssh", "me@board").session() as one:
        assert one.tell().arch == arch
        verdicts = verify_on(one, f"v{arch}", ACCEPT_CASES, KERNELS)
    assert [v.examples for v in verdicts if v.mismatches] == []


def test_a_refusal_by_a_kernel_ends_nothing(launcher: Launcher) -> None:
    with pytest.raises(KernelError, match="b is 16 elements of int8; allowed: 20 of int8"):
        launcher.call(Kernel.GEMM, [1, 4, 5, 0, 0, 0, -128, 127], [X[:4], X[:16]])
    with pytest.raises(KernelError, match=r"threads is 5; allowed: 1 \.\. 4, HVX contexts here"):
        HexagonKernels(launcher, threads=5).relu_forward(X)
    assert HexagonKernels(launcher, threads=4).relu_forward(X).result.max() == 99


def test_repetitions_start_from_the_same_input(launcher: Launcher) -> None:
    """An update works in place; on the board's memory it must not, or the second would differ."""
    w, g = X[:64].copy(), np.full(64, 3, np.int8)
    once = HexagonKernels(launcher).niti_update(w, g).result
    launcher.repeat(5, warm=2)
    assert np.array_equal(HexagonKernels(launcher).niti_update(w, g).result, once)
    timed = launcher.timed()
    assert len(timed.laps) == 5
    assert len({lap.ticks for lap in timed.laps}) == 1  # counted packets: the same work each time
    assert timed.laps[0].time_ns > 0
    assert timed.call_ns > 0
    HexagonKernels(launcher).relu_forward(X)
    assert len(launcher.timed().laps) == 1  # a repetition count holds for one kernel


def test_votes_and_modes(launcher: Launcher) -> None:
    held = launcher.vote(6)
    assert (held.status, held.form, held.clock_hz) == (0, 3, 1_200_000_000)
    assert launcher.vote(None).clock_hz == 500_000_000
    assert launcher.latency(Latency.PM_QOS) == 0
    assert launcher.latency(Latency.POLL) == 0x14
    assert launcher.latency(Latency.OFF) == 0
    pinned, _ = launcher.steady(1023, awake=False)
    assert pinned == 22  # no such CPU: EINVAL


def holders(file: Path) -> int:
    """How many descriptors of all processes are of a file."""
    count = 0
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            count += link.resolve() == file
        except OSError:  # the process has ended
            continue
    return count


def test_cpus_are_kept_awake_only_while_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device(tmp_path, monkeypatch, system="android")
    device.write("sysroot/dev/cpu_dma_latency", "what it was")
    file = tmp_path / "sysroot/dev/cpu_dma_latency"
    with board("local").launcher() as one:
        for _ in range(2):
            assert one.steady(None, awake=True) == (0, 0)
            assert file.read_bytes()[:4] == bytes(4)  # us of latency
            assert one.steady(None, awake=True) == (0, 0)  # once is enough
            assert holders(file) == 1
            assert one.steady(None, awake=False) == (0, 0)
            assert holders(file) == 0


def test_a_copy_without_memory_keeps_none(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SHARED_BYTES", str((16 + 3) << 20))
    with board("local").session(memory=16 << 20) as one:
        with pytest.raises(KernelError, match="no memory for the buffers"):
            one.copies(2 << 20, True, 1)  # there is memory for one of two
        assert len(one.copies(1 << 20, True, 1)[0]) == 1


def test_an_interrupt_ends_the_session(device: Device) -> None:
    """Another launcher would know nothing of it."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with board("local").session() as one:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                one.null_calls(1000, gap_us=10_000)
            with pytest.raises(BoardError, match="is over: the launcher was ended"):
                one.null_calls(1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_times_of_calls(launcher: Launcher) -> None:
    times = launcher.null_calls(20, warm=3)
    assert len(times) == 20
    assert min(times) > 0
    assert min(launcher.null_calls(3, gap_us=2000)) > 0
    for shared in (False, True):
        times, laps = launcher.copies(70_000, shared, 4, warm=1)
        assert (len(times), len(laps)) == (4, 4)
        assert laps[0].ticks > 0


ORDERS = [*Order, 999, 1014, 2**31]


@settings(max_examples=80, deadline=None)
@given(
    order=st.sampled_from(
        [o for o in ORDERS if o not in (Order.LEAVE, Order.OPEN_URI, Order.LOAD)]
    ),
    params=st.lists(st.sampled_from([-(2**63), -1, 2**31, 2**63 - 1]), max_size=5),
    size=st.integers(0, 40),
)
def test_wild_orders_are_refused(
    launcher: Launcher, order: int, params: list[int], size: int
) -> None:
    """Parameters that no order allows, but STEADY's CPU -1."""
    tensors = [np.zeros(size, np.int8)] if size else []
    if order in (Order.ATTRIBUTES, Order.TELL, Order.LAPS, Order.STEADY):
        params = [*params, 7]
    with pytest.raises(KernelError):
        launcher.call(order, params, tensors)
    assert launcher.null_calls(1)


def test_orders_have_their_time(device: Device) -> None:
    with board("local").launcher() as one:
        with pytest.raises(KernelError, match="before the library was loaded"):
            one.session()
        one.load()
        with pytest.raises(KernelError, match="before the library was loaded or opened"):
            one.tell()
        with pytest.raises(KernelError, match="a kernel came before"):
            HexagonKernels(one).relu_forward(X)
        with pytest.raises(BoardError, match="session with this machine is over"):
            one.load()


def test_a_session_that_is_signed_is_refused(device: Device) -> None:
    there = board("local")
    library = there.install_library(there.arch)
    with there.launcher() as one:
        one.load()
        with pytest.raises(RpcError, match="unsigned"):
            one.open(library)
    with there.launcher() as one:
        one.load()
        one.session()
        with pytest.raises(RpcError) as caught:
            one.open("libnone.so")
        assert caught.value.code == 0x80000406


def test_a_crash_of_the_dsp(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CRASH_AFTER", "12")
    with (
        pytest.raises(RpcError, match="the DSP's process died") as caught,
        board("adb").session() as one,
    ):
        one.null_calls(50)
    assert caught.value.code == 104
    with pytest.raises(BoardError, match="is over: a FastRPC call failed"):
        one.null_calls(1)


def test_a_hanging_dsp_ends_the_launcher(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_HANG_AFTER", "3")
    with (
        pytest.raises(BoardError, match="an order took too long, and the launcher ended itself"),
        board("adb", call_s=1).session() as one,
    ):
        one.null_calls(50)


def test_a_launcher_that_is_killed(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    there = board("adb")
    assert there.attributes
    monkeypatch.setenv("TEST_LAUNCHER", "dies")
    with pytest.raises(BoardError, match="the launcher was killed"), there.session() as one:
        one.null_calls(1000, gap_us=10_000)


def test_a_later_library_is_not_loaded(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    there = board("local")
    with there.launcher() as one:
        one.load()
        one.session()
        with pytest.raises(RpcError, match="later Hexagon version"):
            one.open(there.install_library("v73"))


def test_names_of_libraries() -> None:
    assert [library_for(v) for v in (0x66, 0x67, 0x8A68, 0x69, 0x73, 0x81)] == [
        "v66",
        "v66",
        "v68",
        "v68",
        "v73",
        "v73",
    ]
    with pytest.raises(BoardError, match="the DSP is a v65"):
        library_for(0x65)


def test_records_are_checked() -> None:
    with pytest.raises(BoardError, match="multiple of 6"):
        laps_of([1] * 7)
    with pytest.raises(BoardError, match="backwards"):
        laps_of([5, 4, 0, 0, 0, 0])
    with pytest.raises(BoardError, match="another version"):
        info_of([2] + [0] * 13)
    (lap,) = laps_of([0, 192, 5, 9, 1, 3])
    assert (lap.time_ns, lap.cycles, lap.packets) == (10_000, 4, 2)


def test_a_stream_that_is_no_frame_ends_the_launcher(device: Device) -> None:
    there = board("local")
    there.launcher()
    program = Path(there.transport.folder()) / launcher_path("linux").name
    for sent in (b"nonsense" * 8, struct.pack("<4s5IQ", b"MHQ1", 1, 1000, 1, 0, 0, 1 << 20)):
        done = there.transport.run(["env", "A=B", str(program), "5"], sent)
        assert done.code == 0
        assert done.out.startswith(b"MHA1")
        assert b"no frame" in done.out or b"longer" in done.out
