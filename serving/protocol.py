"""TensorFlow Serving's REST API as pure functions: paths, bodies and replies of its version 2.20.

After ``model_servers/http_rest_api_handler.cc`` and ``util/json_tensor.cc`` there. What differs on purpose: input is
strict JSON, output never holds NaN, and there are limits.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NoReturn, cast
from urllib.parse import unquote

import numpy as np
import orjson

from components import features
from serving.errors import Code, RequestError
from serving.json_body import invalid, read_object, shorten, show, type_name
from serving.json_tensor import strings_of_columns, strings_of_rows
from serving.model_inputs import Limits, check_count, encode_inputs
from serving.models import Answers
from serving.signatures import Signature, TensorInfo

Action = Literal["predict", "classify", "regress", "status", "metadata"]

_MOST_VERSION = 2**63 - 1
_SPECIFIC = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_FLAGS = re.IGNORECASE | re.ASCII
_ASK = re.compile(rf"/v1/models/(?P<model>[^/:]+){_SPECIFIC}:(?P<action>classify|regress|predict)", _FLAGS)
_LOOK = re.compile(rf"/v1/models(?:/(?P<model>[^/:]+))?{_SPECIFIC}(?:/(?P<action>metadata))?", _FLAGS)


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about. ``model`` is a name to look up and never a part of a path; at most one of the others."""

    model: str
    version: int | None
    label: str | None
    action: Action


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """What is asked of a model.

    Attributes:
        signature: Name of the signature, which the model has.
        inputs: One string per row: UTF-8, where the client sent no other bytes, or a serialized tf.Example.
        rows: Whether the reply lists rows (``instances``) or columns (``inputs``).
    """

    signature: str
    inputs: list[bytes]
    rows: bool


class State(Enum):
    """Of a version, as in ``get_model_status.proto``."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """How a version is doing: its state, and why it is not well, if it is not."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


def parse_target(method: str, path: str) -> Target:
    """Returns what a request below ``/v1/`` is about.

    Args:
        method: HTTP method.
        path: As sent: not decoded, and with the query if there is one, which TensorFlow Serving takes for a part of
            the path.

    Raises:
        RequestError: ``INVALID_ARGUMENT``, for a wrong method as well as for a wrong path.
    """
    pattern = {"POST": _ASK, "GET": _LOOK}.get(method)
    found = pattern.fullmatch(path) if pattern else None
    if not found:
        raise _malformed(method, path)
    model, version, label, action = found.group("model", "version", "label", "action")
    if method == "GET":
        # Any other spelling of "metadata" matches the path too, and is answered with the status.
        action = "metadata" if action == "metadata" else "status"
        if model is None:
            raise invalid("Missing model name in request.")
    elif not action.islower():
        raise _malformed(method, path)
    return Target(
        unquote(model) if "%" in model else model,
        None if version is None else parse_version(version),
        None if label is None else unquote(label),
        cast(Action, action),
    )


def parse_version(digits: str) -> int:
    """Returns the number of a version.

    Raises:
        RequestError: It is not made of digits, or above int64.
    """
    significant = digits.lstrip("0")
    # The length is looked at first: Python refuses to convert some thousand digits, and takes long for fewer.
    if digits.isascii() and digits.isdigit() and len(significant) <= len(str(_MOST_VERSION)):
        version = int(significant or "0")
        if version <= _MOST_VERSION:
            return version
    raise invalid(f"Failed to convert version: {shorten(digits)} to numeric.")


def parse_predict(body: bytes, limits: Limits, signatures: Mapping[str, str]) -> PredictRequest:
    """Returns what the body of a ``:predict`` asks.

    Args:
        body: As sent.
        limits: What it may bring.
        signatures: The model's, by name, with the name of their only input.

    Raises:
        RequestError: ``INVALID_ARGUMENT``, or ``TOO_LARGE`` for the body as a whole.
    """
    document = read_object(body, limits.body_bytes, limits.depth, limits.containers)
    signature = _signature_name(document)
    if signature not in signatures:
        raise invalid(f'Serving signature name: "{shorten(signature)}" not found in signature def')
    name = signatures[signature]
    rows = "instances" in document
    if rows:
        if "inputs" in document:
            both = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
            raise invalid(f"JSON Value: {show(document)} {both}")
        instances = document["instances"]
        if type(instances) is not list:
            raise invalid(f"JSON Value: {show(document)} Excepting 'instances' to be an list/array")
        if not instances:
            raise invalid(f"JSON Value: {show(document)} No values in 'instances' array")
        check_count(len(instances), limits)
        found = strings_of_rows(instances, name)
    elif "inputs" in document:
        found = strings_of_columns(document["inputs"], name, lambda rows: check_count(rows, limits))
        if not found:
            raise invalid(f"JSON Value: {show(document)} No values in 'inputs' array")
    else:
        raise invalid("Missing 'inputs' or 'instances' key")
    return PredictRequest(signature, encode_inputs(found, name, limits), rows)


