"""What a SavedModel says of its signatures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TensorInfo:
    """One input or output.

    Attributes:
        name: Of the tensor in the graph, such as ``serving_default_text:0``.
        dtype: As in TensorFlow's protos, such as ``DT_STRING``.
        shape: Sizes, -1 for any; None if not even their number is known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs by the names that requests use."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    method_name: str


def read_signatures(directory: Path) -> dict[str, Signature]:
    """Returns every signature of a SavedModel by name, with ``__saved_model_init_op``, which takes no input.

    Args:
        directory: Holds a ``saved_model.pb`` that ``components.push.model_graph`` has nothing against.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    return describe_signatures(model.meta_graphs[0].signature_def)


def describe_signatures(signatures: Mapping[str, Any]) -> dict[str, Signature]:
    """Returns what ``SignatureDef`` messages say, by name."""
    return {
        name: Signature(_describe_tensors(item.inputs), _describe_tensors(item.outputs), item.method_name)
        for name, item in sorted(signatures.items())
    }


def _describe_tensors(tensors: Mapping[str, Any]) -> dict[str, TensorInfo]:
    from tensorflow.core.framework import types_pb2

    found = {}
    for name, tensor in sorted(tensors.items()):
        shape = tensor.tensor_shape
        sizes = None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)
        found[name] = TensorInfo(tensor.name, types_pb2.DataType.Name(tensor.dtype), sizes)
    return found
