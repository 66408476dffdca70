"""The description of the API, and a model that answers as it says."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import numpy as np
import orjson
from served_signatures import INIT, make_signature

from serving.model.loaded import Answers
from serving.page.docs import read_openapi
from serving.protocol.model_inputs import Limits

API = orjson.loads(read_openapi())
LIMITS = Limits()
SCOPES = ("", "/versions/{version}", "/labels/{label}")
DEFAULT = make_signature(2)
SIGNATURES = {"serving_default": DEFAULT, "serve_examples": DEFAULT, "__saved_model_init_op": INIT}


def answer(texts: list[bytes]) -> Answers:
    """Stands in for a model: what is longer than ten bytes is of class b."""
    label_ids = np.array([int(len(text) > 10) for text in texts])
    return Answers(["ab"[number] for number in label_ids], label_ids, np.eye(2, dtype=np.float32)[label_ids])


def schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": API["components"]}


def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema(name))


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in API["paths"].items():
        for method in item.keys() - {"parameters"}:
            yield method, path, item[method]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (target for key, target in value.items() if key == "$ref")
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from references(part)
