"""What HVX kernels cost in packets: their loops, and laws with a coefficient per loop."""

from cost_models.packets.model import PacketModel, Packets
from cost_models.packets.shapes import PacketShape

__all__ = ["PacketModel", "PacketShape", "Packets"]
