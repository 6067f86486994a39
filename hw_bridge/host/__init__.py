"""A plan on this machine: a CPU process and an accelerator process, and what each row took."""

from hw_bridge.host.backend import HostBackend
from hw_bridge.host.errors import HostError
from hw_bridge.host.machine import host_fingerprint
from hw_bridge.host.session import HostSession

__all__ = ["HostBackend", "HostError", "HostSession", "host_fingerprint"]
