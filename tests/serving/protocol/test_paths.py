"""TensorFlow Serving's paths: what is a target, and that none is a file."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_calls import attempt, check_refusal, fuzzed, refusal

from serving.protocol.targets import Target, parse_target


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
