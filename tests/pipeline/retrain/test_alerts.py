"""Alerts reach a webhook and the log, and the webhook's URL reaches neither."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from pipeline.retrain.alerts import alert

FACTS = {"text": "retraining of ag_news is off", "model": "ag_news"}


class Hook(HTTPServer):
    """Notes what it is told and answers ``status`` after ``wait``."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        self.wait = threading.Event()
        self.wait.set()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook/s3cret"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Hook)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told.append((self.headers["Content-Type"], body))
        self.server.wait.wait(30)
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", self.server.url)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.wait.set()
        server.shutdown()
        thread.join()


def send(environment: dict[str, str], seconds: float = 30) -> bool:
    return alert(environment, "NEWSDESK_WEBHOOK", seconds, "circuit_open", FACTS)


def test_the_webhook_gets_json(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    assert send({"NEWSDESK_WEBHOOK": hook.url})
    assert hook.told == [("application/json", {"event": "circuit_open", **FACTS})]
    assert [(item.levelno, item.getMessage()) for item in caplog.records if item.name == "newsdesk.retrain"] == [
        (logging.ERROR, "circuit open: retraining of ag_news is off")
    ]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_refuses_is_told_to_the_log_without_its_url(
    hook: Hook, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    hook.status = status
    assert not send({"NEWSDESK_WEBHOOK": hook.url})
    assert len(hook.told) == 1
    assert f"answers {status}" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_webhook_that_hangs_is_given_up(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    hook.wait.clear()
    assert not send({"NEWSDESK_WEBHOOK": hook.url}, seconds=0.2)
    assert "does not answer (ReadTimeout)" in caplog.text


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/s3cret", "no-url-s3cret", "ftp://127.0.0.1/s3cret", "http://[s3cret"]
)
def test_a_url_that_leads_nowhere_stops_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "newsdesk")
    assert not send({"NEWSDESK_WEBHOOK": url}, seconds=1)
    own = "\n".join(item.getMessage() for item in caplog.records if item.name.startswith("newsdesk"))
    assert "does not answer" in own
    assert "s3cret" not in own


def test_without_a_webhook_the_log_says_that_nobody_else_knows(caplog: pytest.LogCaptureFixture) -> None:
    assert not send({})
    assert "NEWSDESK_WEBHOOK holds no URL" in caplog.text
