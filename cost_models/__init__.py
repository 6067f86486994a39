"""Floor 2: devices, kernel libraries, and what a kernel costs on a unit, with sources."""

from cost_models.cost import Cost, KernelCall
from cost_models.device import Device, device_names, load_device
from cost_models.errors import DescriptionError
from cost_models.library import Library, library_names, load_library
from cost_models.model import CostModel
from cost_models.quantity import Quantity

__all__ = [
    "Cost",
    "CostModel",
    "DescriptionError",
    "Device",
    "KernelCall",
    "Library",
    "Quantity",
    "device_names",
    "library_names",
    "load_device",
    "load_library",
]
