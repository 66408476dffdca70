"""TensorFlow Serving's REST API: what is taken, what is refused and in which words, and what is answered."""

import base64
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serving.errors import Code, RequestError
from serving.models import INPUTS, Answers
from serving.protocol import (
    Limits,
    PredictRequest,
    State,
    Target,
    VersionStatus,
    parse_predict,
    parse_target,
    refuse_examples,
    render_error,
    render_metadata,
    render_predictions,
    render_status,
)
from serving.signatures import Signature, TensorInfo

LIMITS = Limits()
SIGNATURES = {
    "serving_default": Signature(
        {"text": TensorInfo("serving_default_text:0", "DT_STRING", (-1,))},
        {
            "label": TensorInfo("StatefulPartitionedCall:0", "DT_STRING", (-1,)),
            "label_id": TensorInfo("StatefulPartitionedCall:1", "DT_INT64", (-1,)),
            "probabilities": TensorInfo("StatefulPartitionedCall:2", "DT_FLOAT", (-1, 4)),
        },
        "tensorflow/serving/predict",
    ),
    "__saved_model_init_op": Signature({}, {"__saved_model_init_op": TensorInfo("NoOp", "DT_INVALID", None)}, ""),
}
fuzzed = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parse(body: Any, limits: Limits = LIMITS) -> PredictRequest:
    return parse_predict(body if isinstance(body, bytes) else json.dumps(body).encode(), limits, INPUTS)


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


# Paths


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("POST", "/v1/models/ag_news:predict", Target("ag_news", None, None, "predict")),
        ("POST", "/v1/models/ag_news/versions/12:predict", Target("ag_news", 12, None, "predict")),
        ("POST", "/v1/models/ag_news/versions/0012:predict", Target("ag_news", 12, None, "predict")),
        ("POST", "/v1/models/ag_news/labels/champion:predict", Target("ag_news", None, "champion", "predict")),
        ("POST", "/v1/models/m:classify", Target("m", None, None, "classify")),
        ("POST", "/v1/models/m/versions/1:regress", Target("m", 1, None, "regress")),
        ("POST", "/V1/Models/M/VERSIONS/3:predict", Target("M", 3, None, "predict")),
        ("POST", "/v1/models/a%5Fb:predict", Target("a_b", None, None, "predict")),
        ("POST", "/v1/models/m/versions/9223372036854775807:predict", Target("m", 2**63 - 1, None, "predict")),
        ("GET", "/v1/models/m", Target("m", None, None, "status")),
        ("GET", "/v1/models/m/versions/7", Target("m", 7, None, "status")),
        ("GET", "/v1/models/m/labels/a%20b", Target("m", None, "a b", "status")),
        ("GET", "/v1/models/m/metadata", Target("m", None, None, "metadata")),
        ("GET", "/v1/models/m/versions/7/metadata", Target("m", 7, None, "metadata")),
        ("GET", "/v1/models/m/labels/champion/metadata", Target("m", None, "champion", "metadata")),
        # As odd as TensorFlow Serving is: the path matches in any case, the word after it is compared.
        ("GET", "/v1/models/m/METADATA", Target("m", None, None, "status")),
        ("GET", "/v1/models/metadata", Target("metadata", None, None, "status")),
        ("GET", "/v1/models/m?verbose=1", Target("m?verbose=1", None, None, "status")),
    ],
)
def test_paths_of_tensorflow_serving(method: str, path: str, target: Target) -> None:
    assert parse_target(method, path) == target


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/foo"),
        ("POST", "/v1/foo"),
        ("GET", "/v1/models/debug/model_name"),
        ("POST", "/v1/models"),
        ("GET", "/v1/models/foo:predict"),
        ("GET", "/v1/models/foo/version/50:predict"),
        ("POST", "/v1/models/foo/version/50:regress"),
        ("POST", "/v1/models/foo/versions/HELLO:regress"),
        ("POST", "/v1/models/foo/versions/-1:predict"),
        ("POST", "/v1/models/foo/versions/:predict"),
        ("POST", "/v1/models/foo/versions/\u0661:predict"),
        ("POST", "/v1/models/foo/metadata"),
        ("POST", "/v1/models/foo/label/some_label:regress"),
        ("POST", "/v1/models/foo/versions/50/labels/some_label:regress"),
        ("POST", "/v1/models/foo:PREDICT"),
        ("POST", "/v1/models/foo:predict/"),
        ("POST", "/v1/models/foo:predict?x=1"),
        ("POST", "/v1/models/:predict"),
        ("POST", "/v1/models/../etc:predict"),
        ("POST", "/v1/model\u017f/foo:predict"),
        ("HEAD", "/v1/models/foo"),
        ("PUT", "/v1/models/foo:predict"),
        ("DELETE", "/v1/models/foo"),
        ("OPTIONS", "/v1/models/foo:predict"),
    ],
)
def test_any_other_path_or_method_is_malformed_and_never_405(method: str, path: str) -> None:
    assert refusal(lambda: parse_target(method, path)) == (400, f"Malformed request: {method} {path}")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/versions/3", "/v1/models/labels/champion/metadata"])
