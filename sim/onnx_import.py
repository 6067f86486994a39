"""Reads a forward classifier from an ONNX file.

The file's node names become layer names. Values of weights are not read, only their shapes;
what ends the network after the logits (a softmax) is dropped, as training brings its own loss.
What cannot be represented is refused with the node, the attribute and the value, never guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cost_models.reading import read_bytes
from sim.model import INPUT, ForwardModel, check_batch
from sim.onnx_nodes import HANDLERS
from sim.onnx_reader import OnnxError, Reader, title

__all__ = ["OnnxError", "import_onnx"]

OPSET_DOMAINS: Final = frozenset({"", "ai.onnx"})
MAX_FILE_BYTES: Final = 2**31 - 1
"""Protobuf itself ends here; larger models keep their weights in files of their own."""


def import_onnx(path: str | Path, batch: int | None = None) -> ForwardModel:
    """The classifier in the ONNX file at ``path``.

    Parameters
    ----------
    path
        A ``.onnx`` file (protobuf). Weights in external files need not be present.
    batch
        Samples per step; required where the file leaves the batch open, else the file's own.

    Returns
    -------
    ForwardModel
        Named after the file; ``source`` says which file it came from.

    Raises
    ------
    OnnxError
        When the ``onnx`` package is missing, the file cannot be read, or it holds anything that
        this sandbox does not represent.

    Notes
    -----
    Read: Conv, Gemm, MatMul with a constant (and a bias Add), Relu, Clip(0, 6), MaxPool,
    AveragePool, GlobalAveragePool, BatchNormalization, Add, Concat on channels, Flatten, Reshape
    that flattens, Dropout, Identity, Constant, Pad by nothing, and Softmax or LogSoftmax at
    the end.
    """
    try:
        import onnx
    except ImportError:
        raise OnnxError(
            "the onnx package is not installed; run: pip install 'mandheling-sandbox[onnx]'"
        ) from None
    if batch is not None:
        check_batch(batch)
    path = Path(path)
    raw = read_bytes(path, MAX_FILE_BYTES, OnnxError)
    try:
        # DecodeError of protobuf is an Exception of its own, in a package that onnx brings.
        proto = onnx.load_model_from_string(raw, format="protobuf")
    except Exception as error:
        raise OnnxError(
            f"{path}: not a readable ONNX file ({_line(error)}); export the model again"
        ) from error
    return _read(Reader(proto.graph, path, batch, onnx))


def _read(reader: Reader) -> ForwardModel:
    """Import every node, in the topological order that ONNX guarantees."""
    for node in reader.graph.node:
        reader.check_outputs(node)
        handler = HANDLERS.get(node.op_type)
        if handler is None or node.domain not in OPSET_DOMAINS:
            operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise reader.refuse(
                node, "operator", operator, ", ".join(sorted(HANDLERS)), "replace it"
            )
        try:
            handler(reader, node)
        except OnnxError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            # An OperatorError or ModelError says what is wrong; the others mean a broken node.
            raise OnnxError(
                f"{reader.path}: node {title(node)}: cannot be read: {_line(error)}; "
                f"check the file with onnx.checker"
            ) from error
    last = reader.layer_of.get(reader.graph.output[0].name, INPUT)
    if last == INPUT:
        raise OnnxError(f"{reader.path}: no layer makes the output; export the whole classifier")
    return reader.builder.build(last)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