def refuse_examples(body: bytes, limits: Limits, signatures: Mapping[str, Signature], action: Action) -> NoReturn:
    """Answers ``:classify`` and ``:regress``, which need other signatures than a pushed model has.

    Args:
        body: As sent.
        limits: What it may bring.
        signatures: The model's, by name.
        action: Which of the two.

    Raises:
        RequestError: Always, with what TensorFlow Serving has against the body, or else against the model.
    """
    document = read_object(body, limits.body_bytes, limits.depth, limits.containers)
    signature = _signature_name(document)
    for example in [*_context(document), *_examples(document)]:
        if type(example) is not dict:
            raise invalid(f"Example must be JSON object but got JSON {type_name(example)}")
    if signature not in signatures:
        raise invalid(f"No signature was found with the name: {shorten(signature)}")
    found = signatures[signature]
    if len(found.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if action == "classify":
        raise invalid(f"Expected one or two output Tensors, found {len(found.outputs)}")
    raise invalid("Expected one output Tensor.")


def render_predictions(answers: Answers, rows: bool) -> bytes:
    """Returns the reply to a ``:predict``.

    Args:
        answers: N of them.
        rows: Whether to list rows or columns.

    Raises:
        RequestError: ``INTERNAL``, where the model gave a probability that is not a number: JSON has none such.
    """
    probabilities = finite(answers.probabilities)
    label_ids = answers.label_ids.tolist()
    reply: dict[str, Any]
    if rows:
        columns = zip(answers.labels, label_ids, probabilities, strict=True)
        reply = {"predictions": [_outputs(*row) for row in columns]}
    else:
        reply = {"outputs": _outputs(list(answers.labels), label_ids, probabilities)}
    return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)


def finite(probabilities: np.ndarray) -> np.ndarray:
    """Returns probabilities, laid out for orjson.

    Raises:
        RequestError: ``INTERNAL``, where one is not a number.
    """
    if not np.isfinite(probabilities).all():
        raise RequestError(Code.INTERNAL, "The model answered with a probability that is not a number")
    return np.ascontiguousarray(probabilities)


def render_status(versions: Sequence[VersionStatus]) -> bytes:
    """Returns the reply to a request for the status of a model, newest version first."""
    newest_first = sorted(versions, key=lambda status: status.version, reverse=True)
    return orjson.dumps({"model_version_status": [_version_status(status) for status in newest_first]})


def render_metadata(model: str, version: int, signatures: Mapping[str, Signature]) -> bytes:
    """Returns the reply to a request for the metadata of a version."""
    return orjson.dumps(
        {
            "model_spec": {"name": model, "signature_name": "", "version": str(version)},
            "metadata": {
                "signature_def": {"signature_def": {name: _signature(each) for name, each in signatures.items()}}
            },
        }
    )


def render_error(error: RequestError) -> bytes:
    """Returns the body of a refusal; the status is ``error.code.status``."""
    return orjson.dumps({"error": error.message.encode("utf-8", "replace").decode()})


def _malformed(method: str, path: str) -> RequestError:
    return invalid(f"Malformed request: {method} {path}")


def _signature_name(document: dict[str, Any]) -> str:
    signature = document.get("signature_name", "")
    if type(signature) is not str:
        wrong = "not formatted correctly. 'signature_name' key must be a string value."
        raise invalid(f"JSON Value: {show(document)} {wrong}")
    return signature or features.SERVING_SIGNATURE


def _context(document: dict[str, Any]) -> list[Any]:
    return [document["context"]] if "context" in document else []


def _examples(document: dict[str, Any]) -> list[Any]:
    if "examples" not in document:
        missing = "When method is classify, key 'examples' is expected and was not found"
        raise invalid(f"JSON Value: {show(document)} {missing}")
    examples = document["examples"]
    if type(examples) is not list:
        raise invalid(f"JSON Value: {show(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {show(document)} 'examples' value is an empty array")
    return examples


def _outputs(label: Any, label_id: Any, probabilities: Any) -> dict[str, Any]:
    return {
        features.OUTPUT_LABEL: label,
        features.OUTPUT_LABEL_ID: label_id,
        features.OUTPUT_PROBABILITIES: probabilities,
    }


def _version_status(status: VersionStatus) -> dict[str, Any]:
    return {
        "version": str(status.version),
        "state": status.state.name,
        "status": {"error_code": status.code.name, "error_message": status.message},
    }


def _signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {name: _tensor(info) for name, info in signature.inputs.items()},
        "outputs": {name: _tensor(info) for name, info in signature.outputs.items()},
        "method_name": signature.method_name,
        "defaults": {},
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    sizes = info.shape or ()
    return {
        "dtype": info.dtype,
        # 64-bit numbers are strings in the JSON of protocol buffers.
        "tensor_shape": {
            "dim": [{"size": str(size), "name": ""} for size in sizes],
            "unknown_rank": info.shape is None,
        },
        "name": info.name,
    }
