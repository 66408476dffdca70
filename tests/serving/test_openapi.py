"""The description of the API says what the protocol does, and the page at /docs shows all of it."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import jsonschema_rs
import numpy as np
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.requests import Request
from starlette.responses import Response

from serving.docs_page import read_openapi, render_docs
from serving.errors import Code, RequestError
from serving.models import INPUTS, Answers
from serving.protocol import (
    Limits,
    State,
    VersionStatus,
    parse_predict,
    parse_target,
    parse_version,
    refuse_examples,
    render_error,
    render_metadata,
    render_predictions,
    render_status,
)
from serving.protocol_v2 import (
    OUTPUTS,
    InferRequest,
    parse_infer,
    render_infer,
    render_live,
    render_model_metadata,
    render_model_ready,
    render_ready,
    render_server,
)
from serving.signatures import Signature, TensorInfo

API = orjson.loads(read_openapi())
LIMITS = Limits()
SCOPES = ("", "/versions/{version}", "/labels/{label}")
DEFAULT = Signature(
    {"text": TensorInfo("serving_default_text:0", "DT_STRING", (-1,))},
    {
        "label": TensorInfo("StatefulPartitionedCall:0", "DT_STRING", (-1,)),
        "label_id": TensorInfo("StatefulPartitionedCall:1", "DT_INT64", (-1,)),
        "probabilities": TensorInfo("StatefulPartitionedCall:2", "DT_FLOAT", (-1, 2)),
    },
    "tensorflow/serving/predict",
)
INIT = Signature({}, {"__saved_model_init_op": TensorInfo("NoOp", "DT_INVALID", None)}, "")
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


# The description itself


def test_every_route_is_described() -> None:
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
    assert "256 texts of 10,000 characters in a body of 1 MiB, nested at most 32 deep" in API["info"]["description"]


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
        ("V2Server", render_server("0.1.0")),
        ("V2Live", render_live()),
        ("V2Ready", render_ready(True)),
        ("V2NotReady", render_ready(False)),
        ("V2ModelReady", render_model_ready("m", True)),
        ("V2ModelNotReady", render_model_ready("m", False)),
        ("Error", render_error(RequestError(Code.INTERNAL, "no"))),
    ],
)  # fmt: skip
def test_replies_are_as_described(name: str, reply: bytes) -> None:
    validator(name).validate(orjson.loads(reply))


# What the schema of a request allows, the parser takes, and the other way round

BASE64 = ("", "YQ==", "YQ", "Y", "YQ=", " Y\nQ = =", "YQ==YQ==", "-_-_", "é", "YWJj", "Y" * 7, "\u00a0", None)
leaves = st.none() | st.integers(0, 3) | st.text(max_size=3) | st.sampled_from([{"b64": data} for data in BASE64])
tensor = st.lists(leaves, max_size=3) | leaves | st.lists(st.lists(leaves, max_size=2), max_size=2)
named = st.dictionaries(st.sampled_from(["text", "b64", "x"]), tensor, max_size=2)
requests = st.fixed_dictionaries(
    {},
    optional={
        "instances": tensor | named | st.lists(named, max_size=3),
        "inputs": tensor | named,
        "signature_name": st.sampled_from(["serving_default", "", "other", None, 7]),
        "more": leaves,
    },
)
plain = st.lists(st.text(max_size=2), min_size=1, max_size=2)
one_of_them = st.fixed_dictionaries({"instances": plain | st.lists(named, max_size=2)}) | st.fixed_dictionaries(
    {"inputs": plain | named}
)
parameters = st.just({}) | st.dictionaries(st.sampled_from(["content_type", "x"]), st.just("str") | leaves, max_size=1)
v2_tensor = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["text", "x"]),
        "datatype": st.just("BYTES") | st.none(),
        "shape": st.just([1]),
        "data": st.lists(st.text(max_size=2), min_size=1, max_size=1) | leaves,
    },
    optional={"parameters": parameters, "more": leaves},
)
output = st.fixed_dictionaries(
    {"name": st.sampled_from(["label", "label_id", "logits"])}, optional={"parameters": parameters}
)
v2_requests = st.fixed_dictionaries(
    {"inputs": st.lists(v2_tensor, min_size=1, max_size=1) | leaves},
    optional={"id": leaves, "outputs": leaves | st.lists(output, max_size=4), "parameters": parameters | leaves},
)
thorough = settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))


def takes(call: Callable[[], Any]) -> bool:
    try:
        call()
    except RequestError as error:
        return error.code is not Code.INVALID_ARGUMENT
    return True


@thorough
@given(requests | one_of_them)
def test_predict_takes_what_its_schema_allows_and_nothing_else(document: Any) -> None:
    allowed = validator("PredictRequest").is_valid(document)
    assert takes(lambda: parse_predict(json.dumps(document).encode(), LIMITS, INPUTS)) == allowed


@thorough
@given(v2_requests)
def test_infer_takes_what_its_schema_allows_and_nothing_else(document: Any) -> None:
    allowed = validator("V2InferRequest").is_valid(document)
    assert takes(lambda: parse_infer(json.dumps(document).encode(), LIMITS)) == allowed


# Schemathesis, in this process


def reply_v1(method: str, path: str, body: bytes) -> bytes:
    target = parse_target(method, path)
    if target.model != "ag_news" or target.version not in (None, 1):
        raise RequestError(Code.NOT_FOUND, f"Servable not found for request: Latest({target.model})")
    if target.label not in (None, "champion"):
        raise RequestError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {target.label}")
    if target.action == "status":
        return render_status([VersionStatus(1, State.AVAILABLE)])
    if target.action == "metadata":
        return render_metadata("ag_news", 1, SIGNATURES)
    if target.action == "predict":
        request = parse_predict(body, LIMITS, INPUTS)
        return render_predictions(answer(request.inputs), request.rows)
    return refuse_examples(body, LIMITS, SIGNATURES, target.action)


def reply_v2(path: str, body: bytes) -> bytes:
    model, *version = path.removeprefix("/v2/models/").removesuffix("/infer").split("/")
    if model != "ag_news" or (version and parse_version(version[-1]) != 1):
        raise RequestError(Code.NOT_FOUND, "Servable not found for request")
    request = parse_infer(body, LIMITS)
    return render_infer(request, answer(request.inputs), "ag_news", 1)


def make_app(spoil: Callable[[bytes], bytes]) -> Callable[..., Awaitable[None]]:
    """Returns a server of one model that answers with what ``spoil`` makes of its replies."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["raw_path"].split(b"?")[0].decode("latin-1")
        status, found = 200, read_openapi()
        if path != "/openapi.json":
            body = await Request(scope, receive).body()
            try:
                answered = reply_v2(path, body) if path.startswith("/v2/") else reply_v1(scope["method"], path, body)
                found = spoil(answered)
            except RequestError as error:
                status, found = error.code.status, render_error(error)
        await Response(found, status, media_type="application/json")(scope, receive, send)

    return app


CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    positive_data_acceptance,
]
ASKED = r"^/v1/models/\{model\}((/\w+/\{\w+\})?(:predict|/metadata|)|:classify)$|/infer$"


def says_what_no_schema_can(body: dict[str, Any]) -> bool:
    """Returns whether a body may be wrong in spite of its schema: base64 of no tf.Example, a shape not data's."""
    if body.get("signature_name") == "serve_examples":
        return True
    inputs = body.get("inputs")
    tensors = [each for each in inputs if isinstance(each, dict)] if isinstance(inputs, list) else []
    return any("data" in each and each.get("shape") != [len(each["data"])] for each in tensors)


def explore(spoil: Callable[[bytes], bytes], path: str, method: str, mode: GenerationMode, cases: int = 10) -> None:
    """Asks generated requests of one operation, each against the description."""
    described = schemathesis.openapi.from_asgi("/openapi.json", make_app(spoil))
    operation = described[path][method]
    # A model and version that are there, so that bodies are read; any other label is an error.
    there = {"model": "ag_news", "version": 1, "label": "champion"}
    fixed = {name: there[name] for name in re.findall(r"\{(\w+)\}", path)}
    free = method == "GET" and ("{label}" not in path or mode is GenerationMode.NEGATIVE)
    strategy = operation.as_strategy(mode, path_parameters=None if free else fixed)
    if path.endswith((":classify", ":regress")):
        checks = [check for check in CHECKS if check is not positive_data_acceptance]
    else:
        checks = CHECKS

    @settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(strategy)
    def ask(case: Case) -> None:
        unsaid = isinstance(case.body, dict) and says_what_no_schema_can(case.body)
        case.call_and_validate(checks=[check for check in checks if not (unsaid and check is positive_data_acceptance)])

    ask()


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(
    ("method", "path"), sorted((method.upper(), path) for method, path, _ in operations() if re.search(ASKED, path))
)
def test_schemathesis_finds_nothing(method: str, path: str, mode: GenerationMode) -> None:
    explore(lambda reply: reply, path, method, mode)


@pytest.mark.parametrize(
    ("path", "spoil"),
    [
        ("/v1/models/{model}:predict", lambda reply: reply.replace(b'"label_id"', b'"id"')),
        ("/v1/models/{model}:predict", lambda reply: reply.replace(b"1.0", b"null")),
        ("/v1/models/{model}:predict", lambda reply: re.sub(rb"predictions|outputs", b"results", reply)),
        ("/v2/models/{model}/infer", lambda reply: reply.replace(b'"model_version":"1"', b'"model_version":1')),
    ],
)
def test_schemathesis_would_find_a_wrong_reply(path: str, spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises((FailureGroup, ExceptionGroup)):
        explore(spoil, path, "POST", GenerationMode.POSITIVE)


# The page


def test_the_page_shows_every_operation_and_schema() -> None:
    page = render_docs().decode()
    for method, path, operation in operations():
        assert f'id="{operation["operationId"]}"' in page
        assert f">{method.upper()}</span>\n<h3><code>{html.escape(path)}</code>" in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    links = re.findall(r'href="#([^"]+)"', page)
    assert links
    assert set(links) <= set(ids)
    assert {f"schema-{name}" for name in API["components"]["schemas"]} <= set(ids)


def test_the_page_needs_nothing_but_itself() -> None:
    page = render_docs().decode()
    assert "<script" not in page
    assert "<link" not in page
    assert "<img" not in page
    assert not re.search(r"""(src|href)=["'](https?:|//)""", page)
    assert "url(" not in page
    assert "@import" not in page
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert f'content="{policy}"' in html.unescape(page)
    assert "style=" not in re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)
