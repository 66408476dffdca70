"""One client's connection: uvicorn's, with limits in time and size.

uvicorn waits for headers and bodies as long as a client likes, and takes as many headers, connections and unanswered
requests as clients send. The limits lean on uvicorn's inside, for want of a public place to put them:
``tests/serving/http/test_connection.py`` names on what, and ``setup.py`` has a ceiling.
"""

import logging
import re
import time
from collections.abc import Sized
from enum import IntEnum
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from serving.errors import Code, RequestError
from serving.http.app import App
from serving.protocol.replies import render_error

_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
# Of a refused body this many times `body_bytes` are still read, so that the client gets to read the refusal.
_PASSED_BY = 8
# Requests that a client may send before it has the answers to earlier ones. They are in memory, and come with a packet.
_MOST_AHEAD = 1000
# For a connection that was cut inside the parser, which uvicorn would call invalid HTTP.
_SILENT = logging.Logger("silent", logging.CRITICAL)


class Phase(IntEnum):
    """What a connection is at."""

    NEW = 0
    HEADERS = 1
    BODY = 2
    ANSWER = 3
    """Also the idle time until the next request."""


class _Flow(FlowControl):
    """Reads on only when no request waits for its turn: uvicorn reads on after every answer, and for every body."""

    def __init__(self, transport: Any, waiting: Sized):
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """As uvicorn makes one per client; ``config.app`` is the ``App``."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.service: App = self.config.app  # type: ignore[assignment]
        self.limits = self.service.config
        self.phase, self.since = Phase.NEW, time.monotonic()
        self._received = 0
        self._most = self.limits.header_bytes
        self._stuck_since: float | None = None
        self._cut = False
        self._answered: RequestResponseCycle | None = None

    def connection_made(self, transport: Any) -> None:
        """Turns a client away if there are too many."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        if len(self.connections) > self.limits.connections:
            self._cut_off(RequestError(Code.UNAVAILABLE, "too many connections: try again later", 1.0), "connections")

    def data_received(self, data: bytes) -> None:
        """Takes what came, within the limits on all of a message together."""
        if self._cut:
            return
        self._received += len(data)
        if self.phase is not Phase.BODY and (b"pgrade" in data or b"PGRADE" in data):
            data = _ignore_upgrade(data)
        super().data_received(data)
        if self._received > self._most and not self._cut:
            if self.phase is Phase.BODY:
                # The request was refused earlier, or almost all of it is framing of chunks.
                self._cut_off(None, "body")
            else:
                self._cut_off(RequestError(Code.INVALID_ARGUMENT, "the headers are too long"), "headers", 431)

    def on_message_begin(self) -> None:
        """Starts the clock for the headers."""
        super().on_message_begin()
        self.phase, self.since = Phase.HEADERS, time.monotonic()

    def on_headers_complete(self) -> None:
        """Starts the application, and the clock for the body.

        Raises:
            ConnectionAbortedError: The connection is cut; the parser stops at any error, and reads no body.
        """
        if len(self.pipeline) >= _MOST_AHEAD:
            self._cut_off(None, "ahead")
            self.logger = _SILENT
            raise ConnectionAbortedError
        if self.parser.should_upgrade():
            # The header was split across two packets, so `_ignore_upgrade` missed it, and the parser will not read what
            # follows as HTTP.
            self._cut_off(RequestError(Code.INVALID_ARGUMENT, "this connection stays HTTP/1.1: ask so"), "http")
            self.logger = _SILENT
            raise ConnectionAbortedError
        super().on_headers_complete()
        self.phase, self.since = Phase.BODY, time.monotonic()
        self._most = self.limits.header_bytes + _PASSED_BY * self.limits.body_bytes

    def on_message_complete(self) -> None:
        """Stops the clock: it is the application's turn."""
        super().on_message_complete()
        self.phase, self.since = Phase.ANSWER, time.monotonic()
        self._received, self._most = 0, self.limits.header_bytes

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Notes which request is being answered: uvicorn knows the one that came last."""
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the request that is being answered, and drops those that wait for their turn."""
        super().connection_lost(exc)
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        self.pipeline.clear()

    def shutdown(self) -> None:
        """Closes, unless a request is on its way in or out."""
        if self.phase not in (Phase.HEADERS, Phase.BODY):
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP."""
        if not self._cut:
            self._cut_off(RequestError(Code.INVALID_ARGUMENT, msg), "http")

    def look(self, now: float) -> None:
        """Cuts a client that takes too long; called for every connection once a second or so."""
        limits = self.limits
        if self.transport is None or self.transport.is_closing():
            if self._cut and now - self.since > limits.write_seconds:
                self.transport.abort()
            return
        if self.transport.get_write_buffer_size():
            self._stuck_since = self._stuck_since or now
            if now - self._stuck_since > limits.write_seconds:
                self.service.metrics.rejected["write_timeout"] += 1
                self.transport.abort()
            return
        self._stuck_since = None
        waited = now - self.since
        if self.flow.read_paused or (self.phase is Phase.ANSWER and not self.cycle.response_complete):
            # The server's turn.
            self.since = now
        elif self.phase is Phase.NEW and waited > limits.header_seconds:
            self._cut_off(None, "header_timeout")
        elif self.phase is Phase.HEADERS and waited > limits.header_seconds:
            self._cut_off(_slow("headers", limits.header_seconds), "header_timeout", 408)
        elif self.phase is Phase.BODY and waited > limits.body_seconds:
            self._cut_off(_slow("body", limits.body_seconds), "body_timeout", 408)
        elif self.phase is Phase.ANSWER and waited > limits.idle_seconds:
            # uvicorn does so too, but not where the answer came before the end of its request.
            self.transport.close()

    def _cut_off(self, error: RequestError | None, reason: str, status: int | None = None) -> None:
        """Ends a connection, with a word to the client unless an answer is under way."""
        self._cut = True
        self.since = time.monotonic()
        self.service.metrics.rejected[reason] += 1
        if error and self._may_speak():
            status = status or error.code.status
            body = render_error(error)
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            if error.retry_after:
                head = b"retry-after: %d\r\n" % error.retry_after + head
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

    def _may_speak(self) -> bool:
        """Returns whether the client will take bytes sent now as the reply to the request that is being read."""
        if self.cycle is None:
            return True
        # While a body comes, the cycle is that of its request, and before that, of the request before.
        answered = not self.cycle.response_started if self.phase is Phase.BODY else self.cycle.response_complete
        return answered and not self.pipeline


def _ignore_upgrade(data: bytes) -> bytes:
    """Renames the header by which a client offers HTTP/2, as Java's does with every first request, and curl if told to.

    A server may pass the offer by and answer as it was asked; but the parser, once it has read it, drops the body.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nx-offer:", head) + end + rest


def _slow(what: str, seconds: float) -> RequestError:
    return RequestError(Code.INVALID_ARGUMENT, f"the {what} did not come within {seconds:g} seconds")
