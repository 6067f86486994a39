"""What goes wrong between the CPU process and the accelerator process."""

from __future__ import annotations

from hw_bridge.backends import BackendError


class HostError(BackendError):
    """A plan cannot be run on this machine, or one of the two processes failed."""


class GoneError(HostError):
    """The other process has ended."""
