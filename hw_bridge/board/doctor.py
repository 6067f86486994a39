"""Bringing a board up, rung by rung: what ``mandheling hw doctor --backend board`` prints.

Every rung needs those below it and little more, so that the first failure names its cause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hw_bridge.board.board import Board
from hw_bridge.board.build import library_path
from hw_bridge.board.errors import BoardError
from hw_bridge.board.protocol import LOOP_PACKETS
from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.toolchain import COMPILER_INSTALL, compiler
from hw_bridge.steps import Step, look
from kernels.int8.pointwise import relu_forward

CORNER = 6
"""TURBO, of the voltage corners that HAP knows."""
_NODES = ("fastrpc-cdsp", "fastrpc-cdsp-secure", "adsprpc-smd", "adsprpc-smd-secure")
_ECHO_BYTES = 1 << 16
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class _Rung:
    name: str
    find: Callable[[], str]
    remedy: str


def _reachable(board: Board) -> str:
    board.transport.run(["true"])
    return board.transport.where


def _machine(board: Board) -> str:
    facts = board.facts
    known = [facts.get(name) for name in ("model", "soc", "platform")]
    named = ", ".join(dict.fromkeys(one for one in known if one)) or "a board without a name"
    return f"{named}; {facts.system}, kernel {facts.get('kernel')}, user {facts.get('user')}"


def _processor(board: Board) -> str:
    """A processor is known by its name, or by that of its firmware."""
    told = [f"{name}: {state}" for name, state in board.facts.group("remoteproc").items()]
    found = [one for one in told if "cdsp" in one]
    if any(state in one.split() for one in found for state in ("running", "attached")):
        return ", ".join(found)
    if not found and board.facts.system == "android":
        return "not told, as on most phones"
    raise BoardError(f"no compute DSP runs; {', '.join(told) or 'none is told'}")


def _nodes(board: Board) -> str:
    rights = board.facts.group("node")
    usable = [name for name in _NODES if "read" in rights.get(name, "")]
    told = ", ".join(f"/dev/{name}: {right}" for name, right in rights.items())
    if not usable:
        raise BoardError(f"no node that this user may read; {told or 'there is none'}")
    return told


def _rpc_library(board: Board) -> str:
    with board.launcher() as launcher:
        return launcher.load()


def _dsp(board: Board) -> str:
    told = board.attributes
    vtcm = told.get("vtcm_page_bytes", 0) * told.get("vtcm_pages", 0)
    unsigned = "yes" if told.get("unsigned_modules") else "not told (some firmware accepts them)"
    return (
        f"v{told.get('arch', 0) & 0xFF:x}, library for {board.arch}; HVX contexts"
        f" {told.get('hvx_128', 0)}, VTCM {vtcm} bytes; unsigned modules: {unsigned}"
    )


def _same_build(board: Board) -> str:
    firmware, shells = board.facts.get("firmware"), board.facts.get("shell").split()
    if firmware and shells and firmware not in shells:
        raise BoardError(f"firmware is {firmware}, the unsigned shell is {', '.join(shells)}")
    if board.facts.system == "linux" and not board.facts.get("shell_file"):
        raise BoardError("no fastrpc_shell_unsigned_3 in the folders that the library searches")
    return f"firmware {firmware or 'not told'}, shell {', '.join(shells) or 'not told'}"


def _opens(board: Board) -> str:
    with board.opened(bare=True):
        return library_path(board.arch, bare=True).name


def _null_call(board: Board) -> str:
    with board.opened(bare=True) as launcher:
        times = sorted(launcher.null_calls(100, warm=100))
    return f"{times[0]} to {times[-1]} ns, median {times[50]}, 100 calls"


def _echo(board: Board) -> str:
    with board.opened(bare=True) as launcher:
        for shared in (False, True):
            launcher.copies(_ECHO_BYTES, shared, 1)
    return f"{_ECHO_BYTES} bytes, copied and shared"


def _whole(board: Board) -> str:
    with board.opened() as launcher:
        told = launcher.tell()
    return f"{library_path(board.arch).name}: up to {told.threads} threads"


def _memory(board: Board) -> str:
    with board.session() as launcher:
        return f"{launcher.tell().arena_bytes // _MIB} MiB for kernels"


def _hvx(board: Board) -> str:
    x = np.arange(-128, 872, dtype=np.int64).astype(np.int8)
    with board.session() as launcher:
        got = HexagonKernels(launcher).relu_forward(x).result
    if not np.array_equal(got, relu_forward(x, threads=1)):
        raise BoardError("a ReLU on 1000 values differs from this repository's")
    return "a ReLU on 1000 values, equal to this repository's"


def _threads(board: Board) -> str:
    a = (np.arange(64 * 96) % 251 - 125).astype(np.int8).reshape(64, 96)
    b = (np.arange(96 * 64) % 241 - 120).astype(np.int8).reshape(96, 64)
    with board.session() as launcher:
        contexts = launcher.tell().hvx_contexts or 1
        got = HexagonKernels(launcher, threads=min(contexts, 4)).gemm(a, b).result.values
    if not np.array_equal(got, a.astype(np.int32) @ b.astype(np.int32)):
        raise BoardError(f"a product on {min(contexts, 4)} threads differs from NumPy's")
    return f"a product on {min(contexts, 4)} of {contexts} HVX contexts, equal to NumPy's"


def _clocks(board: Board) -> str:
    with board.session() as launcher:
        before = launcher.tell()
        held = launcher.vote(CORNER)
        launcher.vote(None)
    if held.status:
        raise BoardError(held.words)
    return f"from {before.clock_hz} Hz: {held.words}; VTCM {before.vtcm_bytes} bytes"


def _counters(board: Board) -> str:
    with board.session() as launcher:
        launcher.vote(CORNER)
        loop = launcher.tell().loop
        launcher.vote(None)
    if not loop.ticks:
        raise BoardError("the DSP's 19.2 MHz timer stands still")
    counts = {"ticks": loop.ticks, "cycles": loop.cycles, "packets": loop.packets}
    told = ", ".join(f"{name} {n or 'hidden'}" for name, n in counts.items())
    return f"a loop of {LOOP_PACKETS} packets: {told}"


def _rungs(board: Board) -> list[_Rung]:
    opened = "see the DSP's log (journalctl, logcat); the guide to boards lists causes by number"
    return [
        _Rung("C compiler", lambda: compiler().version, COMPILER_INSTALL),
        _Rung("connection", lambda: _reachable(board), "the guide to boards shows how to connect"),
        _Rung("board", lambda: _machine(board), "give the --target of a board"),
        _Rung(
            "compute DSP",
            lambda: _processor(board),
            "install the firmware package of this board; `dmesg | grep remoteproc` tells why not",
        ),
        _Rung(
            "device nodes",
            lambda: _nodes(board),
            "add this user to the group of the nodes (fastrpc or render), or write a udev rule",
        ),
        _Rung(
            "FastRPC library",
            lambda: _rpc_library(board),
            "install it (Debian: libfastrpc1; phones have it in /vendor/lib64)",
        ),
        _Rung("DSP attributes", lambda: _dsp(board), "update the FastRPC library"),
        _Rung(
            "firmware and shell",
            lambda: _same_build(board),
            "install the DSP binaries of the firmware's own release"
            " (Debian: hexagon-dsp-binaries-<board>)",
        ),
        _Rung(
            "library checked",
            lambda: library_path(board.arch).name,
            "install the package and the compiler again",
        ),
        _Rung("empty library opens", lambda: _opens(board), opened),
        _Rung("null call", lambda: _null_call(board), opened),
        _Rung("bytes there and back", lambda: _echo(board), opened),
        _Rung("whole library opens", lambda: _whole(board), opened),
        _Rung(
            "memory for kernels",
            lambda: _memory(board),
            "give this user the dma heap (/dev/dma_heap/system), or free memory",
        ),
        _Rung("HVX kernel", lambda: _hvx(board), opened),
        _Rung("HVX threads", lambda: _threads(board), opened),
        _Rung("clocks", lambda: _clocks(board), "sample with --corner 0, at the system's clocks"),
        _Rung(
            "timer on the DSP",
            lambda: _counters(board),
            "kernels will be timed by the CPU, whole calls, and their samples say so",
        ),
    ]


def examine(board: Board) -> list[Step]:
    """Climb the ladder and stop at the first failure."""
    steps = []
    for rung in _rungs(board):
        steps.append(look(rung.name, rung.find, rung.remedy))
        if not steps[-1].ok:
            break
    return steps
