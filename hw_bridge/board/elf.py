"""What a shared object must be before a DSP is asked to load it; read here, without tools.

The rules come from libraries that boards are known to have loaded (the test libraries of the open
FastRPC repository; an open framework's on a Snapdragon 845): a loader on the DSP knows little, and
its refusal is one number for all causes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from hw_bridge.board.errors import BoardError

_HEADER, _SEGMENT = struct.Struct("<16s2H5I6H"), struct.Struct("<8I")
_DYNAMIC, _SYMBOL, _RELOCATION = struct.Struct("<2I"), struct.Struct("<3I2BH"), struct.Struct("<3I")
_HEXAGON, _SHARED = 164, 3
_LOAD, _DYNAMIC_SEGMENT, _TLS = 1, 2, 7
_NEEDED, _PLT_SIZE, _HASH, _STRINGS, _SYMBOLS, _RELA, _RELA_SIZE, _SONAME, _PLT = (
    (1, 2, 4, 5, 6, 7, 8, 14, 23)
)  # fmt: skip
RELOCATIONS = {33: "GLOB_DAT", 34: "JMP_SLOT", 35: "RELATIVE"}
"""Kinds that boards are known to resolve."""
PAGE = 0x1000
IMPORTS = frozenset(
    {
        "HAP_mmap",
        "HAP_munmap",
        "HAP_power_destroy_client",
        "HAP_power_get",
        "HAP_power_set",
        "compute_resource_query_VTCM",
        "qurt_hvx_get_units",
        "qurt_thread_create",
        "qurt_thread_get_id",
        "qurt_thread_get_priority",
        "qurt_thread_join",
    }
)
"""Symbols that a library may leave to the DSP's system."""
EMULATOR_ONLY = range(20, 23)
"""Control registers that an emulator invented; a DSP has none of them."""


class ElfError(BoardError):
    """A file is nothing that a board should get; the message names the rule."""


@dataclass(frozen=True, slots=True)
class Library:
    """What matters of a shared object.

    Attributes
    ----------
    arch
        Hexagon version, as ``v68``.
    soname
        Its own name.
    exports, imports
        Symbols that it defines, and that it leaves to the system.
    needed
        Libraries that it asks for.
    relocations
        Kinds that occur.
    aligned
        Whether all segments start on pages of 4 KiB.
    thread_local
        Whether it has thread-local storage.
    old_hash
        Whether it has the hash table that old loaders read.
    """

    arch: str
    soname: str
    exports: frozenset[str]
    imports: frozenset[str]
    needed: tuple[str, ...]
    relocations: frozenset[int]
    aligned: bool
    thread_local: bool
    old_hash: bool
    code: tuple[bytes, ...] = field(repr=False)


