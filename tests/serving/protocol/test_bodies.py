"""Bodies of ``:predict``: the forms that are taken, and the words of what is refused."""

import json
import re
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from protocol_calls import attempt, b64, check_refusal, fuzzed, parse, refusal

from components.features import INPUTS
from serving.protocol.tensorflow_serving import PredictRequest

# Bodies


@pytest.mark.parametrize(
    ("body", "inputs", "rows"),
    [
        ({"instances": ["a storm", ""]}, [b"a storm", b""], True),
        ({"instances": [{"text": "a storm"}, {"text": b64(b"b")}]}, [b"a storm", b"b"], True),
        ({"instances": [b64(b"\xff\x00"), "b"]}, [b"\xff\x00", b"b"], True),
        ({"inputs": ["a", b64(b"b")]}, [b"a", b"b"], False),
        ({"inputs": {"text": ["a", "b"]}}, [b"a", b"b"], False),
        ({"inputs": {"text": ["a"], "more": 1}}, [b"a"], False),
        ({"signature_name": "", "instances": ["a"], "more": [1]}, [b"a"], True),
        ({"signature_name": "serving_default", "instances": ["a"]}, [b"a"], True),
    ],
)
def test_forms_of_a_request(body: Any, inputs: list[bytes], rows: bool) -> None:
    assert parse(body) == PredictRequest("serving_default", inputs, rows)


def test_text_beyond_ascii_is_utf8_however_it_is_written() -> None:
    assert parse('{"instances": ["Ölpreis 🛢"]}'.encode()).inputs == ["Ölpreis 🛢".encode()]
    assert parse(rb'{"instances": ["\u00d6lpreis \ud83d\udee2"]}').inputs == ["Ölpreis 🛢".encode()]


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [
        ("YQ==", b"a"),
        ("YQ", b"a"),
        ("Y Q=\n=", b"a"),
        ("YWJj", b"abc"),
        ("", b""),
        (" ", b""),
        ("+/+/", b"\xfb\xff\xbf"),
    ],
)
def test_base64_as_abseil_reads_it(encoded: str, decoded: bytes) -> None:
    assert parse({"instances": [{"b64": encoded}]}).inputs == [decoded]


@pytest.mark.parametrize(
    "encoded", ["Y", "YQ=", "YQ===", "=YQ=", "YQ==YQ==", "-_-_", "YQ=Q", "é", "YW\xa0Jj", "!!!!", "="]
)
def test_garbage_for_base64_is_refused(encoded: str) -> None:
    where = "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
    assert refusal(lambda: parse({"instances": [{"b64": encoded}]})) == (400, f"{where}Unable to base64 decode")
    assert refusal(lambda: parse({"inputs": [{"b64": encoded}]})) == (400, "Unable to base64 decode")


ROW = "Failed to process element: {} of 'instances' list. "
TYPE = "JSON Value: {} Type: {} is not of expected type: string"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b" ", 0),
        (b"instances = [1, 2]", 0),
        (b'{"instances": ["a"]} x', 21),
        (b'{"instances" ["a"]}', 13),
        (b'{"instances": ["a" "b"]}', 19),
        (b'{"instances": ["a"] "b"}', 20),
        (b'{instances: ["a"]}', 1),
        (b'{"instances": [NaN]}', 15),
        (b'{"instances": [-Infinity]}', 16),
        (b'{"instances": [1e999]}', 15),
        (rb'{"instances": ["\ud800"]}', 16),
        (rb'{"instances": ["\udc00"]}', 16),
        (rb'{"instances": ["\ud800\u0041"]}', 16),
        (b'{"instances": ["a\nb"]}', 17),
        (b'{"instances": ["a",]}', 18),
        (b'{"instances": ["a"', 18),
        ('{"é": ["a" "b"]}'.encode(), 11),
        # The parser has no text to count in where the body is not UTF-8.
        (b'{"instances": ["\xff"]}', 0),
        (b'{"instances": ["\xed\xa0\x80"]}', 0),
    ],
)
def test_what_is_no_json_is_refused_with_the_place(body: bytes, place: int) -> None:
    status, said = refusal(lambda: parse(body))
    assert status == 400
    assert re.fullmatch(rf"JSON Parse error: [^\n]+: line \d+ column \d+ \(char {place}\)", said)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (["a"], 'JSON Value: [\n    "a"\n] Is not object'),
        ("a", 'JSON Value: "a" Is not object'),
        (None, "JSON Value: null Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instance": ["a"]}, "Missing 'inputs' or 'instances' key"),
        (
            {"signature_name": 100},
            'JSON Value: {\n    "signature_name": 100\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        (
            {"instances": ["a"], "inputs": 1},
            'JSON Value: {\n    "instances": [\n        "a"\n    ],\n    "inputs": 1\n} '
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
        ({"instances": "a"}, 'JSON Value: {\n    "instances": "a"\n} Excepting \'instances\' to be an list/array'),
        ({"instances": []}, "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        ({"inputs": []}, "JSON Value: {\n    \"inputs\": []\n} No values in 'inputs' array"),
        ({"signature_name": "other", "instances": ["a"]}, 'Serving signature name: "other" not found in signature def'),
        ({"instances": ["a", 5]}, ROW.format(1) + "Error: INVALID_ARGUMENT: " + TYPE.format(5, "Number")),
        ({"instances": [None]}, ROW.format(0) + "Error: INVALID_ARGUMENT: " + TYPE.format("null", "Null")),
        ({"instances": [True]}, ROW.format(0) + "Error: INVALID_ARGUMENT: " + TYPE.format("true", "True")),
        ({"instances": [1.5]}, ROW.format(0) + "Error: INVALID_ARGUMENT: " + TYPE.format("1.5", "Number")),
        (
            {"instances": [["a"]]},
            ROW.format(0) + "Error: INVALID_ARGUMENT: Every row takes one string, not a list of shape [1]",
        ),
        ({"instances": ["a", {"text": "b"}]}, "Expecting value/list but got object at item 1 of input list"),
        ({"instances": [{"text": "b"}, "a"]}, "Expecting object but got list at item 1 of input list"),
        ({"instances": [{"text": "b"}, b64(b"a")]}, "Expecting object but got list at item 1 of input list"),
        (
            {"instances": [{"title": "b"}]},
            "Failed to process element: 0 key: title of 'instances' list. "
            "Error: INVALID_ARGUMENT: JSON object: does not have named input: title",
        ),
        (
            {"instances": [{"text": "b", "title": "b"}]},
            "Failed to process element: 0 key: title of 'instances' list. "
            "Error: INVALID_ARGUMENT: JSON object: does not have named input: title",
        ),
        (
            {"instances": [{"b64": "YQ==", "x": 1}]},
            "Failed to process element: 0 key: b64 of 'instances' list. "
            "Error: INVALID_ARGUMENT: JSON object: does not have named input: b64",
        ),
        ({"instances": [{}]}, ROW.format(0) + "JSON object: {} must only have keys: text"),
        (
            {"instances": [{"text": {"b64": 1}}]},
            "Failed to process element: 0 key: text of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data',
        ),
        ({"inputs": {"title": ["a"]}}, "Missing named input: text in 'inputs' object."),
        ({"inputs": {}}, "Missing named input: text in 'inputs' object."),
        ({"inputs": "a"}, "Batching Run() input tensors must have at least one dimension"),
        ({"inputs": b64(b"a")}, "Batching Run() input tensors must have at least one dimension"),
        ({"inputs": {"text": "a"}}, "Batching Run() input tensors must have at least one dimension"),
        ({"inputs": 5}, TYPE.format(5, "Number")),
        ({"inputs": None}, TYPE.format("null", "Null")),
        ({"inputs": ["a", ["b"]]}, "Every row takes one string, not a list of shape [1]"),
        ({"inputs": ["a", {"text": "b"}]}, 'JSON Value: {\n    "text": "b"\n} not formatted correctly for base64 data'),
    ],
)
def test_refusals_in_the_words_of_tensorflow_serving(body: Any, message: str) -> None:
    assert refusal(lambda: parse(body)) == (400, message)


