"""Tokens, addresses and replies that are not as they should be."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rest_desk import CLASSES, TOKEN, Desk, Reply

from components.errors import BadInputError
from serving.client.rest import Client
from serving.errors import Code, RequestError


def test_the_token_is_sent_and_shown_nowhere(
    connect: Callable[..., Client], desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    client = connect(token=TOKEN)
    client.predict(["ab"])
    assert desk.asked[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in repr(client) + repr(vars(client)) + caplog.text


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ключ"])
def test_a_token_that_cannot_be_sent_is_refused_unseen(connect: Callable[..., Client], token: str) -> None:
    with pytest.raises(BadInputError) as raised:
        connect(token=token)
    assert not token or token not in str(raised.value)


def test_a_password_file_is_not_read(
    connect: Callable[..., Client], desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    connect().predict(["ab"])
    connect(token=TOKEN).predict(["ab"])
    assert [asked.headers.get("Authorization") for asked in desk.asked] == [None, f"Bearer {TOKEN}"]


def test_the_token_does_not_follow_to_another_address(connect: Callable[..., Client], desk: Desk) -> None:
    desk.replies = [Reply(307, b"", {"Location": f"{desk.url}/elsewhere"})]
    with pytest.raises(RequestError, match=r"answers 307 .* to http://127.0.0.1.*/elsewhere"):
        connect(token=TOKEN).predict(["ab"])
    assert len(desk.asked) == 1


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8501", "ftp://host", "http://", "http://host:port", "http://host:0", "http://host?x=1", "http://["],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadInputError, match="address"):
        Client(url)


def test_a_password_in_the_address_is_refused_unseen() -> None:
    with pytest.raises(BadInputError) as raised:
        Client("http://me:secret@host")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"outputs": {}}',
        b'{"predictions": []}',
        b'{"predictions": [0.5]}',
        b'{"predictions": [{"label": "World", "label_id": 3, "probabilities": [0.8, 0.1, 0.1]}]}',
        b'{"predictions": [{"label": "World", "label_id": -3, "probabilities": [0.8, 0.1, 0.1]}]}',
        b'{"predictions": [{"label": "World", "label_id": 0.0, "probabilities": [0.8, 0.1, 0.1]}]}',
        b'{"predictions": [{"label": 1, "label_id": 0, "probabilities": [0.8, 0.1, 0.1]}]}',
        b'{"predictions": [{"label": "World", "label_id": 0, "probabilities": ["0.8", 0.1, 0.1]}]}',
        b'{"predictions": [{"label": "World", "label_id": 0, "probabilities": []}]}',
        b'{"predictions": [{"label": "World", "label_id": 0, "probabilities": 0.8}]}',
        b'{"predictions": [{"label": "World", "label_id": 0, "probabilities": [0.8, NaN, 0.1]}]}',
    ],
)
def test_a_reply_that_is_none_is_an_error(connect: Callable[..., Client], desk: Desk, body: bytes) -> None:
    for classes in (CLASSES, None):
        desk.replies = [Reply(body=body)]
        with pytest.raises(RequestError, match="the server's reply has") as raised:
            connect(classes=classes).predict(["ab"])
        assert raised.value.code is Code.INTERNAL


def test_rows_of_different_widths_are_an_error(connect: Callable[..., Client], desk: Desk) -> None:
    rows = [{"label": "World", "label_id": 0, "probabilities": [0.5] * width} for width in (2, 3)]
    desk.replies = [Reply(body=json.dumps({"predictions": rows}).encode())]
    with pytest.raises(RequestError, match="another row has 2"):
        connect(classes=None).predict(["a", "b"])


@pytest.mark.parametrize("header", ["World,Sports", '"World"', "[1, 2, 3]"])
def test_a_header_without_names_is_an_error(connect: Callable[..., Client], desk: Desk, header: str) -> None:
    desk.headers = {"newsdesk-classes": header}
    with pytest.raises(RequestError, match="newsdesk-classes"):
        connect(classes=None).predict(["ab"])


def test_a_text_that_utf8_cannot_carry_is_refused_by_its_number(connect: Callable[..., Client], desk: Desk) -> None:
    with pytest.raises(RequestError, match="text 2 ") as raised:
        connect().predict(["fine", "\ud800"])
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert desk.asked == []


@pytest.mark.parametrize("ask", [Client.status, Client.metadata])
@pytest.mark.parametrize("body", [b"{}", b"[1]", b'{"model_version_status": [{}], "metadata": {"signature_def": {}}}'])
def test_another_reply_is_no_status_and_no_metadata(
    connect: Callable[..., Client], desk: Desk, ask: Callable[[Client], object], body: bytes
) -> None:
    desk.replies = [Reply(body=body)]
    with pytest.raises(RequestError, match="not TensorFlow Serving's API"):
        ask(connect())


def test_a_page_of_something_else_is_not_taken_for_a_message(connect: Callable[..., Client], desk: Desk) -> None:
    desk.replies = [Reply(404, b"<html>Not here</html>")]
    with pytest.raises(RequestError, match="answers 404 Not Found, which is not TensorFlow Serving's API"):
        connect().predict(["ab"])
