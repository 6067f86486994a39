"""What it takes to hand work to the DSP, as a device describes it: calls and preparation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, StrictInt, model_validator

from cost_models.description import SizeLatency, TailQuantiles
from cost_models.quantity import ByteRate, Microseconds, Part

RpcMode = Literal["none", "adaptive", "pm_qos", "poll"]


class RpcLatency(Part):
    """One quality-of-service mode: an empty call, what buffers add, and the rare delays.

    ``per_mib`` is piecewise linear in the bytes passed; beyond its last row the last slope
    goes on. ``tail`` holds quantiles of the extra latency of a call.
    """

    null_us: Microseconds
    per_mib: SizeLatency
    tail: TailQuantiles


class FastRpc(Part):
    """Calls from CPU to DSP; ``channels`` calls can be under way at once."""

    modes: dict[RpcMode, RpcLatency] = Field(min_length=1)
    default_mode: RpcMode
    channels: StrictInt = Field(ge=1, le=16)

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default_mode not in self.modes:
            raise ValueError(
                f"default_mode {self.default_mode!r} is not among the modes {sorted(self.modes)}; "
                "describe it or choose another"
            )
        return self


class Prepare(Part):
    """Building and preparing a DSP subgraph, once; re-packing its weights, at each execution."""

    build_us_per_node: Microseconds
    prepare_us_fixed: Microseconds
    prepare_us_per_mib_weights: Microseconds
    repack_rate: ByteRate

    def _parts_us(self, nodes: int, weight_bytes: int) -> dict[str, float]:
        return {
            "prepare_us_fixed": self.prepare_us_fixed.value,
            "build_us_per_node": self.build_us_per_node.value * nodes,
            "prepare_us_per_mib_weights": self.prepare_us_per_mib_weights.value
            * weight_bytes
            / 2**20,
        }

    def latency_ns(self, nodes: int, weight_bytes: int) -> int:
        """Return the time to build and prepare a subgraph once, nanoseconds."""
        parts = self._parts_us(nodes, weight_bytes)
        fixed, build = parts["prepare_us_fixed"], parts["build_us_per_node"]
        # Not sum(): newer Pythons compensate it, and sim.encoding adds the same way.
        return round((fixed + build + parts["prepare_us_per_mib_weights"]) * 1000)

    def largest(self, nodes: int, weight_bytes: int) -> str:
        """Return the name of the constant that most of :meth:`latency_ns` rests on."""
        parts = self._parts_us(nodes, weight_bytes)
        return max(parts, key=lambda name: parts[name])
