"""What the bodies of TensorFlow Serving's REST API ask for, as pure functions, in the forms and words of version 2.20.

After ``model_servers/http_rest_api_handler.cc`` and ``util/json_tensor.cc`` there. What differs on purpose: input is
strict JSON, what is wrong with it is told in the parser's words, and there are limits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from components import features
from serving.model.signatures import Signature
from serving.protocol.json_body import invalid, read_object, shorten, show, type_name
from serving.protocol.json_tensor import strings_of_columns, strings_of_rows
from serving.protocol.model_inputs import Limits, check_count, encode_inputs
from serving.protocol.targets import Action


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
    context = [document["context"]] if "context" in document else []
    for example in context + _examples(document):
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


def _signature_name(document: dict[str, Any]) -> str:
    signature = document.get("signature_name", "")
    if type(signature) is not str:
        wrong = "not formatted correctly. 'signature_name' key must be a string value."
        raise invalid(f"JSON Value: {show(document)} {wrong}")
    return signature or features.SERVING_SIGNATURE


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
