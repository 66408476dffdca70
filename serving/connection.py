"""One client's connection: uvicorn's, with limits in time and size, and a short way for predictions.

uvicorn waits for headers and bodies as long as a client likes, and takes as many headers as it sends. And it makes a
task, a dictionary and an event of every request; predictions, which wait for nothing but the model, need none of them.
"""

import re
import time
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.cycle import Cycle
from serving.errors import Code, RequestError
from serving.limits import check_length, too_large
from serving.replies import render_error

if TYPE_CHECKING:
    from serving.app import App

_SHORT_WAY = b"/v1/models/"
_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
# What is let pass by of a body that was refused, so that the client comes to read the refusal, in bodies.
_PASSED_BY = 8
# Requests that a client may send before it has the answers to earlier ones. They are in memory, and come with a packet.
_MOST_AHEAD = 1000


class Phase(IntEnum):
    """What a connection is at."""

    NEW = 0
    HEADERS = 1
    BODY = 2
    ANSWER = 3
    IDLE = 4


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

    def connection_made(self, transport: Any) -> None:
        """Turns a client away if there are too many."""
        super().connection_made(transport)
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
                # Refused long ago, or next to nothing but the frames of its chunks.
                self._cut_off(None, "body")
            else:
                self._cut_off(RequestError(Code.INVALID_ARGUMENT, "the headers are too long"), "headers", 431)

    def on_message_begin(self) -> None:
        """Starts the clock for the headers."""
        super().on_message_begin()
        self.phase, self.since = Phase.HEADERS, time.monotonic()

    def on_headers_complete(self) -> None:
        """Starts the clock for the body; sends predictions the short way and the rest through uvicorn."""
        self.phase, self.since = Phase.BODY, time.monotonic()
        self._most = self.limits.header_bytes + _PASSED_BY * self.limits.body_bytes
        if len(self.pipeline) >= _MOST_AHEAD and not self._cut:
            self._cut_off(None, "ahead")
        if self._cut:
            return
        if self.parser.should_upgrade():
            # One that stood across two packets. The parser reads nothing behind it, the body neither.
            self._cut_off(RequestError(Code.INVALID_ARGUMENT, "this connection stays HTTP/1.1: ask so"), "http")
            return
        if self.url[: len(_SHORT_WAY)].lower() != _SHORT_WAY or self.parser.get_method() != b"POST":
            super().on_headers_complete()
            return
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        existing: Any = self.cycle
        self.cycle = cycle = Cycle(self, self.url.decode("ascii"), self.headers, keep_alive)  # type: ignore[assignment]
        try:
            check_length(cycle.exchange.length, self.limits.body_bytes)
        except RequestError as error:
            cycle.error = error
        if existing is not None and not existing.response_complete:
            cycle.waits = True
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]
        elif cycle.error:
            self.service.predictor.refuse(cycle.exchange, cycle.error)
        elif self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collects the body, no further than the limit."""
        if self._cut:
            return
        cycle: Any = self.cycle
        if type(cycle) is not Cycle:
            super().on_body(body)
            return
        if cycle.response_complete or cycle.error:
            return
        if len(cycle.body) + len(body) > self.limits.body_bytes:
            cycle.body = b""
            cycle.error = too_large(self.limits.body_bytes)
            if not cycle.waits:
                self.service.predictor.refuse(cycle.exchange, cycle.error)
        elif not cycle.body:
            cycle.body = body
        else:
            if type(cycle.body) is bytes:
                cycle.body = bytearray(cycle.body)
            cycle.body += body

    def on_message_complete(self) -> None:
        """Hands the request on."""
        if self._cut:
            return
        self.phase = Phase.ANSWER
        self._received, self._most = 0, self.limits.header_bytes
        cycle: Any = self.cycle
        if type(cycle) is not Cycle:
            super().on_message_complete()
            return
        cycle.more_body = False
        if cycle.response_complete:
            self.phase, self.since = Phase.IDLE, time.monotonic()
        elif not cycle.waits:
            self.service.predictor.predict(cycle.exchange, cycle.take_body())

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if type(cycle) is not Cycle:
            super()._start_asgi_task(cycle, app)
            return
        cycle.waits = False
        if cycle.error:
            self.service.predictor.refuse(cycle.exchange, cycle.error)
        elif not cycle.more_body:
            self.service.predictor.predict(cycle.exchange, cycle.take_body())

    def answer(self, cycle: Cycle, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Writes an answer and goes on to the next request."""
        if self.service.draining:
            cycle.keep_alive = False
        parts = [STATUS_LINE[status], self.service.common_headers(self.server_state.default_headers)]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(
            b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (cycle.exchange.request_id.encode(), len(body))
        )
        parts.append(body)
        self.transport.write(b"".join(parts))
        self.server_state.total_requests += 1
        if not cycle.keep_alive:
            self.transport.close()
            return
        if self.pipeline:
            # Not from here: a thousand requests in one packet would be a thousand calls deep.
            self.loop.call_soon(self._next)
        else:
            self.flow.resume_reading()
            if self.phase is Phase.ANSWER:
                self.phase, self.since = Phase.IDLE, time.monotonic()

    def _next(self) -> None:
        if self.transport.is_closing() or not self.pipeline:
            return
        cycle, app = self.pipeline.pop()
        if not self.pipeline:
            self.flow.resume_reading()
        self._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Goes on to the next request, and reads more only when there is none: uvicorn reads after every answer."""
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drops what the client no longer waits for."""
        waiting: list[Any] = [self.cycle, *(cycle for cycle, _ in self.pipeline)]
        super().connection_lost(exc)
        self.pipeline.clear()
        for cycle in waiting:
            if type(cycle) is Cycle and not cycle.response_complete:
                cycle.disconnected = cycle.response_complete = True
                self.service.predictor.abandon(cycle.exchange)

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
        if self.flow.read_paused:
            # The server's turn.
            self.since = now
        elif self.phase is Phase.NEW and now - self.since > limits.header_seconds:
            self._cut_off(None, "header_timeout")
        elif self.phase is Phase.HEADERS and now - self.since > limits.header_seconds:
            self._cut_off(_slow("headers", limits.header_seconds), "header_timeout", 408)
        elif self.phase is Phase.BODY and now - self.since > limits.body_seconds:
            self._cut_off(_slow("body", limits.body_seconds), "body_timeout", 408)
        elif self.phase is Phase.IDLE and now - self.since > limits.idle_seconds:
            self.transport.close()

    def _cut_off(self, error: RequestError | None, reason: str, status: int | None = None) -> None:
        """Ends a connection, with a word to the client unless an answer is under way."""
        self._cut = True
        self.since = time.monotonic()
        self.service.metrics.rejected[reason] += 1
        current: Any = self.cycle
        if error and (current is None or current.response_complete or (type(current) is Cycle and current.more_body)):
            status = status or error.code.status
            body = render_error(error)
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            if error.retry_after:
                head = b"retry-after: %d\r\n" % error.retry_after + head
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


def _ignore_upgrade(data: bytes) -> bytes:
    """Renames the header by which a client offers HTTP/2, as Java's does with every first request, and curl if told to.

    A server may pass the offer by and answer as it was asked; but the parser, once it has read it, drops the body.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nx-offer:", head) + end + rest


def _slow(what: str, seconds: float) -> RequestError:
    return RequestError(Code.INVALID_ARGUMENT, f"the {what} did not come within {seconds:g} seconds")
