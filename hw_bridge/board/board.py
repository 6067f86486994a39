"""One board: what it is, what is installed on it, and sessions with its DSP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from cost_models.samples import Fingerprint
from hw_bridge.board.build import launcher_path, library_path
from hw_bridge.board.errors import BoardError
from hw_bridge.board.facts import BoardFacts, read_facts
from hw_bridge.board.launcher import CALL_S, MEMORY_BYTES, Launcher
from hw_bridge.board.transports import Transport
from hw_bridge.hexagon.toolchain import ARCHITECTURES

_CHANGES = ("user", "kernel", "shell_file")
"""Facts that are no part of the fingerprint; the kernel's version is kept under ``versions``."""


def library_for(attribute: int) -> str:
    """Newest library that a DSP runs, by the low byte of its architecture attribute.

    Raises
    ------
    BoardError
        It is older than all of ours.

    Examples
    --------
    >>> library_for(0x8A68), library_for(0x75)
    ('v68', 'v73')
    """
    version = attribute & 0xFF
    fitting = [arch for arch in ARCHITECTURES if int(arch[1:], 16) <= version]
    if not fitting:
        raise BoardError(
            f"the DSP is a v{version:x}; libraries are built for {', '.join(ARCHITECTURES)}"
        )
    return fitting[-1]


class Board:
    """A board that can be reached.

    Parameters
    ----------
    transport
        How.
    call_s
        Seconds that one order may take.
    """

    def __init__(self, transport: Transport, call_s: int = CALL_S) -> None:
        self.transport = transport
        self.call_s = call_s

    @cached_property
    def facts(self) -> BoardFacts:
        """What it is; read once."""
        return read_facts(self.transport)

    def launcher(self) -> Launcher:
        """Install the launcher and give it, not started yet."""
        local = launcher_path(self.facts.system)
        remote = f"{self.transport.folder()}/{local.name}"
        self.transport.install(local, remote)
        return Launcher(self.transport, remote, self.call_s)

    def install_library(self, arch: str, bare: bool = False) -> str:
        """Install the DSP's library; its file name."""
        local = library_path(arch, bare)
        self.transport.install(local, f"{self.transport.folder()}/{local.name}")
        return local.name

    @cached_property
    def probed(self) -> tuple[str, dict[str, int]]:
        """The FastRPC library's name, and what the firmware tells of the DSP.

        Asked once, in a process of its own.
        """
        with self.launcher() as launcher:
            return launcher.load(), launcher.attributes()

    @property
    def attributes(self) -> dict[str, int]:
        """What the firmware tells of the DSP."""
        return self.probed[1]

    @property
    def arch(self) -> str:
        """Version of the library that it gets.

        Raises
        ------
        BoardError
            The firmware does not tell the DSP's version, or it is too old.
        """
        if "arch" not in self.attributes:
            raise BoardError(
                "the board's FastRPC library does not tell the DSP's version (attribute 6)"
            )
        return library_for(self.attributes["arch"])

    @contextmanager
    def opened(self, bare: bool = False) -> Iterator[Launcher]:
        """A launcher with the library, or the bare one, open on the DSP."""
        library = self.install_library(self.arch, bare)
        with self.launcher() as launcher:
            launcher.load()
            launcher.session()
            launcher.open(library)
            yield launcher

    @contextmanager
    def session(self, memory: int = MEMORY_BYTES) -> Iterator[Launcher]:
        """The same, with memory mapped: kernels can run."""
        with self.opened() as launcher:
            launcher.give_memory(memory)
            yield launcher

    def fingerprint(self) -> Fingerprint:
        """What samples of this board were measured on.

        ``soc`` and ``hexagon`` are what device files call a chip and its DSP.
        """
        facts = {name: value for name, value in self.facts.facts.items() if name not in _CHANGES}
        facts = {name: value for name, value in facts.items() if not name.startswith("node.")}
        attributes = {f"dsp.{name}": f"{value:#x}" for name, value in self.attributes.items()}
        versions = {
            "versions.kernel": self.facts.get("kernel"),
            "versions.library": library_path(self.arch).name,  # refuses a board without ``arch``
            "versions.rpc": self.probed[0],
        }
        hexagon = {"hexagon": f"v{self.attributes['arch'] & 0xFF:x}"}
        return Fingerprint("board", {**facts, **attributes, **versions, **hexagon})
