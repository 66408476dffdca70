"""Serialized examples, and ``:classify`` and ``:regress``, which take others."""

import json
from typing import Any

import pytest
from protocol_calls import LIMITS, SIGNATURES, b64, parse, refusal

from serving.protocol.tensorflow_serving import PredictRequest, refuse_examples

# The other signature


def serialize(**features: Any) -> bytes:
    from tensorflow.core.example import example_pb2

    example = example_pb2.Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.bytes_list.value.extend(value)
    return example.SerializeToString()


def ask_examples(*examples: bytes) -> PredictRequest:
    return parse({"signature_name": "serve_examples", "instances": [b64(each) for each in examples]})


def test_examples_are_taken_with_their_text_alone() -> None:
    request = ask_examples(serialize(text=[b"a storm"]), serialize(text=["é".encode()], label=3, title=[b"x", b"y"]))
    assert request.signature == "serve_examples"
    assert request.inputs == [serialize(text=[b"a storm"]), serialize(text=["é".encode()])]
    named = {"signature_name": "serve_examples", "inputs": {"examples": [b64(serialize(text=[b"a"]))]}}
    assert parse(named).inputs == [serialize(text=[b"a"])]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (b"\xff\xff", "Could not parse example input: it is not a serialized tf.Example"),
        (b"a storm", "Could not parse example input: it is not a serialized tf.Example"),
        (b"", "Feature: text (data type: string) is required but could not be found."),
        ({"title": [b"a"]}, "Feature: text (data type: string) is required but could not be found."),
        ({"text": []}, "Key: text. Expected one value of bytes, not 0 (the feature has bytes_list)"),
        ({"text": [b"a", b"b"]}, "Key: text. Expected one value of bytes, not 2 (the feature has bytes_list)"),
        ({"text": 7}, "Key: text. Expected one value of bytes, not 0 (the feature has int64_list)"),
    ],
)
def test_an_example_that_would_spoil_the_batch_is_refused(example: Any, message: str) -> None:
    serialized = example if isinstance(example, bytes) else serialize(**example)
    assert refusal(lambda: ask_examples(serialize(text=[b"fine"]), serialized)) == (400, message)


def test_the_text_of_an_example_has_the_same_limit() -> None:
    assert ask_examples(serialize(text=["é".encode() * 10_000]))
    assert refusal(lambda: ask_examples(serialize(text=[b"a" * 10_001])))[0] == 400


# Classify and regress

CLASSIFY = "When method is classify, key 'examples' is expected and was not found"


@pytest.mark.parametrize(
    ("action", "body", "message"),
    [
        ("classify", {"examples": [{"text": "a"}]}, "Expected one or two output Tensors, found 3"),
        ("classify", {"examples": [{}], "context": {}}, "Expected one or two output Tensors, found 3"),
        ("regress", {"examples": [{"text": "a"}]}, "Expected one output Tensor."),
        ("regress", {"examples": [{}], "signature_name": "x"}, "No signature was found with the name: x"),
        ("regress", {"examples": [{}], "signature_name": "__saved_model_init_op"}, "Expected one input Tensor."),
        ("classify", {}, f"JSON Value: {{}} {CLASSIFY}"),
        ("regress", {}, f"JSON Value: {{}} {CLASSIFY}"),
        ("classify", {"examples": []}, "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        (
            "classify",
            {"examples": {}},
            "JSON Value: {\n    \"examples\": {}\n} Expecting 'examples' value to be an list/array",
        ),
        ("classify", {"examples": ["a"]}, "Example must be JSON object but got JSON String"),
        ("classify", {"examples": [{}], "context": 1}, "Example must be JSON object but got JSON Number"),
    ],
)
def test_classify_and_regress_find_no_signature(action: Any, body: Any, message: str) -> None:
    call = lambda: refuse_examples(json.dumps(body).encode(), LIMITS, SIGNATURES, action)  # noqa: E731
    assert refusal(call) == (400, message)
