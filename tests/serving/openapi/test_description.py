"""The description of the API is whole, its examples are what it describes, and so are the replies."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import orjson
import pytest
from openapi_description import API, DEFAULT, LIMITS, SCOPES, SIGNATURES, answer, operations, references, validator

from components.features import INPUTS, OUTPUTS
from serving.errors import Code, RequestError
from serving.protocol.kserve import InferRequest, parse_infer, render_infer, render_model_metadata
from serving.protocol.replies import render_error, render_metadata, render_predictions, render_status
from serving.protocol.tensorflow_serving import parse_predict
from serving.repository.states import State, VersionStatus


def test_every_path_of_the_api_is_described() -> None:
    described = {(method, path) for method, path, _ in operations()}
    model = {
        ("post", f"/v1/models/{{model}}{scope}:{act}") for scope in SCOPES for act in ("predict", "classify", "regress")
    }
    model |= {("get", f"/v1/models/{{model}}{scope}{end}") for scope in SCOPES for end in ("", "/metadata")}
    v2 = {("get", "/v2"), ("get", "/v2/health/live"), ("get", "/v2/health/ready")}
    for scope in SCOPES[:2]:
        v2 |= {("get", f"/v2/models/{{model}}{scope}{end}") for end in ("", "/ready")}
        v2.add(("post", f"/v2/models/{{model}}{scope}/infer"))
    pages = {("get", path) for path in ("/", "/docs", "/openapi.json", "/explain")} | {("post", "/explain")}
    probes = {("get", path) for path in ("/healthz", "/readyz", "/metrics", "/monitoring/prometheus/metrics")}
    assert described == model | v2 | pages | probes


def test_operations_have_ids_of_their_own_and_a_tag_that_is_listed() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(ids)) == len(ids)
    assert {tag for *_, operation in operations() for tag in operation["tags"]} == {tag["name"] for tag in API["tags"]}


def test_references_lead_somewhere_and_nothing_is_left_over() -> None:
    used = set(references(API))
    there = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses", "parameters")
        for name in API["components"][kind]
    }
    assert used == there


def test_parameters_of_a_path_are_described() -> None:
    for path, item in API["paths"].items():
        named = {reference.rsplit("/", 1)[-1] for reference in references(item.get("parameters", []))}
        assert named == set(re.findall(r"\{(\w+)\}", path)), path


@pytest.mark.parametrize("name", API["components"]["schemas"])
def test_schemas_are_schemas(name: str) -> None:
    jsonschema_rs.meta.validate({"$schema": API["jsonSchemaDialect"], **API["components"]["schemas"][name]})
    validator(name)


def test_limits_are_those_of_the_server() -> None:
    schemas = API["components"]["schemas"]
    assert schemas["Text"]["maxLength"] == LIMITS.text_characters
    for name, key in (("TextRows", "instances"), ("TextColumns", "inputs")):
        assert schemas[name]["properties"][key]["oneOf"][0]["maxItems"] == LIMITS.instances
    said = API["info"]["description"]
    assert "256 texts of 10,000 characters in a body of 1 MiB, nested at most 32 deep" in said
    assert f"with at most {LIMITS.containers:,} arrays and objects" in said


def examples() -> Iterator[Any]:
    for _, path, operation in operations():
        content = operation.get("requestBody", {"content": {}})["content"].get("application/json", {"examples": {}})
        for name, shown in content["examples"].items():
            yield pytest.param(path, content["schema"], shown["value"], id=f"{operation['operationId']} {name}")


@pytest.mark.parametrize(("path", "of", "value"), examples())
def test_examples_of_requests_are_requests(path: str, of: dict[str, str], value: Any) -> None:
    assert list(validator(of["$ref"].rsplit("/", 1)[-1]).iter_errors(value)) == []
    body = json.dumps(value).encode()
    if path.endswith(":predict"):
        assert parse_predict(body, LIMITS, INPUTS).inputs
    elif path.endswith("/infer"):
        assert parse_infer(body, LIMITS).inputs


def test_examples_of_replies_are_replies() -> None:
    found = 0
    for *_, operation in operations():
        for content in (
            each for reply in operation["responses"].values() for each in reply.get("content", {}).values()
        ):
            if "example" in content:
                found += 1
                validator(content["schema"]["$ref"].rsplit("/", 1)[-1]).validate(content["example"])
    assert found >= 6


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("PredictReply", render_predictions(answer([b"a storm", b"a longer storm"]), rows=True)),
        ("PredictReply", render_predictions(answer([b"a storm"]), rows=False)),
        ("ModelStatus", render_status([VersionStatus(1, State.END, Code.INTERNAL, "no")])),
        ("ModelStatus", render_status([VersionStatus(1, State.AVAILABLE), VersionStatus(2, State.LOADING)])),
        ("ModelMetadata", render_metadata("ag_news", 1, SIGNATURES)),
        ("V2InferReply", render_infer(InferRequest([b"a storm"], OUTPUTS, "7"), answer([b"a storm"]), "m", 1)),
        ("V2InferReply", render_infer(InferRequest([b"a storm"], ("label",), None), answer([b"a storm"]), "m", 1)),
        ("V2ModelMetadata", render_model_metadata("m", [1], DEFAULT)),
        ("Error", render_error(RequestError(Code.INTERNAL, "no"))),
    ],
)  # fmt: skip
def test_replies_are_as_described(name: str, reply: bytes) -> None:
    validator(name).validate(orjson.loads(reply))
