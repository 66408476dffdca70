"""An HTTP server on loopback that answers from a table and keeps what it was asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


@dataclass
class FakeService:
    """``answers`` has, by method and path, the status and the JSON; anything else is 404."""

    answers: dict[tuple[str, str], tuple[int, Any]]
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def of(self, method: str, path: str) -> list[Asked]:
        return [item for item in self.asked if (item.method, item.path) == (method, path)]

    @contextmanager
    def serving(self) -> Iterator["FakeService"]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(length)
                parts = urlsplit(self.path)
                form = "json" not in self.headers.get("Content-Type", "json")
                body = raw.decode() if form else json.loads(raw) if raw else None
                headers = {name.lower(): value for name, value in self.headers.items()}
                service.asked.append(Asked(self.command, parts.path, parse_qs(parts.query), headers, body))
                status, answer = service.answers.get((self.command, parts.path), (404, {"error": parts.path}))
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
