"""Requests that schemathesis makes of the description, answered in this process."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_description import LIMITS, SIGNATURES, answer, operations
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
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

from components.features import INPUTS
from serving.errors import Code, RequestError
from serving.page.docs import read_openapi
from serving.protocol.kserve import parse_infer, render_infer
from serving.protocol.replies import render_error, render_metadata, render_predictions, render_status
from serving.protocol.targets import parse_target, parse_version
from serving.protocol.tensorflow_serving import parse_predict, refuse_examples
from serving.repository.states import State, VersionStatus


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
# 404 is for a label that is not there; now and then a generated body is longer than 1 MiB.
CONFIG = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": ["400", "404", "413"]}}}
)
ASKED = r"^/v1/models/\{model\}((/\w+/\{\w+\})?(:predict|/metadata|)|:classify)$|/infer$"


def says_what_no_schema_can(body: dict[str, Any]) -> bool:
    """Returns whether a body may be wrong in spite of its schema: base64 of no tf.Example, a shape not data's."""
    if body.get("signature_name") == "serve_examples":
        return True
    inputs = body.get("inputs")
    tensors = [each for each in inputs if isinstance(each, dict)] if isinstance(inputs, list) else []
    found = [each for each in tensors if isinstance(each.get("data"), list)]
    return any(each.get("shape") != [len(each["data"])] for each in found)


def explore(spoil: Callable[[bytes], bytes], path: str, method: str, mode: GenerationMode, cases: int = 10) -> None:
    """Asks generated requests of one operation, each against the description."""
    described = schemathesis.openapi.from_asgi("/openapi.json", make_app(spoil), config=CONFIG)
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
