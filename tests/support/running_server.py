"""A server in a thread of the test, on a free port of loopback, and raw conversations with it."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fake_models import FakeModel, FakeRepository

from serving.config import make_config
from serving.http.access_log import AccessLog
from serving.http.app import App
from serving.http.metrics import Metrics
from serving.http.server import Server, listen, url_of


@dataclass
class Answer:
    """One HTTP answer; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server that answers."""

    url: str
    address: tuple[str, int]
    app: App
    server: Server
    repository: Any

    def connect(self) -> socket.socket:
        """Returns a connection with a time limit."""
        return socket.create_connection(self.address, timeout=30)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Sends one request on a connection of its own."""
        with self.connect() as client:
            client.sendall(request(method, path, body, connection="close", **headers))
            return read_answer(client, has_body=method != "HEAD")

    def predict(self, *texts: str, path: str = "/v1/models/ag_news:predict", **headers: str) -> Answer:
        """Asks for predictions."""
        return self.ask("POST", path, json.dumps({"instances": texts}).encode(), **headers)


def request(method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
    """Returns the bytes of a request."""
    given = {"host": "127.0.0.1", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body is not None:
        given.setdefault("content-length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def read_answer(client: socket.socket, buffer: bytearray | None = None, has_body: bool = True) -> Answer:
    """Reads one answer; ``buffer`` keeps what follows it on the same connection."""
    buffer = bytearray() if buffer is None else buffer
    while b"\r\n\r\n" not in buffer:
        _more(client, buffer)
    head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split()[1])
    if status == 100:
        buffer[:] = rest
        return Answer(status, headers, b"")
    length = int(headers.get("content-length", 0)) if has_body else 0
    while len(rest) < length:
        _more(client, buffer)
        rest = bytes(buffer).partition(b"\r\n\r\n")[2]
    buffer[:] = rest[length:]
    return Answer(status, headers, rest[:length])


def _more(client: socket.socket, buffer: bytearray) -> None:
    data = client.recv(65536)
    if not data:
        raise ConnectionError(f"the server closed after {bytes(buffer)!r}")
    buffer += data


def is_closed(client: socket.socket, seconds: float = 30.0) -> bool:
    """Returns whether the server closes a connection, whatever it says before."""
    client.settimeout(seconds)
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def wait_until(check: Callable[[], bool], seconds: float = 60.0, what: str = "what is waited for") -> None:
    """Returns as soon as something holds; ``seconds`` are for what hangs, not for how long it ought to take.

    Raises:
        TimeoutError: It does not.
    """
    until = time.monotonic() + seconds
    while not check():
        if time.monotonic() > until:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.005)


@contextmanager
def running_server(
    repository: Any = None, token: str | None = None, log: AccessLog | None = None, **settings: Any
) -> Iterator[Running]:
    """Runs a server on fake models, with its limits and all, and stops it."""
    repository = repository or FakeRepository({1: FakeModel()}, {"champion": 1})
    config = make_config({"model_dir": "nowhere", "port": 0, "drain_wait_seconds": 0, "drain_seconds": 2, **settings})
    listening = listen(config)
    app = App(repository, config, token, Metrics(), log)
    ready = threading.Event()
    server = Server(app, ready.set)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            server.run([listening])
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(30)
        assert not failed, failed
        yield Running(url_of(listening), listening.getsockname()[:2], app, server, repository)
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive()
    assert not failed, failed
