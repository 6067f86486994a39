"""Words arrive as they were sent, and what cannot be a target is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from board_cases import SERIAL, Device, board
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw_bridge.board import BoardError, transport_of
from hw_bridge.board.facts import read_facts, read_warmth
from hw_bridge.board.transports import Ssh

HARD = ["two words", "it's", '"quoted"', "$HOME `id` $(id)", "a;b&&c|d>e", "*?[x]", "\\n", "", "-n"]


@pytest.mark.parametrize(("name", "target"), [("adb", SERIAL), ("ssh", "b"), ("local", "")])
def test_words_arrive_as_they_were_sent(device: Device, name: str, target: str) -> None:
    done = transport_of(name, target).run(["printf", "%s\\n", *HARD, "new\nline"])
    assert done.out.decode() == "\n".join([*HARD, "new\nline", ""])
    assert done.code == 0


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(word=st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))))
def test_any_word_arrives(device: Device, word: str) -> None:
    for name, target in (("adb", SERIAL), ("ssh", "b")):
        done = transport_of(name, target).run(["printf", "%s", word])
        assert done.out == word.replace("/data/local/tmp", f"{device.root}/data/local/tmp").encode()


def test_bytes_and_exit_codes_come_through(device: Device) -> None:
    data = bytes(range(256)) * 40
    for name, target in (("adb", SERIAL), ("ssh", "b"), ("local", "")):
        transport = transport_of(name, target)
        done = transport.run(["sh", "-c", "cat; echo oops >&2; exit 7"], data)
        assert (done.code, done.out, done.said) == (7, data, "oops")


@pytest.mark.parametrize("target", ["-oProxyCommand=x", "a b", "$(x)", "a;b", "a\nb", "ä"])
def test_what_cannot_be_a_target_is_refused(target: str) -> None:
    for name in ("adb", "ssh"):
        with pytest.raises(BoardError, match="allowed: letters"):
            transport_of(name, target)


@pytest.mark.parametrize("port", ["0", "65536", "99999", "123456"])
def test_ports_that_are_none_are_refused(port: str) -> None:
    with pytest.raises(
        BoardError, match=rf"--target 'a@b:{port}': port {port}; allowed: 1 to 65535"
    ):
        transport_of("ssh", f"a@b:{port}")


def test_names_and_targets() -> None:
    with pytest.raises(BoardError, match="--transport 'usb': allowed: adb, ssh, local"):
        transport_of("usb")
    with pytest.raises(BoardError, match="--target 'x': with --transport local, this machine is"):
        transport_of("local", "x")
    with pytest.raises(BoardError, match="give --target user@host"):
        transport_of("ssh")


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [("b", "b", "22"), ("me@b:2222", "me@b", "2222"), ("me@[fe80::1]:22", "me@fe80::1", "22")],
)
def test_ports(device: Device, target: str, host: str, port: str) -> None:
    words = Ssh(target).words(["true"])
    assert words[-2:] == [host, "true"]
    assert words[words.index("-p") + 1] == port


def test_an_install_is_whole_or_not_at_all(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "one"
    local.write_bytes(b"program" * 1000)
    for name, target in (("adb", SERIAL), ("ssh", "b")):
        transport = transport_of(name, target)
        remote = f"{transport.folder()}/one"
        assert transport.install(local, remote)
        assert not transport.install(local, remote)  # it is there
    place = device.root / "data/local/tmp/mandheling"
    assert (place / "one").read_bytes() == local.read_bytes()
    (place / "one").write_bytes(b"stale")
    monkeypatch.setenv("TEST_PUSHED", "100")
    adb = transport_of("adb")
    with pytest.raises(BoardError, match="did not arrive whole"):
        adb.install(local, f"{adb.folder()}/one")
    assert sorted(path.name for path in place.iterdir()) == ["one"]
    assert (place / "one").read_bytes() == b"stale"


def test_a_board_that_gives_no_answer(device: Device) -> None:
    with pytest.raises(BoardError, match=r"gave no answer to 'sleep' in 0\.2 s"):
        transport_of("adb").run(["sleep", "30"], timeout_s=0.2)


def test_facts_are_read_not_believed(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.write("sys/devices/soc0/machine", "\x1b[31mQCS\t6490\n\nuser\troot2")
    facts = read_facts(board().transport)
    assert facts.get("soc") == "[31mQCS 6490 user root2"
    assert facts.get("model") == "Test board"
    assert facts.group("governor") == {"0": "performance"}
    assert facts.group("node") == {"fastrpc-cdsp": "read write", "dma_heap/system": "read write"}
    assert read_warmth(board().transport) == {"temp_mc.nsp0-thermal.0": 41300, "khz.0": 1958400}
    monkeypatch.setenv("TEST_MACHINE", "armv7l")
    with pytest.raises(BoardError, match="a armv7l machine"):
        read_facts(board().transport)


def test_missing_programs_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for name, install in (("adb", "apt-get install adb"), ("ssh", "openssh-client")):
        with pytest.raises(BoardError, match=install):
            transport_of(name, "b").run(["true"])
