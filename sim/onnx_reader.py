"""An ONNX graph while it is read: constants, layers so far, and how errors name a node."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kernels.operators import Shape
from sim.model import INPUT, RESERVED_NAMES, ModelBuilder, ModelError


class OnnxError(ModelError):
    """An ONNX file cannot be imported; names the node, the attribute, its value and a remedy."""


def title(node: Any) -> str:
    """How messages call a node: its name, or its output if it has none, and its operator."""
    made = next(iter(node.output), "without output")
    return f"{node.name or made!r} ({node.op_type})"


class Reader:
    """One ONNX graph while it is read: its constants, and the model as far as it is built."""

    def __init__(self, graph: Any, path: Path, batch: int | None, onnx: Any) -> None:
        self.onnx, self.graph, self.path = onnx, graph, path
        self.constants: dict[str, Any] = {item.name: item for item in graph.initializer}
        image = [item for item in graph.input if item.name not in self.constants]
        if len(image) != 1 or len(graph.output) != 1:
            raise OnnxError(
                f"{path}: {len(image)} inputs and {len(graph.output)} outputs; allowed: one of "
                f"each; export only the classifier"
            )
        self.batches = {0, -1, *self.file_batch(image[0])}
        """What a reshape may say of the batch axis: copy it, infer it, or the file's own size."""
        shape = self.input_shape(image[0], batch)
        name, stem = (t if t.isprintable() else ascii(t)[1:-1] for t in (path.name, path.stem))
        self.builder = ModelBuilder(stem, shape, f"ONNX file {name}")
        self.layer_of: dict[str, str] = {image[0].name: INPUT}
        self.readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.made: set[str] = {image[0].name, *self.constants}
        self.names: set[str] = set(RESERVED_NAMES)
        self.used_weights: set[str] = set()
        self.folded_biases: set[str] = set()

    def file_batch(self, value: Any) -> list[int]:
        """The batch that the file fixes, if it does."""
        return [dim.dim_value for dim in value.type.tensor_type.shape.dim[:1] if dim.dim_value]

    def input_shape(self, value: Any, batch: int | None) -> Shape:
        """Shape of the images, with ``batch`` in place of the file's own where it is given."""
        sizes: list[int] = []
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            size = dim.dim_value if dim.HasField("dim_value") else 0
            if axis == 0 and batch is not None:
                size = batch
            if size < 1:
                remedy = "pass batch=" if axis == 0 else "export with fixed sizes"
                raise OnnxError(
                    f"{self.path}: input {value.name!r} has no fixed size on axis {axis} "
                    f"({dim.dim_param or size!r}); allowed: positive sizes; {remedy}"
                )
            sizes.append(size)
        if not sizes:
            raise OnnxError(f"{self.path}: input {value.name!r} has no shape; export with shapes")
        return tuple(sizes)

    def check_outputs(self, node: Any) -> None:
        """Refuse a node that makes nothing, or a tensor that is made already."""
        if not node.output or not node.output[0]:
            raise self.refuse(node, "outputs", list(node.output), "one or more", "name its output")
        for name in filter(None, node.output):
            if name in self.made:
                raise self.refuse(
                    node, "output", repr(name), "a name that nothing else makes", "rename it"
                )
            self.made.add(name)

    def refuse(self, node: Any, field: str, value: object, allowed: str, remedy: str) -> OnnxError:
        """The error about one field of a node, for the caller to raise."""
        return OnnxError(
            f"{self.path}: node {title(node)}: {field} = {value}; allowed: {allowed}; {remedy}"
        )

    def attributes(self, node: Any) -> dict[str, Any]:
        """Attribute values by name."""
        return {item.name: self.onnx.helper.get_attribute_value(item) for item in node.attribute}

    def name(self, node: Any) -> str:
        """A unique layer name made from the node's own."""
        stem = re.sub(r"[^A-Za-z0-9_/-]", "_", node.name or f"{node.op_type}_{node.output[0]}")
        name, count = stem, 1
        while name in self.names:
            count += 1
            name = f"{stem}_{count}"
        self.names.add(name)
        return name

    def source(self, node: Any, index: int = 0) -> str:
        """The layer whose output is input ``index`` of ``node``."""
        tensor = node.input[index]
        if tensor not in self.layer_of:
            raise self.refuse(
                node, f"input {index}", repr(tensor), "an activation", "fold constants first"
            )
        return self.layer_of[tensor]

    def weight(self, node: Any, index: int) -> Shape:
        """Shape of the constant that is input ``index``, which no other node may train."""
        tensor = node.input[index]
        if tensor not in self.constants:
            raise self.refuse(
                node, f"input {index}", repr(tensor), "a constant", "store weights as initializers"
            )
        if tensor in self.used_weights:
            raise self.refuse(
                node, f"input {index}", repr(tensor), "weights of its own", "copy shared weights"
            )
        self.used_weights.add(tensor)
        return tuple(self.constants[tensor].dims)

    def values(self, node: Any, index: int) -> list[float] | None:
        """Flat values of an optional constant input; None where it is absent."""
        if len(node.input) <= index or not node.input[index]:
            return None
        tensor = self.constants.get(node.input[index])
        if tensor is None or self.onnx.external_data_helper.uses_external_data(tensor):
            raise self.refuse(
                node, f"input {index}", repr(node.input[index]), "a constant", "store it inline"
            )
        found: list[float] = self.onnx.numpy_helper.to_array(tensor).ravel().tolist()
        return found

    def give(self, node: Any, layer: str) -> None:
        """Record that ``layer`` makes the node's output; refuse a second one that is read."""
        for extra in node.output[1:]:
            if extra and (extra in self.readers or extra == self.graph.output[0].name):
                raise self.refuse(node, "output", repr(extra), "only the first", "do not read it")
        self.layer_of[node.output[0]] = layer
