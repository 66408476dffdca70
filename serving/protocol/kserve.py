"""KServe's Open Inference Protocol, version 2, as pure functions: metadata and infer.

One input, ``text`` of BYTES and shape [N]; the binary extension is not offered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from components import features
from components.features import OUTPUTS
from serving.errors import RequestError
from serving.model.loaded import Answers
from serving.model.signatures import Signature, TensorInfo
from serving.protocol.json_body import invalid, read_object, shorten, show, type_name
from serving.protocol.model_inputs import Limits, check_count, encode_inputs
from serving.protocol.replies import finite

_DATATYPES = {"DT_STRING": "BYTES", "DT_INT64": "INT64", "DT_FLOAT": "FP32"}
_TEXT_DATATYPE = "BYTES"


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What is asked of a model's default signature.

    Attributes:
        inputs: Texts.
        outputs: Names of what to answer with, in the order asked for.
        id: The client's own, which the reply repeats.
    """

    inputs: list[bytes]
    outputs: tuple[str, ...]
    id: str | None


def parse_infer(body: bytes, limits: Limits) -> InferRequest:
    """Returns what the body of an ``infer`` asks.

    Args:
        body: As sent.
        limits: What it may bring.

    Raises:
        RequestError: ``INVALID_ARGUMENT``, or ``TOO_LARGE`` for the body as a whole.
    """
    document = read_object(body, limits.body_bytes, limits.depth, limits.containers)
    number = document.get("id")
    if "id" in document and type(number) is not str:
        raise _wrong("id", number, "a string")
    _refuse_parameters(document, "parameters")
    outputs = _parse_outputs(document)
    inputs = document.get("inputs")
    if type(inputs) is not list or len(inputs) != 1 or type(inputs[0]) is not dict:
        raise _wrong("inputs", inputs, f"a list of one object, the input {features.TEXT}")
    return InferRequest(_parse_texts(inputs[0], limits), outputs, number)


def render_infer(request: InferRequest, answers: Answers, model: str, version: int) -> bytes:
    """Returns the reply to an ``infer``.

    Args:
        request: What was asked.
        answers: One per text.
        model: Name of the model.
        version: The version that answered.

    Raises:
        RequestError: ``INTERNAL``, where the model gave a probability that is not a number.
    """
    probabilities = finite(answers.probabilities)
    rows, columns = probabilities.shape
    found = {
        features.OUTPUT_LABEL: ([rows], _TEXT_DATATYPE, list(answers.labels)),
        features.OUTPUT_LABEL_ID: ([rows], "INT64", answers.label_ids.tolist()),
        # Rows one after the other, as every shape may be written.
        features.OUTPUT_PROBABILITIES: ([rows, columns], "FP32", probabilities.ravel()),
    }
    outputs = [
        dict(zip(("name", "shape", "datatype", "data"), (name, *found[name]), strict=True)) for name in request.outputs
    ]
    given = {} if request.id is None else {"id": request.id}
    reply = {"model_name": model, "model_version": str(version), **given, "outputs": outputs}
    return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)


def render_model_metadata(model: str, versions: list[int], signature: Signature) -> bytes:
    """Returns what ``/v2/models/<model>`` says.

    Args:
        model: Name of the model.
        versions: Those that answer.
        signature: The default one of the version that is asked for.
    """
    return orjson.dumps(
        {
            "name": model,
            "versions": [str(version) for version in sorted(versions)],
            "platform": "tensorflow_savedmodel",
            "inputs": _tensors(signature.inputs),
            "outputs": _tensors(signature.outputs),
        }
    )


def _parse_texts(tensor: dict[str, Any], limits: Limits) -> list[bytes]:
    if tensor.get("name") != features.TEXT:
        raise _wrong("name of the input", tensor.get("name"), f'"{features.TEXT}"')
    if tensor.get("datatype") != _TEXT_DATATYPE:
        raise _wrong(f"datatype of {features.TEXT}", tensor.get("datatype"), f'"{_TEXT_DATATYPE}"')
    _refuse_parameters(tensor, f"parameters of {features.TEXT}")
    data = tensor.get("data")
    if type(data) is not list or not data:
        raise _wrong(f"data of {features.TEXT}", data, "a list of strings")
    shape = tensor.get("shape")
    # JSON has one kind of number, so that 1.0 will do; true is none.
    if shape != [len(data)] or type(shape[0]) is bool:
        raise _wrong(f"shape of {features.TEXT}", shape, f"[{len(data)}], as many as its data")
    check_count(len(data), limits)
    for position, value in enumerate(data):
        if type(value) is not str:
            raise _wrong(f"data of {features.TEXT}, item {position},", value, "a string")
    return encode_inputs(data, features.TEXT, limits)


def _parse_outputs(document: dict[str, Any]) -> tuple[str, ...]:
    if "outputs" not in document:
        return OUTPUTS
    asked = document["outputs"]
    # No more than there are: a long list would make a small request a large reply.
    if type(asked) is not list or len(asked) > len(OUTPUTS) or not all(type(output) is dict for output in asked):
        raise _wrong("outputs", asked, f"a list of up to {len(OUTPUTS)} objects")
    for output in asked:
        if output.get("name") not in OUTPUTS:
            raise _wrong("name of an output", output.get("name"), f"one of {', '.join(OUTPUTS)}")
        _refuse_parameters(output, f"parameters of {output['name']}")
    # An empty list asks for nothing in particular.
    return tuple(output["name"] for output in asked) or OUTPUTS


def _refuse_parameters(holder: dict[str, Any], what: str) -> None:
    """Refuses extensions that would change what the data mean; ``content_type: str`` only says what is the case."""
    parameters = holder.get("parameters", {})
    if type(parameters) is not dict:
        raise _wrong(what, parameters, "an object")
    for name, value in parameters.items():
        if (name, value) != ("content_type", "str"):
            raise invalid(f"{what}: there is no {shorten(name)} {show(value)} here: leave it out")


def _wrong(what: str, value: Any, allowed: str) -> RequestError:
    return invalid(f"{what} must be {allowed}, not {show(value)} ({type_name(value)})")


def _tensors(tensors: Mapping[str, TensorInfo]) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": _DATATYPES[info.dtype], "shape": list(info.shape or ())}
        for name, info in tensors.items()
    ]
