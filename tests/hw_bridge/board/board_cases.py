"""A board for tests: real launcher, real library, and emulators in place of its two processors.

``adb``, ``ssh`` and what a board's shell would find are small programs put first on the path; the
FastRPC library carries every call to the very shared object that a board would get.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from hexagon_cases import need_tools

from hw_bridge.board import Board, transport_of
from hw_bridge.board.build import DSP
from hw_bridge.hexagon.build import built, hash_of, source_files
from hw_bridge.hexagon.toolchain import target_flags

HERE = Path(__file__).parent
SYSROOT = Path("/usr/aarch64-linux-gnu")
SYSROOT_INSTALL = "apt-get install libc6-arm64-cross"
SERIAL = "R58TEST"
FIRMWARE = "CDSP.HT.2.5.c3-00130-KODIAK-1"


def need_board_tools() -> None:
    """Skip the test with the install line unless compiler, emulators and C library are there."""
    need_tools()
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is missing; install it: apt-get install qemu-user")
    if not (SYSROOT / "lib/ld-linux-aarch64.so.1").exists():
        pytest.skip(f"{SYSROOT} is missing; install it: {SYSROOT_INSTALL}")


def dsp_program() -> Path:
    """The emulated DSP: loads a library for a board, and serves its calls."""
    source = HERE / "c/dsp.c"
    folder = source_files()[0].parent
    beside = [folder / name for name in ("system.c", "bytes.c", "pipe.c")]
    flags = [*target_flags("v66"), "-static", f"-I{folder}", f"-I{DSP}"]
    digest = hash_of(flags, [source, DSP / "calls.h", *source_files()])
    words = [*flags, str(source), *map(str, beside)]
    return built(f"test-dsp-{digest}", "the test DSP", words)


def shared(name: str, source: Path) -> Path:
    """A shared library for the emulated board's CPU, alone in a folder of its own."""
    flags = ["-target", "aarch64-linux-gnu.2.28", "-O2", "-shared", "-fPIC"]
    flags.append("-fvisibility=hidden")
    digest = hash_of(flags, [source])
    made = built(f"test-{name}-{digest}", name, [*flags, f"-Wl,-soname={name}", str(source)])
    folder = made.parent / f"test-libraries-{digest}"
    folder.mkdir(exist_ok=True)
    if not (folder / name).exists():
        part = folder / f"{name}.{os.getpid()}"
        shutil.copy(made, part)
        part.replace(folder / name)
    return folder


@dataclass(frozen=True)
class Device:
    """Where a test board's files are."""

    root: Path

    def write(self, path: str, text: str) -> None:
        """A file of the board."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def make_device(root: Path, monkeypatch: pytest.MonkeyPatch, system: str = "linux") -> Device:
    """A board whose DSP is a v68 with everything in place, and the environment to reach it."""
    need_board_tools()
    device = Device(root)
    tree = {
        "sys/firmware/devicetree/base/model": "Test board\0",
        "sys/devices/soc0/machine": "QCS6490\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "performance\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1958400\n",
        "sys/class/remoteproc/remoteproc0/name": "cdsp\n",
        "sys/class/remoteproc/remoteproc0/state": "running\n",
        "sys/class/remoteproc/remoteproc0/firmware": "qcom/qcs6490/cdsp.mbn\n",
        "lib/firmware/qcom/other/cdsp.mbn": "CDSP.HT.0.0-OTHER-1",
        "sys/class/thermal/thermal_zone0/type": "nsp0-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "41300\n",
        "dev/fastrpc-cdsp": "",
        "dev/dma_heap/system": "",
        "lib/firmware/qcom/qcs6490/cdsp.mbn": f"\1\2{FIRMWARE}\0\3",
        "usr/lib/dsp/cdsp/fastrpc_shell_unsigned_3": f"\1\2{FIRMWARE}\0\3",
        "home/x": "",
        "data/local/tmp/x": "",
    }
    for path, text in tree.items():
        device.write(path, text)
    libraries = [str(shared("libcdsprpc.so", HERE / "c/libcdsprpc.c"))]
    sysroot = SYSROOT
    if system == "android":
        sysroot = root / "sysroot"
        (sysroot / "system/bin").mkdir(parents=True)
        shutil.copy(SYSROOT / "lib/ld-linux-aarch64.so.1", sysroot / "system/bin/linker64")
        (sysroot / "lib").symlink_to(SYSROOT / "lib")
        device.write("system/bin/linker64", "")
        for name in ("libc.so", "libdl.so"):
            libraries.append(str(shared(name, HERE / "c/nothing.c")))
    settings = {
        "TEST_DEVICE": root,
        "TEST_BIN": HERE / "device",
        "TEST_SYSTEM": system,
        "TEST_SYSROOT": sysroot,
        "TEST_LIBRARIES": ":".join(libraries),
        "TEST_DSP": f"{shutil.which('qemu-hexagon')} {dsp_program()}",
        "MANDHELING_BOARD_ROOT": root,
        "PATH": f"{HERE / 'device'}:{os.environ['PATH']}",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    return device


def board(transport: str = "adb", target: str = "", call_s: int = 60) -> Board:
    """The test board over one transport."""
    return Board(transport_of(transport, target), call_s)
