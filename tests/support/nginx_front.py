"""The real nginx on loopback ports, in front of something that answers like TensorFlow Serving and takes notes."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deploy_tools import DEPLOY, find_program, nginx_module
from running_server import wait_until


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeServing:
    """What the server behind nginx was asked, and what it is to answer.

    Attributes:
        status: Of every answer.
        answer: JSON of every answer.
        delay: Seconds before it.
    """

    port: int = 0
    status: int = 200
    answer: Any = field(default_factory=lambda: {"predictions": []})
    delay: float = 0.0
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def run_fake_serving() -> Iterator[FakeServing]:
    """Yields a server on a free loopback port."""
    fake = FakeServing()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        # An answer in one piece: in two it would wait for the acknowledgement of the first.
        wbufsize = -1

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fake.asked.append(Asked(self.command, self.path, dict(self.headers.items()), body))
            time.sleep(fake.delay)
            answer = json.dumps(fake.answer).encode()
            try:
                self.send_response(fake.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except (BrokenPipeError, ConnectionResetError):
                # Whoever asked did not wait.
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_configuration(directory: Path, port: int, upstream: int, changes: dict[str, str] | None = None) -> Path:
    """Writes nginx.conf and front.js for loopback; what Docker sets is replaced, and ``changes`` to either are made.

    Raises:
        AssertionError: Something to replace is not there, or not once.
    """
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8").replace(" /tmp/", f" {directory}/")
    here = {
        "load_module modules/ngx_http_js_module.so;": f"load_module {nginx_module()};",
        "server serving:8501 ": f"server 127.0.0.1:{upstream} ",
        "listen 8501;": f"listen 127.0.0.1:{port};",
        "worker_processes auto;": "worker_processes 1;\ndaemon off;" + ("\nuser root;" if os.geteuid() == 0 else ""),
        "error_log /dev/stderr warn;": f"error_log {directory}/error.log warn;",
        "access_log /dev/stdout json;": f"access_log {directory}/access.log json;",
    }
    script = (DEPLOY / "front.js").read_text(encoding="utf-8")
    for old, new in {**here, **(changes or {})}.items():
        count = text.count(old) + script.count(old)
        assert count == 1, f"{old} stands {count} times in nginx.conf and front.js"
        text, script = text.replace(old, new), script.replace(old, new)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "front.js").write_text(script, encoding="utf-8")
    path = directory / "nginx.conf"
    path.write_text(text, encoding="utf-8")
    return path


@contextmanager
def run_nginx(directory: Path, upstream: int, changes: dict[str, str] | None = None) -> Iterator[int]:
    """Yields the port of nginx in front of ``upstream``; it is ended afterwards."""
    port = free_port()
    path = write_configuration(directory, port, upstream, changes)
    log = (directory / "start.log").open("wb")
    process = subprocess.Popen(
        [find_program("nginx"), "-p", str(directory), "-c", str(path), "-e", str(directory / "error.log")],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )

    def listens() -> bool:
        assert process.poll() is None, "".join(file.read_text() for file in directory.glob("*.log"))
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, 10, "that nginx listens")
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)
        log.close()


def free_port() -> int:
    """Returns a loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