class _Reader:
    """Bytes by the addresses that they will have."""

    def __init__(self, data: bytes) -> None:
        head = _HEADER.unpack_from(data)
        self.data, self.type, self.machine, self.flags = data, head[1], head[2], head[7]
        if head[0][:6] != b"\x7fELF\x01\x01":
            raise ElfError("the library is no 32-bit little-endian ELF file")
        at, size, count = head[5], head[9], head[10]
        if size != _SEGMENT.size:
            raise ElfError(f"a program header has {size} bytes; expected {_SEGMENT.size}")
        self.segments = [_SEGMENT.unpack_from(data, at + size * i) for i in range(count)]
        self.dynamic: list[tuple[int, int]] = []
        for kind, offset, _, _, held, *_ in self.segments:
            if kind == _DYNAMIC_SEGMENT:
                self.dynamic = list(_DYNAMIC.iter_unpack(data[offset : offset + held // 8 * 8]))

    def at(self, address: int) -> int:
        """Place in the file of an address."""
        for kind, offset, start, _, held, *_ in self.segments:
            if kind == _LOAD and start <= address < start + held:
                return int(offset + address - start)
        raise ElfError(f"address {address:#x} lies in no segment")

    def tag(self, wanted: int) -> int:
        """Value of a dynamic entry; 0 if there is none."""
        return next((value for tag, value in self.dynamic if tag == wanted), 0)

    def text(self, place: int) -> str:
        """A name from the string table."""
        start = self.at(self.tag(_STRINGS)) + place
        return self.data[start : self.data.index(b"\0", start)].decode("ascii")


def read_library(data: bytes) -> Library:
    """Read what matters of a Hexagon shared object.

    Raises
    ------
    ElfError
        It is none.
    """
    try:
        return _read(_Reader(data))
    except (struct.error, ValueError, IndexError) as error:
        if isinstance(error, ElfError):
            raise
        raise ElfError(f"the library's tables lead out of the file ({error})") from None


def _read(elf: _Reader) -> Library:
    if elf.machine != _HEXAGON or elf.type != _SHARED:
        raise ElfError(
            f"the file is of machine {elf.machine} and type {elf.type}; expected {_HEXAGON}"
            f" (Hexagon) and {_SHARED} (shared object)"
        )
    loads = [s for s in elf.segments if s[0] == _LOAD]
    names: dict[bool, set[str]] = {True: set(), False: set()}
    if elf.tag(_HASH):
        _, count = struct.unpack_from("<2I", elf.data, elf.at(elf.tag(_HASH)))
        start = elf.at(elf.tag(_SYMBOLS))
        for i in range(1, count):
            name, _, _, _, _, section = _SYMBOL.unpack_from(elf.data, start + _SYMBOL.size * i)
            names[section != 0].add(elf.text(name))
    kinds = set()
    for table, size in ((_RELA, _RELA_SIZE), (_PLT, _PLT_SIZE)):
        for i in range(elf.tag(size) // _RELOCATION.size):
            place = elf.at(elf.tag(table)) + _RELOCATION.size * i
            kinds.add(_RELOCATION.unpack_from(elf.data, place)[1] & 0xFF)
    return Library(
        arch=f"v{elf.flags & 0xFFFF:x}",
        soname=elf.text(elf.tag(_SONAME)) if elf.tag(_SONAME) else "",
        exports=frozenset(names[True]),
        imports=frozenset(names[False]),
        needed=tuple(elf.text(value) for tag, value in elf.dynamic if tag == _NEEDED),
        relocations=frozenset(kinds),
        aligned=all(s[7] == PAGE and (s[1] - s[2]) % PAGE == 0 for s in loads),
        thread_local=any(s[0] == _TLS for s in elf.segments),
        old_hash=bool(elf.tag(_HASH)),
        code=tuple(elf.data[s[1] : s[1] + s[4]] for s in loads if s[6] & 1),
    )


def emulator_registers(code: bytes) -> set[int]:
    """Control registers of :data:`EMULATOR_ONLY` that code reads.

    A read is one word: ``0x6a`` for one register, ``0x68`` for a pair, the number in bits 20 to 16,
    two bits of the packet in 15 and 14, the target in 4 to 0, all others 0.
    """
    found = set()
    for (word,) in struct.iter_unpack("<I", code[: len(code) // 4 * 4]):
        number = word >> 16 & 31
        top = word & 0xFFE03FE0
        if top == 0x6A000000 and number in EMULATOR_ONLY:
            found.add(number)
        if top == 0x68000000:
            found |= {number, number + 1} & set(EMULATOR_ONLY)
    return found


def check_library(data: bytes, arch: str, entry: str, imports: bool = True) -> Library:
    """Refuse a library that breaks a rule.

    Parameters
    ----------
    data
        The file.
    arch
        Hexagon version that it is for.
    entry
        The symbol that FastRPC calls.
    imports
        Whether it may leave :data:`IMPORTS` to the system.

    Raises
    ------
    ElfError
        Which rule, and what was found.
    """
    library = read_library(data)
    unknown = library.imports - (IMPORTS if imports else frozenset())
    kinds = library.relocations - set(RELOCATIONS)
    invented = set().union(*map(emulator_registers, library.code))
    rules = [
        (library.arch == arch, f"its version is {library.arch}; expected {arch}"),
        (library.old_hash, "it has no DT_HASH table; link with --hash-style=sysv"),
        (not library.needed, f"it needs {', '.join(library.needed)}; allowed: nothing"),
        (not library.thread_local, "it has thread-local storage"),
        (entry in library.exports, f"it does not export {entry}"),
        (not unknown, f"it imports {', '.join(sorted(unknown))}; allowed: see IMPORTS"),
        (not kinds, f"it has relocations of kind {sorted(kinds)}; allowed: {sorted(RELOCATIONS)}"),
        (library.aligned, f"a segment is not aligned to {PAGE:#x}"),
        (not invented, f"it reads c{', c'.join(map(str, sorted(invented)))}, which no DSP has"),
    ]
    for holds, message in rules:
        if not holds:
            raise ElfError(f"the library for the DSP was not sent: {message}")
    return library
