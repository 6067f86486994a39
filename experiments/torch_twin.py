"""The same network in PyTorch, for comparisons side by side; PyTorch is in no lock.

Where it is missing: install PyTorch's CPU build, or any PyTorch of your own, into the environment
that runs the benchmark.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.pool import AvgPool2d, MaxPool2d
from sim.model import ForwardModel, Layer

HINT = "PyTorch is not importable here: install its CPU build to compare with it"


def has_torch() -> bool:
    """Whether PyTorch can be imported."""
    return find_spec("torch") is not None


def torch_twin(model: ForwardModel) -> Any:
    """Return a ``torch.nn.Module`` that computes the logits of ``model``.

    Parameters
    ----------
    model
        Of the operators that the zoo uses; weights are PyTorch's own initial ones.
    """
    import torch
    from torch import nn

    class Twin(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleDict({_key(layer): _module(layer) for layer in model.layers})

        def forward(self, images: Any) -> Any:
            values = {"input": images}
            for layer in model.layers:
                inputs = [values[name] for name in layer.inputs]
                if layer.op.kind == "add":
                    value = inputs[0]
                    for other in inputs[1:]:
                        value = value + other
                elif layer.op.kind == "concat":
                    value = torch.cat(inputs, 1)
                else:
                    value = self.parts[_key(layer)](*inputs)
                values[layer.name] = value
            return values[model.layers[-1].name]

    return Twin()


def _key(layer: Layer) -> str:
    return layer.name.replace(".", "_")


def _module(layer: Layer) -> Any:
    from torch import nn

    op = layer.op
    if isinstance(op, Conv2d):
        pad = (op.pad_h, op.pad_w)
        return nn.Conv2d(
            op.c_in, op.c_out, (op.k_h, op.k_w), op.stride, pad, op.dilation, op.groups, op.bias
        )
    if isinstance(op, Linear):
        return nn.Linear(op.c_in, op.c_out, op.bias)
    if isinstance(op, MaxPool2d | AvgPool2d):
        kind = nn.MaxPool2d if isinstance(op, MaxPool2d) else nn.AvgPool2d
        window, pad = (op.k_h, op.k_w), (op.pad_h, op.pad_w)
        return kind(window, op.stride, pad, ceil_mode=op.ceil_mode)
    plain = {
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "dropout": nn.Dropout,
        "flatten": nn.Flatten,
        "add": nn.Identity,
        "concat": nn.Identity,
    }
    if op.kind == "batch_norm":
        return nn.BatchNorm2d(op.inputs[0][1])
    if op.kind == "global_avg_pool":
        return nn.AdaptiveAvgPool2d(1)
    return plain[op.kind]()