def test_model_name_is_missed(path: str) -> None:
    assert refusal(lambda: parse_target("GET", path)) == (400, "Missing model name in request.")


@pytest.mark.parametrize("version", ["9223372036854775808", "18446744073709551616", "9" * 5_000])
@pytest.mark.parametrize(("method", "end"), [("POST", ":predict"), ("GET", ""), ("GET", "/metadata")])
def test_version_above_int64_is_refused(version: str, method: str, end: str) -> None:
    status, message = refusal(lambda: parse_target(method, f"/v1/models/m/versions/{version}{end}"))
    shown = version if len(version) < 100 else f"{version[:200]}..."
    assert (status, message) == (400, f"Failed to convert version: {shown} to numeric.")


opened: list[str] = []
listening = False


def listen(event: str, arguments: tuple[Any, ...]) -> None:
    if listening and event.split(".")[0] in ("open", "os", "shutil", "glob", "pathlib", "import"):
        opened.append(f"{event} {arguments}")


sys.addaudithook(listen)


@contextlib.contextmanager
def listened() -> Iterator[list[str]]:
    """Yields what is asked of the file system meanwhile."""
    global listening
    opened.clear()
    listening = True
    try:
        yield opened
    finally:
        listening = False


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models/..%2f..%2fetc:predict", "../../etc"),
        ("/v1/models/%2e%2e%2fsecret:predict", "../secret"),
        ("/v1/models/%00:predict", "\0"),
        ("/v1/models/..:predict", ".."),
        ("/v1/models/%252e:predict", "%2e"),
        ("/v1/models/%ff%fe:predict", "\ufffd\ufffd"),
        ("/v1/models/%ed%a0%80:predict", "\ufffd\ufffd\ufffd"),
        ("/v1/models/%zz:predict", "%zz"),
    ],
)
def test_names_are_decoded_once_and_touch_no_file(path: str, model: str) -> None:
    with listened() as files:
        target = parse_target("POST", path)
    assert target.model == model
    assert files == []


def test_the_ear_for_files_hears() -> None:
    with listened() as files:
        open(__file__).close()
    assert files


