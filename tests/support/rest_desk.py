"""A server of TensorFlow Serving's REST API that answers as it is told to, and keeps what it was asked."""

import json
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from serving.model.loaded import Answers, Prediction
from serving.protocol.replies import render_predictions

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
