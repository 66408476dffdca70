"""The REST client against a server that answers by a script."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.errors import BadInputError
from serving.client import Client
from serving.errors import Code, RequestError
from serving.models import Answers, Prediction
from serving.protocol import State, VersionStatus, render_metadata, render_predictions, render_status
from serving.retry import Retry
from serving.signatures import Signature, TensorInfo

CLASSES = ["World", "Sports", "Business"]
TOKEN = "sesame-1234"


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    drop: bool = False
    cut: int | None = None


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def texts(self) -> list[str]:
        return json.loads(self.body)["instances"]


class Desk(ThreadingHTTPServer):
    """Answers with its replies in turn, and then as a model whose class is a text's length modulo three."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = []
        self.asked: list[Asked] = []
        self.headers: dict[str, str] = {}
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client that left is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Desk

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = Asked(self.command, self.path, dict(self.headers), body)
        self.server.asked.append(asked)
        reply = self.server.replies.pop(0) if self.server.replies else None
        reply = reply or Reply(body=render_predictions(answer(asked.texts), True), headers=self.server.headers)
        if reply.drop:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if reply.seconds:
            self.server.released.wait(reply.seconds)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[: reply.cut])
        self.close_connection = reply.cut is not None

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def answer(texts: list[str]) -> Answers:
    label_ids = np.array([len(text) % 3 for text in texts], np.int64)
    probabilities = np.full((len(texts), 3), 0.1, np.float32)
    probabilities[np.arange(len(texts)), label_ids] = 0.8
    return Answers([CLASSES[number] for number in label_ids], label_ids, probabilities)


def expected(text: str, names: list[str] | None = None) -> Prediction:
    row = answer([text]).probabilities[0].tolist()
    label_id = len(text) % 3
    return Prediction(text, CLASSES[label_id], label_id, row[label_id], dict(zip(names or CLASSES, row, strict=True)))


@pytest.fixture
def desk() -> Iterator[Desk]:
    server = Desk()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def connect(desk: Desk, waits: list[float]) -> Iterator[Callable[..., Client]]:
    """Makes clients of the desk that do not really wait; a drawn wait is its bound."""
    clients = []

    def make(retries: int = 3, **settings: Any) -> Client:
        retry = Retry(retries, sleep=waits.append, draw=lambda _, bound: bound)
        clients.append(Client(**{"url": desk.url, "classes": CLASSES, "retry": retry, **settings}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


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


@pytest.mark.parametrize("status", [429, 503, 504])
def test_what_may_pass_is_tried_again_after_growing_waits(
    connect: Callable[..., Client], desk: Desk, waits: list[float], status: int
) -> None:
    desk.replies = [Reply(status, b'{"error": "busy"}')] * 3
    assert connect().predict(["ab"]) == [expected("ab")]
    assert waits == [0.1, 0.2, 0.4]
    assert len({asked.body for asked in desk.asked}) == 1
    assert len(desk.asked) == 4


def test_a_bound_number_of_times(connect: Callable[..., Client], desk: Desk, waits: list[float]) -> None:
    desk.replies = [Reply(503, b'{"error": "busy"}')] * 9
    with pytest.raises(RequestError) as raised:
        connect(retries=2).predict(["ab"])
    assert (raised.value.code, raised.value.message) == (Code.UNAVAILABLE, "busy")
    assert len(desk.asked) == 3
    assert len(waits) == 2


def test_a_dropped_connection_is_tried_again(connect: Callable[..., Client], desk: Desk) -> None:
    desk.replies = [Reply(drop=True), Reply(body=b'{"predictions": []}', cut=5)]
    assert connect().predict(["ab"]) == [expected("ab")]
    assert len(desk.asked) == 3


def test_a_server_that_is_not_there_is_said_so(connect: Callable[..., Client], desk: Desk, waits: list[float]) -> None:
    desk.shutdown()
    desk.server_close()
    with pytest.raises(RequestError, match=f"{desk.url} cannot be reached: Connection refused") as raised:
        connect(token=TOKEN).predict(["ab"])
    assert raised.value.code is Code.UNAVAILABLE
    assert len(waits) == 3


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.INVALID_ARGUMENT),
        (401, Code.UNAUTHENTICATED),
        (404, Code.NOT_FOUND),
        (413, Code.TOO_LARGE),
        (500, Code.INTERNAL),
        (418, Code.UNKNOWN),
    ],
)
def test_what_will_not_pass_is_not_tried_again(
    connect: Callable[..., Client], desk: Desk, waits: list[float], status: int, code: Code
) -> None:
    desk.replies = [Reply(status, b'{"error": "Servable not found"}', {"Retry-After": "1"})]
    with pytest.raises(RequestError, match="Servable not found") as raised:
        connect(token=TOKEN).predict(["ab"])
    assert raised.value.code is code
    assert TOKEN not in repr(raised.value)
    assert (len(desk.asked), waits) == (1, [])


def test_a_refusal_stops_the_requests_that_would_follow(connect: Callable[..., Client], desk: Desk) -> None:
    desk.replies = [Reply(400, b'{"error": "no"}')]
    with pytest.raises(RequestError):
        connect().predict(["a"] * 300)
    assert len(desk.asked) == 1


def test_the_wait_that_a_server_asks_for_is_kept(
    connect: Callable[..., Client], desk: Desk, waits: list[float]
) -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    desk.replies = [Reply(429, b"{}", {"Retry-After": value}) for value in ("2", then, "soon")]
    connect().predict(["ab"])
    assert waits[0] == 2.1
    assert 18 < waits[1] <= 20.2
    assert waits[2] == 0.4


def test_a_wait_that_is_too_long_is_for_the_caller(
    connect: Callable[..., Client], desk: Desk, waits: list[float]
) -> None:
    desk.replies = [Reply(429, b'{"error": "queue is full"}', {"Retry-After": "3600"})]
    with pytest.raises(RequestError, match="queue is full") as raised:
        connect().predict(["ab"])
    assert (raised.value.code, raised.value.retry_after, waits) == (Code.RESOURCE_EXHAUSTED, 3600, [])


def test_a_reply_that_does_not_come_is_not_asked_for_again(
    connect: Callable[..., Client], desk: Desk, waits: list[float]
) -> None:
    desk.replies = [Reply(seconds=5)]
    with pytest.raises(RequestError, match=r"did not answer within 0\.2 s") as raised:
        connect(timeout=0.2).predict(["ab"])
    assert raised.value.code is Code.DEADLINE_EXCEEDED
    assert (len(desk.asked), waits) == (1, [])


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


def test_drawn_waits_stay_between_nothing_and_the_bound(desk: Desk, waits: list[float]) -> None:
    desk.replies = [Reply(503)] * 60
    with Client(desk.url, retry=Retry(50, sleep=waits.append)) as client, pytest.raises(RequestError):
        client.predict(["ab"])
    bounds = [min(0.1 * 2**number, 30.0) for number in range(50)]
    assert all(0 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    assert len(set(waits)) == 50
    assert max(waits) > 15


def test_retries_are_not_negative() -> None:
    with pytest.raises(ValueError, match="-1"):
        Retry(-1)


def test_a_client_waits_for_no_tensorflow() -> None:
    code = "import sys, serving.client; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
