"""One request, from its headers to its answer."""

import itertools
import re
import secrets
import time

from serving.http.metrics import Series

Headers = list[tuple[bytes, bytes]]

EXCHANGE = "newsdesk.exchange"
"""Where the scope of an ASGI request has its ``Exchange``."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_OURS = secrets.token_hex(4)
_NUMBERS = itertools.count(1)


class Exchange:
    """What the line and the headers of a request say, and what the predictor finds out about it.

    Attributes:
        path: As sent, with the query.
        host: Its Host header.
        authorization: Its Authorization header.
        length: Its Content-Length header.
        request_id: The client's, where that can be logged as it is, or one of ours.
        started: When its turn on the connection came, in seconds of ``time.monotonic``.
        model: Name of the model that was asked for.
        rows: Texts in it.
        series: Where its version is counted.
        logged: Whether its line is in the access log.
    """

    __slots__ = (
        "authorization",
        "host",
        "length",
        "logged",
        "model",
        "path",
        "request_id",
        "rows",
        "series",
        "started",
    )

    def __init__(self, path: str, headers: Headers):
        """Reads headers; their names are in lower case, as in ASGI."""
        self.started = time.monotonic()
        self.path = path
        self.host = self.authorization = self.length = given = None
        for name, value in headers:
            if name == b"host":
                # A proxy may have checked the other Host header: two are joined into a name that no check accepts.
                self.host = value if self.host is None else self.host + b", " + value
            elif name == b"content-length":
                self.length = value
            elif name == b"x-request-id":
                given = value
            elif name == b"authorization":
                self.authorization = value
        plain = given is not None and _REQUEST_ID.fullmatch(given)
        self.request_id = plain[0].decode("ascii") if plain else f"{_OURS}-{next(_NUMBERS):x}"
        self.model = ""
        self.rows = 0
        self.series: Series | None = None
        self.logged = False
