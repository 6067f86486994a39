"""What goes wrong between this process and a Hexagon binary."""

from __future__ import annotations

from hw_bridge.errors import BridgeError


class HexagonError(BridgeError):
    """Base of this package's refusals; the message says what is allowed, or what to do."""


class ToolError(HexagonError):
    """A compiler or emulator that is missing or fails; the message has the line to install it."""


class FrameError(HexagonError):
    """Bytes that are no answer of the protocol: the runner's state is unknown."""


class RunnerError(HexagonError):
    """The runner crashed, hung or could not be started; its last words are in the message.

    Attributes
    ----------
    code
        Its exit code; None where there is none.
    said
        Its last words.
    """

    def __init__(self, message: str, code: int | None = None, said: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.said = said


class KernelError(HexagonError):
    """The runner refused a call, and runs on.

    Attributes
    ----------
    status
        One of :class:`hw_bridge.hexagon.protocol.Status`.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
