"""PyTorch's copy of a network computes what ours does; collected where PyTorch is importable.

PyTorch is in no lock, so the ordinary environments collect nothing here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments.torch_twin import has_torch, torch_twin
from kernels.linear import Linear
from sim import build_plan, load_device, load_model, training_graph
from sim.model import ForwardModel
from sim.numeric import TrainingSession

BATCH = 4
MODELS = ("lenet", "vgg11", "resnet18")


def before_flatten(model: ForwardModel, name: str) -> tuple[int, ...]:
    """Shape of the map that the flatten above a linear layer reads, or ()."""
    layers = {layer.name: layer for layer in model.layers}
    (above,) = layers[name].inputs
    if layers[above].op.kind != "flatten":
        return ()
    return tuple(layers[above].op.inputs[0])


def load_ours(net: Any, model: ForwardModel, session: TrainingSession) -> None:
    """Give the twin our FP32 weights: channels first, and so the inputs of a flattened layer."""
    import torch  # type: ignore[import-not-found]

    state = net.state_dict()
    floats = session.executor.parameters.floats()
    given = {}
    for layer in model.layers:
        for part in ("weight", "bias"):
            if (array := floats.get(f"{layer.name}.{part}")) is None:
                continue
            if part == "weight" and array.ndim == 4:
                array = array.transpose(0, 3, 1, 2)
            elif part == "weight" and isinstance(layer.op, Linear):
                shape = before_flatten(model, layer.name)
                if shape:
                    _, c, h, w = shape
                    array = array.reshape(-1, h, w, c).transpose(0, 3, 1, 2).reshape(array.shape)
            key = f"parts.{layer.name.replace('.', '_')}.{part}"
            given[key] = torch.from_numpy(np.ascontiguousarray(array))
    assert given.keys() == {name for name, _ in net.named_parameters()}
    net.load_state_dict(state | given)


if has_torch():

    @pytest.mark.accept
    @pytest.mark.parametrize("name", MODELS)
    def test_the_twin_gives_our_logits(name: str) -> None:
        """After a step at rate 0 in both, so that running statistics are those of images."""
        import torch

        model = load_model(name, batch=BATCH)
        graph = training_graph(model)
        device = load_device("snapdragon-865")
        plan = build_plan("mnn-fp32", graph, device)
        session = TrainingSession(graph, plan, device, engine="none", seed=3)
        _, c, h, w = model.input_shape
        images = np.random.default_rng(0).standard_normal((BATCH, h, w, c)).astype(np.float32)
        net = torch_twin(model)
        load_ours(net, model, session)
        session.step(images, np.zeros(BATCH, np.int64), rate_q24=0)
        with torch.no_grad():
            shown = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
            net.train()(shown)
            theirs = net.eval()(shown).numpy()
        ours = session.executor.predict(images)
        assert ours.shape == theirs.shape == (BATCH, model.classes)
        assert np.abs(ours).max() > 0.01
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4 * np.abs(theirs).max())