@fuzzed
@given(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.lists(
        st.sampled_from(
            ["/v1/models", "/", "m", "/versions/", "/labels/", "7", ":", "predict", "/metadata", "%2f", "%"]
        )
        | st.text(max_size=4),
        max_size=8,
    ).map("".join),
)
def test_a_path_is_a_target_or_400(method: str, path: str) -> None:
    target, error = attempt(lambda: parse_target(method, path))
    if error:
        check_refusal(error)
    else:
        assert target.model
        assert target.version is None or (target.label is None and 0 <= target.version < 2**63)


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
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b" ", "JSON Parse error: The document is empty. at offset: 0"),
        (b"instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        (b'{"instances": ["a"]} x', "JSON Parse error: The document root must not be followed by other values. at"),
        (b'{"instances" ["a"]}', "JSON Parse error: Missing a colon after a name of object member. at offset: "),
        (b'{"instances": ["a" "b"]}', "JSON Parse error: Missing a comma or ] after an array element. at offset: "),
        (b'{"instances": ["a"] "b"}', "JSON Parse error: Missing a comma or } after an object member. at offset: "),
        (b'{instances: ["a"]}', "JSON Parse error: Missing a name for object member. at offset: 1"),
        (b'{"instances": [NaN]}', "JSON Parse error: Invalid value. at offset: 15"),
        (b'{"instances": [-Infinity]}', "JSON Parse error: "),
        (b'{"instances": [1e999]}', "JSON Parse error: Number too big to be stored in double. at offset: 15"),
        (rb'{"instances": ["\ud800"]}', "JSON Parse error: The surrogate pair in string is invalid. at offset: "),
        (rb'{"instances": ["\udc00"]}', "JSON Parse error: The surrogate pair in string is invalid. at offset: "),
        (rb'{"instances": ["\ud800\u0041"]}', "JSON Parse error: The surrogate pair in string is invalid. at offset: "),
        (b'{"instances": ["\xff"]}', "JSON Parse error: Invalid encoding in string. at offset: "),
        (b'{"instances": ["\xed\xa0\x80"]}', "JSON Parse error: Invalid encoding in string. at offset: "),
        (b'{"instances": ["a\nb"]}', "JSON Parse error: "),
        (b'{"instances": ["a",]}', "JSON Parse error: "),
        (b'{"instances": ["a"', "JSON Parse error: "),
        ('{"é": ["a" "b"]}'.encode(), "JSON Parse error: Missing a comma or ] after an array element. at offset: 12"),
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
        (
            {"instances": "a"},
            'JSON Value: {\n    "instances": "a"\n} Excepting \'instances\' to be an list/array',
        ),
        ({"instances": []}, "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        ({"inputs": []}, "JSON Value: {\n    \"inputs\": []\n} No values in 'inputs' array"),
        (
            {"signature_name": "other", "instances": ["a"]},
            'Serving signature name: "other" not found in signature def',
        ),
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
    status, said = refusal(lambda: parse(body))
    assert status == 400
    assert said == message or (message.startswith("JSON Parse") and said.startswith(message))


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


# Limits


def test_body_up_to_a_mebibyte() -> None:
    body = b'{"instances": ["a"]}'
    padded = body + b" " * (LIMITS.body_bytes - len(body))
    assert parse(padded).inputs == [b"a"]
    assert refusal(lambda: parse(padded + b" "))[0] == 413


def test_up_to_256_instances() -> None:
    assert len(parse({"instances": ["a"] * 256}).inputs) == 256
    for body in ({"instances": ["a"] * 257}, {"inputs": ["a"] * 257}, {"inputs": {"text": ["a"] * 257}}):
        status, message = refusal(lambda body=body: parse(body))  # type: ignore[misc]
        assert status == 400
        assert message == "The request has 257 texts, 256 are allowed: send them in several requests"


@pytest.mark.parametrize("letter", ["a", "é", "🛢"])
def test_up_to_10_000_characters_however_many_bytes(letter: str) -> None:
    whole = letter * 10_000
    assert parse({"instances": [whole, b64(whole.encode())]}).inputs == [whole.encode()] * 2
    for longer in (whole + "b", b64(f"{whole}b".encode())):
        status, message = refusal(lambda longer=longer: parse({"instances": ["a", longer]}))  # type: ignore[misc]
        assert (status, message) == (400, "Text 1 has 10001 characters, 10000 are allowed: shorten it")


def test_bytes_that_are_not_utf8_are_passed_on_and_counted_as_they_are_read() -> None:
    assert parse({"instances": [b64(b"\xff" * 10_000)]}).inputs == [b"\xff" * 10_000]
    assert refusal(lambda: parse({"instances": [b64(b"\xff" * 10_001)]}))[0] == 400


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(("levels", "refused"), [(31, False), (32, True), (1_100, True), (100_000, True)])
def test_nesting_is_bounded(levels: int, refused: bool) -> None:
    # With the outermost object it is one level more.
    body = b'{"instances": ["a"], "more": ' + nested(levels) + b"}"
    if refused:
        message = "JSON Parse error: More than 32 arrays and objects within each other"
        assert refusal(lambda: parse(body)) == (400, message)
    else:
        assert parse(body).inputs == [b"a"]


def test_many_brackets_are_not_deep_ones() -> None:
    assert len(parse({"instances": [{"text": "[" * 100}] * 256}).inputs) == 256


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 2**20,
        b'{"a":' * 200_000,
        b'{"instances":' + nested(100_000) + b"}",
        b'{"instances":["' + b"a" * 1_000_000 + b'"]}',
        b'{"instances":{"a":"' + b"\\n" * 500_000 + b'"}}',
        b'{"instances":[' + b'"a",' * 256 + b'"a"]}',
        b'{"inputs":[' + b"1," * 500_000 + b"1]}",
        b"[" + b"1," * 500_000 + b"1]",
        b'{"instances":["a"]}' + b" " * 2**20,
        b'{"instances":[{"b64":"' + b"A" * 1_000_000 + b'"}]}',
        b'{"instances":[{"b64":"' + b"=" * 1_000_000 + b'"}]}',
    ],
    ids=lambda body: f"{body[:20]!r}",
)
def test_refusing_the_worst_takes_less_than_50_ms(body: bytes) -> None:
    def took() -> float:
        started = time.process_time()
        refusal(lambda: parse(body))
        return time.process_time() - started

    assert min(took() for _ in range(3)) < 0.05


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


