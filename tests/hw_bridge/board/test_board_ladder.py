"""The bring-up ladder on an emulated board: all rungs, and what each failure says."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from board_cases import FIRMWARE, SERIAL, Device, board

from hw_bridge.board.doctor import examine
from hw_bridge.board.errors import MEANINGS, RpcError, meaning_of

LAST = "timer on the DSP"


@pytest.mark.parametrize(("transport", "target"), [("ssh", "me@board:2222"), ("local", "")])
def test_every_rung_but_the_timer_holds(device: Device, transport: str, target: str) -> None:
    """The emulator's timer stands still, which the last rung has to notice."""
    steps = examine(board(transport, target))
    assert [step.name for step in steps if not step.ok] == [LAST]
    assert (steps[-1].name, len(steps)) == (LAST, 18)
    assert "stands still" in steps[-1].found
    assert "timed by the CPU" in steps[-1].remedy
    found = {step.name: step.found for step in steps}
    assert found["board"].startswith("Test board, QCS6490; linux")
    assert found["DSP attributes"].startswith("v68, library for v68; HVX contexts 4, VTCM 2097152")
    assert found["firmware and shell"].count(FIRMWARE) == 2
    assert "clock 1200000000 Hz" in found["clocks"]


def test_a_phone_takes_the_other_launcher(phone: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Android's dynamic linker and library names, and a firmware with an old interface."""
    monkeypatch.setenv("TEST_TIMER", "1")
    monkeypatch.setenv("TEST_ARCH", "73")
    steps = examine(board("adb", SERIAL))
    assert all(step.ok for step in steps)
    assert (steps[-1].name, len(steps)) == (LAST, 18)
    assert "cycles hidden" in steps[-1].found
    installed = {path.name for path in (phone.root / "data/local/tmp/mandheling").iterdir()}
    assert any(name.startswith("mandheling-launcher-android-") for name in installed)
    assert any(name.startswith("libmandheling-v73-") for name in installed)
    facts = board("adb", SERIAL).fingerprint().facts
    assert (facts["soc"], facts["hexagon"], facts["system"]) == ("SM8250", "v73", "android")


def environment(**settings: str) -> Callable[[Device, pytest.MonkeyPatch], None]:
    def change(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    return change


def file(path: str, text: str) -> Callable[[Device, pytest.MonkeyPatch], None]:
    return lambda device, monkeypatch: device.write(path, text)


def without(path: str) -> Callable[[Device, pytest.MonkeyPatch], None]:
    return lambda device, monkeypatch: shutil.rmtree(device.root / path)


SHELL = "usr/lib/dsp/cdsp"
FAILURES = [
    (environment(TEST_ADB="none"), "connection", "switch USB debugging on"),
    (environment(TEST_ADB="offline"), "connection", "reconnect the cable"),
    (environment(TEST_ADB="unauthorized"), "connection", "allow this computer's key"),
    (environment(TEST_ADB="two"), "connection", "--target"),
    (environment(PATH="/nonexistent"), "C compiler|connection", "adb is missing|apt-get"),
    (
        environment(TEST_MACHINE="x86_64"),
        "board",
        "a x86_64 machine; a board has aarch64: choose another by",
    ),
    (file("sys/class/remoteproc/remoteproc0/state", "offline"), "compute DSP", "cdsp: offline"),
    (without("sys/class/remoteproc"), "compute DSP", "none is told"),
    (without("dev"), "device nodes", "there is none"),
    (environment(TEST_LIBRARIES="/nonexistent"), "FastRPC library", "libfastrpc1"),
    (environment(TEST_LAUNCHER="killed"), "FastRPC library", "was killed"),
    (environment(TEST_LAUNCHER="noise"), "FastRPC library", "login script"),
    (environment(TEST_FULL="1"), "FastRPC library", "No space left"),
    (environment(TEST_PUSHED="1000"), "FastRPC library", "did not arrive whole"),
    (environment(TEST_ARCH="65"), "DSP attributes", "the DSP is a v65; libraries are built for"),
    (file(f"{SHELL}/fastrpc_shell_unsigned_3", "CDSP.HT.1.0-1"), "firmware and shell", "1.0-1"),
    (without(SHELL), "firmware and shell", "no fastrpc_shell_unsigned_3"),
    (environment(TEST_OPEN_CODE="0x80000406"), "empty library opens", "could not load"),
    (environment(TEST_OPEN_CODE="0x80000600"), "empty library opens", "same build as"),
    (environment(TEST_OPEN_CODE="0x72"), "empty library opens", "connection to the DSP was ref"),
    (environment(TEST_OPEN_CODE="0x80000481"), "empty library opens", "unsigned module"),
    (environment(TEST_CRASH_AFTER="50"), "null call", "0x00000068: the DSP's process died"),
    (environment(TEST_FLIP="1"), "bytes there and back", "other bytes back"),
]


@pytest.mark.parametrize(("change", "rung", "said"), FAILURES, ids=lambda value: str(value)[:24])
def test_the_first_failure_names_its_cause(
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Device, pytest.MonkeyPatch], None],
    rung: str,
    said: str,
) -> None:
    change(device, monkeypatch)
    *before, last = examine(board("adb"))
    assert not last.ok
    assert all(step.ok for step in before)
    assert last.name in rung.split("|")
    assert any(part in last.found for part in said.split("|")), last.found
    assert last.remedy


def test_names_and_shells_of_several_boards(device: Device) -> None:
    """Kernels name the processor by its address; packages may hold the shells of many boards."""
    device.write("sys/class/remoteproc/remoteproc0/name", "a300000.remoteproc\n")
    device.write(f"{SHELL}/fastrpc_shell_unsigned_3", "CDSP.HT.9-X-1")
    one = "usr/share/qcom/qcs6490/Qualcomm/RB3gen2/dsp/cdsp/fastrpc_shell_unsigned_3"
    device.write(one, f"\1{FIRMWARE}\0")
    found = {step.name: (step.ok, step.found) for step in examine(board("local"))}
    assert found["compute DSP"] == (True, "a300000.remoteproc: running qcom/qcs6490/cdsp.mbn")
    assert found["firmware and shell"] == (
        True,
        f"firmware {FIRMWARE}, shell CDSP.HT.9-X-1, {FIRMWARE}",
    )


def test_ssh_failures_are_the_connection(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    for state, said in (("denied", "ssh-copy-id"), ("refused", "is sshd running")):
        monkeypatch.setenv("TEST_SSH", state)
        last = examine(board("ssh", "me@board"))[-1]
        assert (last.name, last.ok) == ("connection", False)
        assert said in last.found


def test_every_number_has_a_meaning_and_a_remedy() -> None:
    for code in MEANINGS:
        error = RpcError("open", code)
        assert error.code == code
        assert f"{code:#010x}" in str(error)
        assert all(meaning_of(code))
    assert meaning_of(0x80000404 + 0x64)[0].startswith("on the DSP's side: the DSP's process died")
    assert meaning_of(0xFFFFFFF3)[0] == "the system's error 13"
    assert meaning_of(0x12345678)[0] == "an unknown error"
