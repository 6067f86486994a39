"""What the names of models, devices and plans mean, or files given in their place.

Only light imports at the top: commands know the limits here before NumPy would be there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cost_models.device import Device
    from sim.graph import TrainingGraph
    from sim.policies.build import Built

BATCH_LIMIT = 4096
"""Largest batch that is accepted: the divisors of a batch are tried one by one."""
IMAGE_LIMIT = 1024
SEED_LIMIT = 2**63 - 1


class LoadingError(ValueError):
    """A model cannot be loaded as asked for; the message names the option, value and remedy."""


def load_graph(
    model: str,
    batch: int,
    image: int | None = None,
    *,
    classes: int | None = None,
    last: int | None = None,
) -> TrainingGraph:
    """Return the training graph of a model by name, or of an ``.onnx`` file.

    ``classes`` is for models by name; ``last``: how many of the last convolutions are trained.

    Raises
    ------
    LoadingError
        An image size is given for an ``.onnx`` file.
    ModelError, OnnxError
        The model is unknown, or its file cannot be used.
    """
    from sim.autodiff import before_last, training_graph
    from sim.onnx_import import import_onnx
    from sim.zoo import load_model

    if not model.endswith(".onnx"):
        forward = load_model(model, batch, image, classes)
    elif image is not None:
        raise LoadingError(f"--image {image}: {model} fixes its own image size; leave --image out")
    else:
        forward = import_onnx(Path(model), batch)
    return training_graph(forward, () if last is None else before_last(forward, last))


def load_device(name: str) -> Device:
    """Return a device by name, or from a ``.yaml`` file."""
    from cost_models.device import load_device as load

    return load(name)


def load_built(plan: str, graph: TrainingGraph, device: Device) -> Built:
    """Return a plan by name with how its techniques fared, or one from a ``.json`` file.

    A plan from a file is checked against the graph and the device.
    """
    from sim.lowering import validate
    from sim.plan import Plan
    from sim.policies.build import Built, build

    if not is_plan_file(plan):
        return build(plan, graph, device)
    read = Plan.read(Path(plan))
    validate(graph, read, device)
    return Built(read, ())


def is_plan_file(plan: str) -> bool:
    """Whether the name of a plan means a file."""
    return plan.endswith(".json") or os.sep in plan