def test_a_long_value_is_shown_in_part() -> None:
    _, message = refusal(lambda: parse({"instances": {"x": "spam " * 1_000}}))
    assert len(message) < 300
    assert message.endswith("... Excepting 'instances' to be an list/array")


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"x" * 9_999: "a"}]},
        {"instances": ["a"], "signature_name": "x" * 9_999},
        {"instances": [["a"] * 9_999]},
        {"instances": [{"text": {"x" * 9_999: 1}}]},
        {"x" * 9_999: {"y": "z" * 9_999}, "instances": []},
        "x" * 9_999,
    ],
)
def test_no_refusal_is_as_long_as_what_it_refuses(body: Any) -> None:
    assert len(refusal(lambda: parse(body))[1]) < 600


# Any body at all

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
values = st.recursive(
    leaves | st.builds(lambda data: {"b64": data}, st.text(max_size=8)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["text", "b64", "x"]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)
keys = st.sampled_from(["instances", "inputs", "signature_name", "examples", "context", "x"])
documents = st.dictionaries(keys, values | st.lists(st.text(max_size=8), max_size=4), max_size=3)


@settings(fuzzed, max_examples=1_500)
@given(documents | values)
def test_any_json_is_a_request_or_400(document: Any) -> None:
    request, error = attempt(lambda: parse(json.dumps(document).encode()))
    if error:
        check_refusal(error)
    else:
        assert request.signature in INPUTS
        assert request.inputs
        assert all(isinstance(text, bytes) for text in request.inputs)
        assert request.rows == ("instances" in document)


@fuzzed
@given(st.binary(max_size=64) | st.text(alphabet='{}[]",:\\u0d8 NaInfty-.eE"', max_size=40).map(str.encode))
@example(b"\xef\xbb\xbf{}")
@example(b"\x00")
def test_any_bytes_are_a_request_or_400(body: bytes) -> None:
    _, error = attempt(lambda: parse(body))
    if error:
        check_refusal(error)


texts = st.text(max_size=30)
strings = st.one_of(
    texts.map(lambda text: (text, text.encode())), st.binary(max_size=30).map(lambda data: (b64(data), data))
)


@fuzzed
@given(st.lists(strings, min_size=1, max_size=8), st.sampled_from(["rows", "named rows", "columns", "named columns"]))
def test_every_text_arrives_as_sent(given_strings: list[tuple[Any, bytes]], form: str) -> None:
    sent = [value for value, _ in given_strings]
    body = {
        "rows": {"instances": sent},
        "named rows": {"instances": [{"text": value} for value in sent]},
        "columns": {"inputs": sent},
        "named columns": {"inputs": {"text": sent}},
    }[form]
    request = parse(orjson.dumps(body))
    assert request.inputs == [data for _, data in given_strings]
    assert request.rows == form.endswith("rows")
