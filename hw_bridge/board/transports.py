"""How programs are run on a board: over ``adb``, over ``ssh``, or here.

A command is a list of words on both sides. ``adb`` and ``ssh`` join theirs to one line for the
board's shell, so each word is quoted for it; nothing that a file or a board says is ever run.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hw_bridge.board.errors import BoardError

ANSWER_S = 60.0
"""Time for a short command on the board."""
PUSH_S = 600.0
MOST_PORT = 65535
_TARGET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\[\]-]{0,200}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SAID = 300
ADB_INSTALL = "apt-get install adb"
SSH_INSTALL = "apt-get install openssh-client"


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended.

    Attributes
    ----------
    code
        Its exit code.
    out
        What it wrote to stdout.
    said
        What it wrote to stderr, in one line.
    """

    code: int
    out: bytes
    said: str


class Transport(ABC):
    """Runs programs on one board.

    Attributes
    ----------
    name
        ``adb``, ``ssh`` or ``local``.
    target
        Which board, as that program names it; empty: the only one.
    """

    name: str
    signs: tuple[tuple[str, str], ...] = ()
    """What its program says when the board cannot be reached, and what to do."""

    def __init__(self, target: str = "") -> None:
        if target and not _TARGET.fullmatch(target):
            raise BoardError(
                f"--target {target!r}: allowed: letters, digits and _ . : @ [ ] -, and no - first"
            )
        self.target = target

    @abstractmethod
    def words(self, remote: Sequence[str]) -> list[str]:
        """Words that start, here, a process whose stdin and stdout are the remote program's."""

    @abstractmethod
    def folder(self) -> str:
        """Absolute path of the folder on the board that this program may fill."""

    def run(
        self, remote: Sequence[str], data: bytes | None = None, timeout_s: float = ANSWER_S
    ) -> Done:
        """Run a program on the board and wait for its end.

        Parameters
        ----------
        remote
            Its words.
        data
            What it reads from stdin.
        timeout_s
            Seconds until it is given up.

        Raises
        ------
        BoardError
            The board cannot be reached, or gives no answer in time. A program's own failure is no
            error here: see ``code``.
        """
        words = self.words(remote)
        try:
            done = subprocess.run(
                words, input=data or b"", capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise BoardError(
                f"{self.where} gave no answer to {remote[0]!r} in {timeout_s:g} s; is it awake and"
                " connected?"
            ) from None
        except OSError as error:
            raise BoardError(f"{words[0]} does not start: {error}") from None
        said = " ".join(done.stderr.decode("utf-8", "replace").split())
        remedy = self.explain(done.returncode, said)
        if remedy:
            raise BoardError(f"{self.where} cannot be reached ({said[-_SAID:]}): {remedy}")
        return Done(done.returncode, done.stdout, said[-_SAID:])

    @property
    def where(self) -> str:
        """The board in words, for messages."""
        return f"the board {self.target or '(the only one)'} over {self.name}"

    def explain(self, code: int | None, said: str) -> str:
        """What to do about a broken connection; empty if ``said`` tells of none."""
        if not code:
            return ""
        return next((remedy for sign, remedy in self.signs if sign in said), "")

    def digest(self, remote: str) -> str:
        """SHA-256 of a file on the board; empty if it is not there.

        Raises
        ------
        BoardError
            The board has no program ``sha256sum``.
        """
        done = self.run(["sha256sum", remote])
        if done.code == 127 or "not found" in done.said:
            raise BoardError(f"{self.where} has no sha256sum; install coreutils, busybox or toybox")
        found = done.out.decode("ascii", "replace").split(" ", 1)[0]
        return found if done.code == 0 and _DIGEST.fullmatch(found) else ""

    def install(self, local: Path, remote: str) -> bool:
        """Put a program or library on the board unless it is there; whole, or not at all.

        Returns
        -------
        bool
            Whether it was sent.

        Raises
        ------
        BoardError
            The board is full or refuses, or what arrived is not what was sent.
        """
        wanted = hashlib.sha256(local.read_bytes()).hexdigest()
        if self.digest(remote) == wanted:
            return False
        part = remote + ".part"
        self._succeeds(["mkdir", "-p", remote.rsplit("/", 1)[0]])
        self.send(local, part)
        if self.digest(part) != wanted:
            self.run(["rm", "-f", part])
            raise BoardError(
                f"{local.name} did not arrive whole on {self.where}; is there space in"
                f" {self.folder()}?"
            )
        self._succeeds(["chmod", "755", part])
        self._succeeds(["mv", part, remote])
        return True

    def send(self, local: Path, remote: str) -> None:
        """Write a file on the board through the remote shell's stdin."""
        script = 'cat > "$1"'
        words = ["sh", "-c", script, "mandheling", remote]
        self._succeeds(words, local.read_bytes(), PUSH_S)

    def _succeeds(
        self, remote: Sequence[str], data: bytes | None = None, timeout_s: float = ANSWER_S
    ) -> Done:
        done = self.run(remote, data, timeout_s)
        if done.code:
            said = done.said or "it said nothing"
            raise BoardError(f"{self.where}: {shlex.join(remote)} ended with {done.code} ({said})")
        return done


def _program(name: str, install: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise BoardError(f"{name} is missing; install it: {install}")
    return path


class Adb(Transport):
    """A phone or board with Android, by the debug bridge; no root needed."""

    name = "adb"
    signs = (
        ("no devices/emulators found", "connect it, and switch USB debugging on"),
        ("more than one device", "name one with --target; `adb devices` lists them"),
        ("device unauthorized", "unlock the phone and allow this computer's key"),
        ("device still authorizing", "unlock the phone and allow this computer's key"),
        ("device offline", "reconnect the cable, or run `adb reconnect`"),
        ("no permissions", "udev gives this user no access to the USB device"),
        ("device not found", "`adb devices` lists those that are there"),
        ("' not found", "`adb devices` lists those that are there"),
        ("error: closed", "the connection broke; reconnect it"),
        ("protocol fault", "the connection broke; run `adb reconnect`"),
        ("cannot connect to daemon", "run `adb start-server`"),
    )

    def _adb(self) -> list[str]:
        which = ["-s", self.target] if self.target else []
        return [_program("adb", ADB_INSTALL), *which]

    def words(self, remote: Sequence[str]) -> list[str]:
        """``-T``: no terminal, so that bytes stay what they are."""
        return [*self._adb(), "shell", "-T", shlex.join(remote)]

    def folder(self) -> str:
        """The one place where a shell without root may write and run."""
        return "/data/local/tmp/mandheling"

    def send(self, local: Path, remote: str) -> None:
        """Send by adb's own protocol."""
        words = [*self._adb(), "push", str(local), remote]
        try:
            done = subprocess.run(words, capture_output=True, timeout=PUSH_S, check=False)
        except subprocess.TimeoutExpired:
            raise BoardError(f"{self.where}: `adb push` took over {PUSH_S:g} s") from None
        said = " ".join((done.stderr + done.stdout).decode("utf-8", "replace").split())[-_SAID:]
        if done.returncode:
            remedy = self.explain(done.returncode, said) or "see what adb said"
            raise BoardError(f"{self.where}: `adb push` failed ({said}): {remedy}")

    def explain(self, code: int | None, said: str) -> str:
        """Adb's own failures start with ``error:`` or ``adb:``; a program's do not."""
        own = re.search(r"(^|\s)(error|adb|adb\.exe): ", said) is not None
        return super().explain(code, said) if own else ""


def _host_and_port(target: str) -> tuple[str, str]:
    """Parts of ``user@host:port`` for ssh's command line; a version 6 address stands in [ ]."""
    host, port = target, "22"
    found = re.fullmatch(r"([^:\[\]]+|[^\[\]]*\[[^\]]+\]):([0-9]+)", target)
    if found:
        host, port = found.groups()
    if not 1 <= int(port) <= MOST_PORT:
        raise BoardError(f"--target {target!r}: port {port}; allowed: 1 to {MOST_PORT}")
    return host.replace("[", "").replace("]", ""), port


class Ssh(Transport):
    """A board with Linux, by its user's key; passwords are not asked for."""

    name = "ssh"
    signs = (
        ("Permission denied", "install your key on the board: `ssh-copy-id`"),
        ("Could not resolve hostname", "check --target"),
        ("Connection refused", "is sshd running on the board?"),
        ("timed out", "is the board on, and in this network?"),
        ("No route to host", "is the board on, and in this network?"),
        ("Host key verification failed", "connect once by hand: `ssh` shows the new key"),
        ("", "the connection broke; is the board still on?"),
    )

    def __init__(self, target: str = "") -> None:
        if not target:
            raise BoardError("ssh needs a target; give --target user@host or user@host:port")
        super().__init__(target)
        self._host, self._port = _host_and_port(target)
        self._home = ""

    def words(self, remote: Sequence[str]) -> list[str]:
        """``BatchMode``: fail instead of asking; ``--`` ends options."""
        options = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5")
        words = [_program("ssh", SSH_INSTALL), "-T", "-p", self._port]
        for option in options:
            words += ["-o", option]
        return [*words, "--", self._host, shlex.join(remote)]

    def folder(self) -> str:
        """A folder in the user's home."""
        if not self._home:
            home = self._succeeds(["sh", "-c", "cd && pwd"]).out.decode("utf-8", "replace").strip()
            if not re.fullmatch(r"/[^\0;:\n]*", home):
                raise BoardError(f"{self.where}: the home folder is {home!r}; it needs one")
            self._home = home
        return f"{self._home.rstrip('/')}/.mandheling-board"

    def explain(self, code: int | None, said: str) -> str:
        """Ssh keeps 255 for its own failures."""
        return super().explain(code, said) if code == 255 else ""


class Local(Transport):
    """This machine is the board."""

    name = "local"

    def __init__(self, target: str = "") -> None:
        if target:
            raise BoardError(
                f"--target {target!r}: with --transport local, this machine is the board; leave "
                "--target out"
            )
        super().__init__()

    @property
    def where(self) -> str:
        """The board in words, for messages."""
        return "this machine"

    def words(self, remote: Sequence[str]) -> list[str]:
        """As they are."""
        return list(remote)

    def folder(self) -> str:
        """A folder beside the built binaries."""
        from hw_bridge.hexagon.build import cache_folder

        return str(cache_folder().absolute() / "board")


TRANSPORTS: dict[str, type[Transport]] = {"adb": Adb, "ssh": Ssh, "local": Local}


def transport_of(name: str, target: str = "") -> Transport:
    """Give the transport of a name.

    Raises
    ------
    BoardError
        Another name, or a target that cannot be one.
    """
    if name not in TRANSPORTS:
        raise BoardError(f"--transport {name!r}: allowed: {', '.join(TRANSPORTS)}")
    return TRANSPORTS[name](target)
