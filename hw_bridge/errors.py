"""The base of what goes wrong between this process and what runs kernels for it."""

from __future__ import annotations


class BridgeError(ValueError):
    """A refusal of a backend, or of the way to it; the message says what to do."""
