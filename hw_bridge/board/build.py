"""The DSP's library and the launcher, compiled here for a board, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hw_bridge.board.elf import check_library
from hw_bridge.hexagon.build import built, hash_of
from hw_bridge.hexagon.build import source_files as kernel_files
from hw_bridge.hexagon.errors import ToolError
from hw_bridge.hexagon.toolchain import target_flags

HERE = Path(__file__).parent
DSP, LAUNCHER = HERE / "dsp", HERE / "launcher"
ENTRY = "mandheling_skel_handle_invoke"
"""The library's one symbol; ``dsp/skel.c`` defines it."""
_RUNNER_ONLY = ("runner.c", "pipe.c", "system.c")
_BARE = ("skel.c", "bytes.c")
_GLIBC = "2.28"
"""Of the oldest system that the launcher should start on."""
SYSTEMS = ("linux", "android")


def _files(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix in (".c", ".h", ".ld"))
    if not found:
        raise ToolError(f"{folder} has no C sources; install the package again")
    return found


def library_flags(arch: str, bare: bool = False) -> tuple[str, ...]:
    """Give the compiler's words for a library of one Hexagon version.

    Nothing that the DSP would have to find: no C library, no small-data pointer, the old hash
    table, pages of 4 KiB.
    """
    kernels = kernel_files()[0].parent
    words = ("-fPIC", "-shared", "-G0", "-fvisibility=hidden", "-DMANDHELING_BOARD")
    unwinding = ("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-s")
    linker = ("--hash-style=sysv", "-Bsymbolic", "-z,max-page-size=4096", "-z,norelro")
    places = (f"-I{kernels}", f"-I{DSP}", "-T", str(DSP / "library.ld"))
    only = ("-DMANDHELING_BARE",) if bare else ()
    return (
        *target_flags(arch),
        *words,
        *unwinding,
        *(f"-Wl,{word}" for word in linker),
        *places,
        *only,
    )


def library_sources(bare: bool = False) -> list[Path]:
    """C files of a library: the kernels of the emulator's runner, with another system below."""
    files = [path for path in kernel_files() if path.name not in _RUNNER_ONLY] + _files(DSP)
    sources = [path for path in files if path.suffix == ".c"]
    return [path for path in sources if path.name in _BARE] if bare else sources


def library_path(arch: str, bare: bool = False) -> Path:
    """Library for DSPs from one Hexagon version on, built if the cache has none.

    Parameters
    ----------
    arch
        ``v66``, ``v68`` or ``v73``; later DSPs run it too.
    bare
        Without kernels and without anything that it would import: for a first try.

    Raises
    ------
    ToolError
        No compiler, an unknown version, or C that does not compile.
    ElfError
        What came out is nothing that a board should get.
    """
    # Words of one machine (folders of the sources) must not change a file's name on a board.
    flags = [word for word in library_flags(arch, bare) if not word.startswith(("-I", str(DSP)))]
    digest = hash_of(flags, [*kernel_files(), *_files(DSP)])
    name = f"libmandheling-{'bare-' if bare else ''}{arch}-{digest}.so"
    words = [
        *library_flags(arch, bare),
        f"-Wl,-soname={name}",
        *map(str, library_sources(bare)),
    ]
    path = built(name, f"the board's library for {arch}", words)
    check_library(path.read_bytes(), arch, ENTRY, imports=not bare)
    return path


def launcher_path(system: str) -> Path:
    """Launcher for the board's CPU (AArch64), built if the cache has none.

    Parameters
    ----------
    system
        ``linux`` (glibc 2.28 and later) or ``android``.

    Raises
    ------
    ToolError
        No compiler, an unknown system, or C that does not compile.
    """
    if system not in SYSTEMS:
        raise ToolError(f"system is {system!r}; allowed: {', '.join(SYSTEMS)}")
    sources = [str(path) for path in _files(LAUNCHER) if path.suffix == ".c"]
    shared = [DSP / "calls.h", kernel_files()[0].parent / "frame.h", LAUNCHER / "android/start.c"]
    flags = _linux_flags() if system == "linux" else _android_flags()
    digest = hash_of(flags, [*_files(LAUNCHER), *shared])
    name = f"mandheling-launcher-{system}-{digest}"
    libraries = ("-ldl",) if system == "linux" else _android_libraries()
    return built(name, f"the launcher for {system}", [*flags, *sources, *libraries])


def _linux_flags() -> tuple[str, ...]:
    return ("-target", f"aarch64-linux-gnu.{_GLIBC}", "-O2", "-s")


def _android_flags() -> tuple[str, ...]:
    """An executable for Android's linker, without Android's own headers and start files."""
    linker = ("--dynamic-linker=/system/bin/linker64", "-z,max-page-size=16384")
    words = ("-ffreestanding", "-nostdlib", "-fPIE", "-pie", "-O2", "-s")
    return ("-target", "aarch64-linux-none", *words, *(f"-Wl,{word}" for word in linker))


def _android_libraries() -> tuple[str, ...]:
    """The start file, and stand-ins that hold the names of the phone's own libraries."""
    return (str(LAUNCHER / "android" / "start.c"), *map(str, _stand_ins()))


def _stand_ins() -> Sequence[Path]:
    flags = ("-target", "aarch64-linux-none", "-ffreestanding", "-fno-builtin", "-nostdlib")
    made = []
    for library in ("libdl", "libc"):
        source = LAUNCHER / "android" / f"{library}.c"
        digest = hash_of(flags, [source])
        words = [*flags, "-shared", "-fPIC", f"-Wl,-soname={library}.so", str(source)]
        made.append(built(f"android-{library}-{digest}.so", f"{library} for linking", words))
    return made
