"""One request, from its headers to its answer, whichever way it came in."""

import itertools
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.jobs import Job
    from serving.metrics import Series

Headers = list[tuple[bytes, bytes]]
Reply = Callable[[int, bytes, Sequence[tuple[bytes, bytes]]], None]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_OURS = secrets.token_hex(4)
_NUMBERS = itertools.count(1)


class Heading:
    """What the line and the headers of a request say.

    Attributes:
        path: As sent, with the query.
        host: Its Host header.
        authorization: Its Authorization header.
        length: Its Content-Length header.
        request_id: The client's, where that can be logged as it is, or one of ours.
        started: When its headers were in, in seconds of ``time.monotonic``.
    """

    __slots__ = ("authorization", "host", "length", "path", "request_id", "started")

    def __init__(self, path: str, headers: Headers):
        """Reads headers; their names are in lower case, as in ASGI."""
        self.started = time.monotonic()
        self.path = path
        self.host = self.authorization = self.length = given = None
        for name, value in headers:
            if name == b"host":
                # Of two, whoever stands in front may have looked at the other: together they are no name.
                self.host = value if self.host is None else self.host + b", " + value
            elif name == b"content-length":
                self.length = value
            elif name == b"x-request-id":
                given = value
            elif name == b"authorization":
                self.authorization = value
        self.request_id = read_request_id(given)


class Exchange(Heading):
    """A request for predictions and what is known of its answer so far.

    Attributes:
        reply: Sends status, body and headers beside those of every answer.
        model: Name that was asked for.
        rows: Texts in it.
        series: Where its version is counted.
        held: What keeps that version in memory.
        job: Its place in the queue.
        headers: Of a reply with predictions.
    """

    __slots__ = ("headers", "held", "job", "model", "reply", "rows", "series")

    def __init__(self, path: str, headers: Headers, reply: Reply):
        """Reads headers; nothing is asked of a model yet."""
        super().__init__(path, headers)
        self.reply = reply
        self.model = ""
        self.rows = 0
        self.series: Series | None = None
        self.held: AbstractContextManager[Any] | None = None
        self.job: Job | None = None
        self.headers: Headers = []


def read_request_id(given: bytes | None) -> str:
    """Returns the id of a request: the client's where it is a plain word, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{_OURS}-{next(_NUMBERS):x}"
