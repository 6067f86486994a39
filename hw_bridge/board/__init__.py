"""The way to a Snapdragon board: a library for its DSP, a launcher, transports, samples."""

from hw_bridge.board.board import Board
from hw_bridge.board.errors import BoardError, RpcError
from hw_bridge.board.launcher import Launcher
from hw_bridge.board.transports import TRANSPORTS, Transport, transport_of

__all__ = [
    "TRANSPORTS",
    "Board",
    "BoardError",
    "Launcher",
    "RpcError",
    "Transport",
    "transport_of",
]
