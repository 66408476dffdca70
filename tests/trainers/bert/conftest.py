"""A server on this machine that stands in for a package index and for TF-Hub."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest
from web_server import served


@dataclass
class Request:
    """What was asked: path with query, and the login."""

    path: str
    authorization: str | None


@dataclass
class WebServer:
    """Serves ``pages``, path with query to media type and content, and notes what it was asked for."""

    port: int = 0
    pages: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    def url(self, path: str = "", login: str = "", host: str = "127.0.0.1") -> str:
        return f"http://{login}{host}:{self.port}{path}"

    def paths(self) -> list[str]:
        return [request.path for request in self.asked]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        headers = handler.headers
        self.asked.append(Request(handler.path, headers["Authorization"]))
        if handler.path not in self.pages:
            handler.send_error(404)
            return
        media_type, body = self.pages[handler.path]
        start = int(headers["Range"][6:-1]) if headers["Range"] else 0
        handler.send_response(206 if headers["Range"] else 200)
        handler.send_header("Content-Type", media_type)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # the client has had enough
            handler.wfile.write(body[start:])


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """An empty server; reached as 127.0.0.1 and, as if it were another host, as localhost."""
    state = WebServer()
    with served(state.answer, monkeypatch) as state.port:
        yield state
