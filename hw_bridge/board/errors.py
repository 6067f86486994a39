"""What goes wrong on the way to a board, and what FastRPC's numbers mean.

Meanings of the numbers: the open headers of FastRPC (``AEEStdErr.h``), and what users of boards
reported with each. A number from the DSP's side is the host's plus ``0x80000400``.
"""

from __future__ import annotations

from hw_bridge.hexagon.errors import HexagonError

DSP_SIDE = 0x80000400
_SHELL = (
    "the file fastrpc_shell_unsigned_3 is missing, or is not of the same build as the firmware"
    " cdsp.mbn; install the one that came with it"
)
_SIGNED = (
    "the library was loaded into a signed process; the firmware must accept unsigned modules, and"
    " no other program may have opened the DSP in this process before"
)
MEANINGS: dict[int, tuple[str, str]] = {
    0x80000600: ("the host's side of FastRPC failed", _SHELL),
    0x80000406: (
        "the DSP could not load the library",
        "read the reason in the DSP's log (journalctl or logcat, lines with 'dlopen'); a symbol"
        " that the firmware lacks, a library for a later Hexagon version, or a firmware that asks"
        " for a CRC section",
    ),
    0x8000040D: (
        "the DSP's process is in no state for this call",
        "it died or was set up twice; run the command again",
    ),
    0x80000414: ("this firmware does not offer the call", "leave the option out"),
    0x14: ("this library does not offer the call", "leave the option out"),
    0x8000040E: (
        "the DSP refused the counts or lengths of a call",
        "launcher and library are of different versions; run the command again, which installs"
        " both",
    ),
    0x0E: ("the host refused a parameter", "its FastRPC library is older than what is needed"),
    0x80000416: ("the DSP could not start a process", _SHELL),
    0x8000054F: ("the DSP could not start a process", _SHELL),
    0x80000481: ("the DSP refused an unsigned module", _SIGNED),
    0x80000482: ("the DSP refused the library's hash", _SIGNED),
    0x80000438: ("the DSP refused the library's signature", _SIGNED),
    0x80000442: ("the library has no such entry", "another file of the same name was loaded"),
    0x8000043E: ("the DSP found no such module", "another file of the same name was loaded"),
    0x8000042C: ("the DSP does not know the handle", "run the command again"),
    0x72: (
        "the connection to the DSP was refused",
        "no device node that this user may open, or an app that may not; see the nodes above",
    ),
    0x80000472: (
        "the connection to the DSP was refused",
        "no device node that this user may open, or an app that may not; see the nodes above",
    ),
    0x4E: ("this user may not open the DSP", "give it read and write on the device nodes"),
    0x27: (
        "there is no such file or DSP",
        "is cdsp running? see /sys/class/remoteproc/*/state",
    ),
    0x2C: ("the handle is invalid", "run the command again"),
    0x2E: ("the call was interrupted", "run the command again"),
    0x0C: ("the call took too long", "the DSP's process hangs; run the command again"),
    104: (
        "the DSP's process died",
        "a crash of the library, or the whole DSP restarted; run the command again: samples taken"
        " so far are kept",
    ),
    0x80000594: ("stub and library are of different versions", "remove the folder on the board"),
    0x200: ("the host's side of FastRPC failed", _SHELL),
}
"""What each number means, and what to do."""


class BoardError(HexagonError):
    """The way to a board is blocked; the message says where, and what to do."""


class RpcError(BoardError):
    """A FastRPC call failed.

    Attributes
    ----------
    call, code
        Which, and its number as 32 bits.
    """

    def __init__(self, call: str, code: int) -> None:
        meaning, remedy = meaning_of(code)
        super().__init__(f"{call} gave {code:#010x}: {meaning}; {remedy}")
        self.call = call
        self.code = code


def meaning_of(code: int) -> tuple[str, str]:
    """Give a number's meaning and remedy.

    Examples
    --------
    >>> meaning_of(104)[0]
    "the DSP's process died"
    """
    code &= 0xFFFFFFFF
    if code in MEANINGS:
        return MEANINGS[code]
    if DSP_SIDE <= code < DSP_SIDE + 0x400 and code - DSP_SIDE in MEANINGS:
        meaning, remedy = MEANINGS[code - DSP_SIDE]
        return f"on the DSP's side: {meaning}", remedy
    if code >= 0xFFFFF000:
        return f"the system's error {(1 << 32) - code}", "see `errno` of that number"
    return "an unknown error", "look the number up in AEEStdErr.h of your FastRPC library"
