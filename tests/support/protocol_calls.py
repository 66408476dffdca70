"""Calls of the protocol's pure functions, and what a refusal must be."""

import base64
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, settings
from served_signatures import INIT, make_signature

from components import features
from serving.errors import Code, RequestError
from serving.protocol.model_inputs import Limits
from serving.protocol.replies import render_error
from serving.protocol.tensorflow_serving import PredictRequest, parse_predict

LIMITS = Limits()
SIGNATURES = {"serving_default": make_signature(4), "__saved_model_init_op": INIT}
fuzzed = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parse(body: Any, limits: Limits = LIMITS) -> PredictRequest:
    return parse_predict(body if isinstance(body, bytes) else json.dumps(body).encode(), limits, features.INPUTS)


def refusal(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(RequestError) as refused:
        call()
    error = refused.value
    assert orjson.loads(render_error(error)) == {"error": error.message}
    return error.code.status, error.message


def attempt(call: Callable[[], Any]) -> tuple[Any, RequestError | None]:
    """Returns what a call returns, or what it refuses with; lets anything else through."""
    try:
        return call(), None
    except RequestError as error:
        return None, error


def check_refusal(error: RequestError) -> None:
    assert error.code is Code.INVALID_ARGUMENT
    assert 0 < len(error.message) < 600
    assert orjson.loads(render_error(error)) == {"error": error.message}


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}