# Replies


def answers(rows: int = 2) -> Answers:
    probabilities = np.tile(np.array([[0.1, 0.2, 0.7]], np.float32), (rows, 1))
    return Answers(["Business"] * rows, np.full(rows, 2, np.int64), probabilities)


def test_rows_are_answered_by_row_in_the_digits_of_float32() -> None:
    one = b'{"label":"Business","label_id":2,"probabilities":[0.1,0.2,0.7]}'
    assert render_predictions(answers(2), rows=True) == b'{"predictions":[' + one + b"," + one + b"]}"


def test_columns_are_answered_by_column() -> None:
    assert orjson.loads(render_predictions(answers(2), rows=False)) == {
        "outputs": {
            "label": ["Business", "Business"],
            "label_id": [2, 2],
            "probabilities": [[0.1, 0.2, 0.7], [0.1, 0.2, 0.7]],
        }
    }


@pytest.mark.parametrize("rows", [True, False])
def test_a_part_of_a_batch_is_answered_whatever_its_layout(rows: bool) -> None:
    whole = answers(6)
    part = Answers(whole.labels[::3], whole.label_ids[::3], np.asfortranarray(whole.probabilities)[::3])
    assert render_predictions(part, rows) == render_predictions(answers(2), rows)


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_not_a_number_is_an_error_and_not_null(number: float, rows: bool) -> None:
    broken = answers(2)
    broken.probabilities[1, 0] = number
    status, message = refusal(lambda: render_predictions(broken, rows))
    assert (status, message) == (500, "The model answered with a probability that is not a number")


def test_status_lists_the_newest_version_first() -> None:
    broken = VersionStatus(9, State.END, Code.INVALID_ARGUMENT, "the manifest does not match")
    assert orjson.loads(render_status([VersionStatus(2, State.AVAILABLE), broken])) == {
        "model_version_status": [
            {
                "version": "9",
                "state": "END",
                "status": {"error_code": "INVALID_ARGUMENT", "error_message": "the manifest does not match"},
            },
            {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
        ]
    }


def test_metadata_has_the_shape_of_the_protos() -> None:
    def tensor(dtype: str, name: str, *sizes: str) -> dict[str, Any]:
        shape = {"dim": [{"size": size, "name": ""} for size in sizes], "unknown_rank": False}
        return {"dtype": dtype, "tensor_shape": shape, "name": name}

    assert orjson.loads(render_metadata("ag_news", 3, SIGNATURES)) == {
        "model_spec": {"name": "ag_news", "signature_name": "", "version": "3"},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    "serving_default": {
                        "inputs": {"text": tensor("DT_STRING", "serving_default_text:0", "-1")},
                        "outputs": {
                            "label": tensor("DT_STRING", "StatefulPartitionedCall:0", "-1"),
                            "label_id": tensor("DT_INT64", "StatefulPartitionedCall:1", "-1"),
                            "probabilities": tensor("DT_FLOAT", "StatefulPartitionedCall:2", "-1", "4"),
                        },
                        "method_name": "tensorflow/serving/predict",
                        "defaults": {},
                    },
                    "__saved_model_init_op": {
                        "inputs": {},
                        "outputs": {
                            "__saved_model_init_op": {
                                "dtype": "DT_INVALID",
                                "tensor_shape": {"dim": [], "unknown_rank": True},
                                "name": "NoOp",
                            }
                        },
                        "method_name": "",
                        "defaults": {},
                    },
                }
            }
        },
    }


def test_an_error_is_always_json() -> None:
    refused = RequestError(Code.NOT_FOUND, 'no "model" \\ named \ud800 or \0')
    assert orjson.loads(render_error(refused)) == {"error": 'no "model" \\ named ? or \0'}
