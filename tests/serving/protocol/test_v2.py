"""KServe's Open Inference Protocol: what is taken, what is refused, and what is answered."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_signatures import make_signature

from components.features import OUTPUTS
from serving.errors import Code, RequestError
from serving.model.loaded import Answers
from serving.protocol.kserve import InferRequest, parse_infer, render_infer, render_model_metadata
from serving.protocol.model_inputs import Limits
from serving.protocol.replies import render_error

LIMITS = Limits()
ANSWERS = Answers(["Sports", "World"], np.array([1, 0]), np.array([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2]], np.float32))


def text(*data: Any, **changes: Any) -> dict[str, Any]:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(data)], "data": list(data)}
    return {key: value for key, value in {**tensor, **changes}.items() if value is not ...}


def parse(document: Any) -> InferRequest:
    return parse_infer(json.dumps(document).encode(), LIMITS)


def refusal(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(RequestError) as refused:
        call()
    return refused.value.code.status, refused.value.message


def test_texts_are_taken() -> None:
    assert parse({"inputs": [text("a storm", "é")]}) == InferRequest([b"a storm", "é".encode()], OUTPUTS, None)


def test_id_and_outputs_are_taken_in_the_order_asked_for() -> None:
    asked = [{"name": "probabilities"}, {"name": "label", "parameters": {}}]
    request = parse({"id": "7", "inputs": [text("a")], "outputs": asked})
    assert request == InferRequest([b"a"], ("probabilities", "label"), "7")
    assert parse({"inputs": [text("a")], "outputs": []}).outputs == OUTPUTS
    assert parse({"inputs": [text("a")], "outputs": [{"name": "label"}] * 2}).outputs == ("label", "label")


def test_a_number_is_a_number() -> None:
    assert parse({"inputs": [text("a", shape=[1.0])]}).inputs == [b"a"]


def test_the_one_parameter_that_changes_nothing_is_taken() -> None:
    assert parse({"inputs": [text("a", parameters={"content_type": "str"})], "parameters": {}}).inputs == [b"a"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "JSON Value: [] Is not object"),
        ({}, "inputs must be a list of one object, the input text, not null (Null)"),
        ({"inputs": []}, "inputs must be a list of one object, the input text, not [] (Array)"),
        ({"inputs": [text("a"), text("a")]}, "inputs must be a list of one object"),
        ({"inputs": [text("a")], "id": 7}, "id must be a string, not 7 (Number)"),
        ({"inputs": [text("a")], "id": None}, "id must be a string, not null (Null)"),
        ({"inputs": [text("a", name="title")]}, 'name of the input must be "text", not "title" (String)'),
        ({"inputs": [text("a", name=...)]}, 'name of the input must be "text", not null (Null)'),
        ({"inputs": [text("a", datatype="FP32")]}, 'datatype of text must be "BYTES", not "FP32" (String)'),
        ({"inputs": [text("a", data=...)]}, "data of text must be a list of strings, not null (Null)"),
        ({"inputs": [text()]}, "data of text must be a list of strings, not [] (Array)"),
        ({"inputs": [text("a", data="a")]}, 'data of text must be a list of strings, not "a" (String)'),
        ({"inputs": [text("a", 5)]}, "data of text, item 1, must be a string, not 5 (Number)"),
        ({"inputs": [text("a", ["b"])]}, "data of text, item 1, must be a string, not [\n"),
        ({"inputs": [text("a", shape=[2])]}, "shape of text must be [1], as many as its data, not [\n    2\n]"),
        ({"inputs": [text("a", shape=[1, 1])]}, "shape of text must be [1], as many as its data, not "),
        ({"inputs": [text("a", shape=[True])]}, "shape of text must be [1], as many as its data, not "),
        ({"inputs": [text("a", shape=...)]}, "shape of text must be [1], as many as its data, not null (Null)"),
        ({"inputs": [text("a")], "outputs": {}}, "outputs must be a list of up to 3 objects, not {} (Object)"),
        ({"inputs": [text("a")], "outputs": ["label"]}, "outputs must be a list of up to 3 objects, not ["),
        (
            {"inputs": [text("a")], "outputs": [{"name": "logits"}]},
            'name of an output must be one of label, label_id, probabilities, not "logits" (String)',
        ),
        ({"inputs": [text("a")], "outputs": [{"name": []}]}, "name of an output must be one of "),
        (
            {"inputs": [text("a")], "outputs": [{"name": "label"}] * 4},
            "outputs must be a list of up to 3 objects, not [",
        ),
        ({"inputs": [text("a")], "parameters": 1}, "parameters must be an object, not 1 (Number)"),
        (
            {"inputs": [text("a", data=..., parameters={"binary_data_size": 9})]},
            "parameters of text: there is no binary_data_size 9 here: leave it out",
        ),
        (
            {"inputs": [text("YQ==", parameters={"content_type": "base64"})]},
            'parameters of text: there is no content_type "base64" here: leave it out',
        ),
        (
            {"inputs": [text("a")], "outputs": [{"name": "label", "parameters": {"binary_data": True}}]},
            "parameters of label: there is no binary_data true here: leave it out",
        ),
        ({"inputs": [text(*"a" * 257)]}, "The request has 257 texts, 256 are allowed"),
        ({"inputs": [text("a" * 10_001)]}, "Text 0 has 10001 characters, 10000 are allowed: shorten it"),
    ],
)
def test_anything_else_is_refused_with_a_reason(document: Any, message: str) -> None:
    status, said = refusal(lambda: parse(document))
    assert status == 400
    assert said.startswith(message)


def test_body_has_the_same_limits() -> None:
    assert refusal(lambda: parse_infer(b" " * (2**20 + 1), LIMITS))[0] == 413
    deep = json.dumps({"inputs": [text("a")]})[:-1] + ', "more": ' + "[" * 40 + "]" * 40 + "}"
    assert refusal(lambda: parse_infer(deep.encode(), LIMITS))[0] == 400


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
near = {"name": st.just("text"), "datatype": st.just("BYTES"), "shape": st.just([1]), "data": st.just(["a"])}
tensors = st.fixed_dictionaries(
    {}, optional={key: value | values for key, value in near.items()} | {"parameters": values}
)
documents = st.fixed_dictionaries(
    {},
    optional={"id": values, "inputs": st.lists(tensors, max_size=2) | values, "outputs": values, "parameters": values},
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
def test_any_json_is_a_request_or_400(document: Any) -> None:
    try:
        request, error = parse(document), None
    except RequestError as refused:
        request, error = None, refused
    if error:
        assert error.code is Code.INVALID_ARGUMENT
        assert orjson.loads(render_error(error)) == {"error": error.message}
    else:
        assert request is not None
        assert len(request.inputs) == document["inputs"][0]["shape"][0]


def test_outputs_are_answered_with_shape_and_datatype() -> None:
    reply = orjson.loads(render_infer(InferRequest([b"a", b"b"], OUTPUTS, "7"), ANSWERS, "ag_news", 3))
    assert reply == {
        "model_name": "ag_news",
        "model_version": "3",
        "id": "7",
        "outputs": [
            {"name": "label", "shape": [2], "datatype": "BYTES", "data": ["Sports", "World"]},
            {"name": "label_id", "shape": [2], "datatype": "INT64", "data": [1, 0]},
            {"name": "probabilities", "shape": [2, 3], "datatype": "FP32", "data": [0.2, 0.7, 0.1, 0.5, 0.3, 0.2]},
        ],
    }


def test_only_what_was_asked_for_is_answered() -> None:
    reply = orjson.loads(render_infer(InferRequest([b"a", b"b"], ("label_id",), None), ANSWERS, "ag_news", 3))
    assert "id" not in reply
    assert [output["name"] for output in reply["outputs"]] == ["label_id"]


def test_what_is_not_a_number_is_an_error() -> None:
    broken = Answers(["World"], np.array([0]), np.array([[np.nan, 1]], np.float32))
    assert refusal(lambda: render_infer(InferRequest([b"a"], OUTPUTS, None), broken, "m", 1))[0] == 500


def test_metadata() -> None:
    assert orjson.loads(render_model_metadata("m", [10, 9], make_signature(4))) == {
        "name": "m",
        "versions": ["9", "10"],
        "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "label_id", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]},
        ],
    }
