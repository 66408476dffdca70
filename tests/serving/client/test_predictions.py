"""What the client sends, and what it makes of replies that are as they should be."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from rest_desk import CLASSES, Desk, Reply, expected

from serving.client.rest import Client
from serving.errors import Code, RequestError
from serving.model.signatures import Signature, TensorInfo
from serving.protocol.replies import render_metadata, render_status
from serving.repository.states import State, VersionStatus


def test_predictions_are_what_the_model_said_to_the_last_bit(connect: Callable[..., Client], desk: Desk) -> None:
    texts = ["ab", "", "Zürich 球 \u2028 \x00", 'a "quote" \\ and\nlines']
    assert connect().predict(texts) == [expected(text) for text in texts]
    (asked,) = desk.asked
    assert (asked.method, asked.path, asked.texts) == ("POST", "/v1/models/ag_news:predict", texts)
    assert asked.headers["Content-Type"] == "application/json"


def test_no_text_asks_nobody_and_one_text_is_no_list(connect: Callable[..., Client], desk: Desk) -> None:
    assert connect().predict([]) == []
    with pytest.raises(TypeError, match="a list"):
        connect().predict("ab")
    assert desk.asked == []


def test_many_texts_go_in_several_requests_and_come_back_in_order(connect: Callable[..., Client], desk: Desk) -> None:
    texts = ["x" * (number % 7) + str(number) for number in range(600)]
    assert connect().predict(texts) == [expected(text) for text in texts]
    assert [len(asked.texts) for asked in desk.asked] == [256, 256, 88]


def test_no_request_is_larger_than_a_server_takes(connect: Callable[..., Client], desk: Desk) -> None:
    # Escaped, each of these characters is six bytes.
    texts = ["\x01" * 10_000] * 40
    assert len(connect().predict(texts)) == 40
    assert [len(asked.texts) for asked in desk.asked] == [16, 16, 8]
    assert max(len(asked.body) for asked in desk.asked) < 2**20


@pytest.mark.parametrize(
    ("version", "label", "path"),
    [
        (None, None, "/v1/models/a%2Fb%20%3A:predict"),
        (7, None, "/v1/models/a%2Fb%20%3A/versions/7:predict"),
        (None, "canary/é", "/v1/models/a%2Fb%20%3A/labels/canary%2F%C3%A9:predict"),
    ],
)
def test_a_name_stays_one_part_of_the_path(
    connect: Callable[..., Client], desk: Desk, version: int | None, label: str | None, path: str
) -> None:
    connect().predict(["a"], "a/b :", version, label)
    assert desk.asked[0].path == path


def test_a_version_and_a_label_together_are_refused(connect: Callable[..., Client]) -> None:
    with pytest.raises(ValueError, match="one of them"):
        connect().predict(["a"], version=1, label="champion")


def test_names_come_from_the_header_of_our_server(connect: Callable[..., Client], desk: Desk) -> None:
    desk.headers = {"newsdesk-classes": json.dumps(CLASSES)}
    assert connect(classes=None).predict(["ab"]) == [expected("ab")]


def test_without_names_a_class_that_no_reply_names_goes_by_its_number(connect: Callable[..., Client]) -> None:
    found = connect(classes=None).predict(["ab", "a"])
    assert [item.probabilities for item in found] == [
        expected(text, ["0", "Sports", "Business"]).probabilities for text in ("ab", "a")
    ]


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["World", "Sport", "Business"], ["'Sports'", "'Sport'"]),
        (["World", "Sports"], ["3 probabilities", "2 classes"]),
        (["World", "Sports", "World"], ["one name for two classes"]),
    ],
)
def test_names_of_another_model_are_refused(
    connect: Callable[..., Client], classes: list[str], words: list[str]
) -> None:
    with pytest.raises(RequestError) as raised:
        connect(classes=classes).predict(["", "a", "ab"])
    assert raised.value.code is Code.INTERNAL
    assert all(word in raised.value.message for word in words)


def test_status_is_typed(connect: Callable[..., Client], desk: Desk) -> None:
    versions = [
        VersionStatus(3, State.END, Code.INTERNAL, "variables are not whole"),
        VersionStatus(2, State.AVAILABLE, Code.OK, ""),
    ]
    desk.replies = [Reply(body=render_status(versions))]
    assert connect().status() == versions
    assert (desk.asked[0].method, desk.asked[0].path) == ("GET", "/v1/models/ag_news")


def test_metadata_is_typed(connect: Callable[..., Client], desk: Desk) -> None:
    signatures = {
        "serving_default": Signature(
            {"text": TensorInfo("text:0", "DT_STRING", (-1,))},
            {"probabilities": TensorInfo("p:0", "DT_FLOAT", (-1, 3)), "x": TensorInfo("x:0", "DT_FLOAT", None)},
            "tensorflow/serving/predict",
        )
    }
    desk.replies = [Reply(body=render_metadata("ag_news", 7, signatures))]
    assert connect().metadata(version=7) == signatures
    assert desk.asked[0].path == "/v1/models/ag_news/versions/7/metadata"


def test_a_client_waits_for_no_tensorflow() -> None:
    code = "import sys, serving.client.rest; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
