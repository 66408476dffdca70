"""JSON Schemas of requests and replies, by the names that ``serving.endpoints`` uses, and examples.

Pydantic makes the schemas of its own models. The other bodies have parsers of their own, for speed and for TensorFlow
Serving's messages, and their schemas are written here.
"""

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from components import features
from components.features import OUTPUTS
from serving.errors import Code
from serving.page.figures import Figures
from serving.page.routes import ExplainRequest
from serving.protocol.model_inputs import Limits
from serving.repository.states import State

Schema = dict[str, Any]
LIMITS = Limits()


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _one_of(*names: str) -> Schema:
    return {"oneOf": [_ref(name) for name in names]}


def _object(optional: Mapping[str, Schema] | None = None, /, **required: Schema) -> Schema:
    """Returns the schema of an object with these properties and, unless it is changed, no others."""
    needed: Schema = {"required": list(required)} if required else {}
    return {"type": "object", "properties": {**required, **(optional or {})}, **needed, "additionalProperties": False}


def _array(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    bounds = ({"minItems": least} if least else {}) | ({"maxItems": most} if most else {})
    return {"type": "array", **bounds, "items": items}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _said(description: str) -> Schema:
    return {"description": description}


def _rows(value: str, name: str) -> Schema:
    rows = [_array(items, 1, LIMITS.instances) for items in (_ref(value), _object(**{name: _ref(value)}))]
    return {"oneOf": rows, **_said("One string per row, or one object per row with the input's name, but not a mix.")}


def _columns(value: str, name: str) -> Schema:
    column = _array(_ref(value), 1, LIMITS.instances)
    columns = [column, _object(**{name: column}) | _MORE]
    return {"oneOf": columns, **_said("A column of strings, or an object that has it under the input's name.")}


def _output(name: str, datatype: str, shape: int, data: Schema) -> Schema:
    sizes = _array({"type": "integer", "minimum": 1}, shape, shape)
    return _object(name={"const": name}, datatype={"const": datatype}, shape=sizes, data=data)


_MORE: Schema = {"additionalProperties": True}
_STRING: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_DIGITS: Schema = {"type": "string", "pattern": "^[0-9]+$"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SOME: Schema = {"type": "integer", "minimum": 1}
_YES, _NO = {"const": True}, {"const": False}
_BOOLEAN: Schema = {"type": "boolean"}
# Of float32, whose sum may be a little above one.
_PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1.0001}
_ROW = _array(_PROBABILITY, 2)
_SPACE = r"[\t-\r ]*"
_B64 = rf"(?:[A-Za-z0-9+/]{_SPACE})"
_BASE64 = rf"^{_SPACE}(?:{_B64}{{4}})*(?:{_B64}{{2}}(?:={_SPACE}={_SPACE})?|{_B64}{{3}}(?:={_SPACE})?)?$"

_TEXT_SIGNATURE, _EXAMPLE_SIGNATURE = _ref("TextSignature"), _ref("ExampleSignature")
_PARAMETERS = {"parameters": _ref("V2Parameters")}
_EXPLAINED = {
    "model": _STRING,
    "version": {"type": "integer"},
    "labels": _array(_STRING),
    "figures": {
        "anyOf": [_ref("Figures"), {"type": "null"}],
        **_said("What the version's model card says of its test; null where it cannot be read."),
    },
    "figures_problem": _MAYBE,
}
_, _PYDANTIC = models_json_schema(
    [(ExplainRequest, "validation"), (Figures, "serialization")], ref_template="#/components/schemas/{model}"
)

SCHEMAS: dict[str, Schema] = {
    "Error": _object(
        error=_STRING | _said("What is wrong, in one sentence; in TensorFlow Serving's words where it has some.")
    ),

    "Text": {"type": "string", "maxLength": LIMITS.text_characters,
             **_said("A headline, with its first sentence if there is one.")},
    "Base64": _object(b64={"type": "string", "pattern": _BASE64, "contentEncoding": "base64"})
    | _said("Bytes, for any string that JSON cannot hold. In a text, bytes that are not UTF-8 are read as U+FFFD."),
    "TextValue": _one_of("Text", "Base64"),
    "TextSignature": {"enum": [features.SERVING_SIGNATURE, ""],
                      **_said("The signature that takes texts, which is also meant where none is named.")},
    "ExampleSignature": {
        "const": features.EXAMPLES_SIGNATURE,
        **_said("The signature that takes serialized tf.Examples with one value of bytes under `text`."),
    },
    "TextRows": _object({"signature_name": _TEXT_SIGNATURE}, instances=_rows("TextValue", features.TEXT))
    | _MORE | {"not": {"required": ["inputs"]}},
    "TextColumns": _object({"signature_name": _TEXT_SIGNATURE}, inputs=_columns("TextValue", features.TEXT))
    | _MORE | {"not": {"required": ["instances"]}},
    "ExampleRows": _object(signature_name=_EXAMPLE_SIGNATURE, instances=_rows("Base64", features.EXAMPLES_INPUT))
    | _MORE | {"not": {"required": ["inputs"]}},
    "ExampleColumns": _object(signature_name=_EXAMPLE_SIGNATURE, inputs=_columns("Base64", features.EXAMPLES_INPUT))
    | _MORE | {"not": {"required": ["instances"]}},
    "PredictRequest": _one_of("TextRows", "TextColumns", "ExampleRows", "ExampleColumns")
    | _said("Either rows (`instances`) or columns (`inputs`), never both. Other keys are not looked at."),
    "Prediction": _object(
        label=_STRING, label_id=_COUNT, probabilities=_ROW | _said("One per class, in label-id order.")
    ),
    "PredictedRows": _object(predictions=_array(_ref("Prediction"), 1, LIMITS.instances)),
    "PredictedColumns": _object(
        outputs=_object(label=_array(_STRING, 1), label_id=_array(_COUNT, 1), probabilities=_array(_ROW, 1))
    ),
    "PredictReply": _one_of("PredictedRows", "PredictedColumns")
    | _said("Rows where `instances` were sent, columns where `inputs` were, in the order of the request."),
    "ExamplesRequest": _object(
        {"signature_name": _STRING, "context": {"type": "object"}}, examples=_array({"type": "object"}, 1)
    ) | _MORE,
    "VersionStatus": _object(
        version=_DIGITS,
        state={"enum": [state.name for state in State]},
        # TOO_LARGE is none of gRPC's.
        status=_object(error_code={"enum": [code.name for code in Code if code.value[0] >= 0]}, error_message=_STRING),
    ),
    "ModelStatus": _object(model_version_status=_array(_ref("VersionStatus"), 1) | _said("Newest first.")),
    "TensorInfo": _object(
        dtype={"type": "string", "pattern": "^DT_[A-Z0-9_]+$"},
        tensor_shape=_object(
            dim=_array(_object(size={"type": "string", "pattern": "^(-1|[0-9]+)$"}, name=_STRING)),
            unknown_rank=_BOOLEAN,
        ),
        name=_STRING,
    ),
    "SignatureDef": _object(
        inputs=_map(_ref("TensorInfo")), outputs=_map(_ref("TensorInfo")), method_name=_STRING,
        defaults={"type": "object"},
    ),
    "ModelMetadata": _object(
        model_spec=_object(name=_STRING, signature_name={"const": ""}, version=_DIGITS),
        metadata=_object(signature_def=_object(signature_def=_map(_ref("SignatureDef")))),
    ),

    "V2Server": _object(name={"const": "newsdesk"}, version=_STRING, extensions=_array(_STRING)),
    "V2Live": _object(live=_YES),
    "V2Ready": _object(ready=_YES),
    "V2NotReady": _object(ready=_NO),
    "V2ModelReady": _object(name=_STRING, ready=_YES),
    "V2ModelNotReady": _object(name=_STRING, ready=_NO),
    "V2TensorMetadata": _object(
        name=_STRING, datatype={"enum": ["BYTES", "INT64", "FP32"]}, shape=_array({"type": "integer", "minimum": -1})
    ),
    "V2ModelMetadata": _object(
        name=_STRING, versions=_array(_DIGITS), platform={"const": "tensorflow_savedmodel"},
        inputs=_array(_ref("V2TensorMetadata")), outputs=_array(_ref("V2TensorMetadata")),
    ),
    "V2Parameters": _object({"content_type": {"const": "str"}})
    | _said("Extensions are not offered: a parameter that asks for one is refused."),
    "V2Input": _object(
        _PARAMETERS, name={"const": features.TEXT}, datatype={"const": "BYTES"},
        shape=_array(_SOME | {"maximum": LIMITS.instances}, 1, 1) | _said("As many as `data` has."),
        data=_array(_ref("Text"), 1, LIMITS.instances),
    ) | _MORE,
    "V2InferRequest": _object(
        {"id": _STRING, "outputs": _array(_object(_PARAMETERS, name={"enum": list(OUTPUTS)}) | _MORE, 0, len(OUTPUTS))
         | _said("Which outputs to answer with, in this order; all of them where none is named."), **_PARAMETERS},
        inputs=_array(_ref("V2Input"), 1, 1),
    ) | _MORE,
    "V2Output": {"oneOf": [
        _output("label", "BYTES", 1, _array(_STRING, 1)),
        _output("label_id", "INT64", 1, _array(_COUNT, 1)),
        _output("probabilities", "FP32", 2, _ROW | _said("Row after row.")),
    ]},
    "V2InferReply": _object(
        {"id": _STRING}, model_name=_STRING, model_version=_DIGITS, outputs=_array(_ref("V2Output"), 1, len(OUTPUTS))
    ),

    **_PYDANTIC["$defs"],
    "ExplainVersion": _object(**_EXPLAINED),
    "ExplainChoices": _object(
        models=_array(_object(model=_STRING, versions=_array(_ref("ExplainVersion")), problem=_MAYBE)),
        explains=_BOOLEAN,
        word_limit=_COUNT | _said("0 where the server does not explain."),
        text_characters=_SOME,
    ),
    "ExplainedWord": _object(
        text=_STRING, start=_COUNT | _said("In code points."), end=_SOME,
        weight={"type": "number", **_said("What the log-odds of the class lose, in nats, without the word.")},
    ),
    "ExplainReply": _object(
        **_EXPLAINED, label=_STRING, probabilities=_map(_PROBABILITY) | {"minProperties": 2},
        words=_array(_ref("ExplainedWord")) | {"type": ["array", "null"]}
        | _said("The first words of the text; null where the server does not explain."),
        words_total=_COUNT,
    ),
    "Description": {"type": "object", "required": ["openapi"]},
}  # fmt: skip
"""By name, each in terms of the others."""

_STORM = "Storm closes the harbour for a second day as ferries stay in port"
_TENSOR = {"name": features.TEXT, "datatype": "BYTES", "shape": [1], "data": [_STORM]}
_EXAMPLE = {"b64": "CiYKJAoEdGV4dBIcChoKGFN0b3JtIGNsb3NlcyB0aGUgaGFyYm91cg=="}
_OK = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
REQUESTS: dict[str, dict[str, Any]] = {
    "PredictRequest": {
        "Rows": {"instances": [_STORM, "Keeper saves twice in the shoot-out"]},
        "Rows by name": {"instances": [{features.TEXT: _STORM}]},
        "Columns": {"signature_name": features.SERVING_SIGNATURE, "inputs": {features.TEXT: [_STORM]}},
        "Bytes": {"instances": [{"b64": "U3Rvcm0gY2xvc2VzIHRoZSBoYXJib3Vy"}]},
        "Serialized tf.Examples": {"signature_name": features.EXAMPLES_SIGNATURE, "instances": [_EXAMPLE]},
    },
    "ExamplesRequest": {"One example": {"examples": [{features.TEXT: _STORM}]}},
    "V2InferRequest": {
        "One text": {"id": "7", "inputs": [_TENSOR]},
        "The label only": {"inputs": [_TENSOR], "outputs": [{"name": features.OUTPUT_LABEL}]},
    },
    "ExplainRequest": {"A headline": {"model": "ag_news", "text": _STORM}},
}
"""Examples, by schema and by what each shows."""
REPLIES: dict[str, Any] = {
    "PredictReply": {"predictions": [{"label": "World", "label_id": 0, "probabilities": [0.94, 0.01, 0.03, 0.02]}]},
    "ModelStatus": {"model_version_status": [_OK]},
}
"""Examples, by schema."""
