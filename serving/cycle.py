"""A request for predictions on its connection, without what ASGI would make of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from serving.errors import RequestError
from serving.exchange import Exchange, Headers

if TYPE_CHECKING:
    from serving.connection import Connection


class _NoEvent:
    def set(self) -> None:
        pass


_NO_EVENT = _NoEvent()


class Cycle:
    """A request on the short way, in the place of uvicorn's ``RequestResponseCycle``; uvicorn sets what is public."""

    __slots__ = (
        "body",
        "connection",
        "disconnected",
        "error",
        "exchange",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "waits",
    )

    def __init__(self, connection: "Connection", path: str, headers: Headers, keep_alive: bool):
        self.connection = connection
        self.exchange = Exchange(path, headers, self.reply)
        self.body: bytes | bytearray = b""
        self.more_body = True
        self.keep_alive = keep_alive
        self.message_event = _NO_EVENT
        self.response_complete = self.disconnected = False
        # Behind another request of the same connection, whose answer comes first.
        self.waits = False
        self.error: RequestError | None = None

    def take_body(self) -> bytes:
        """Returns the body and lets go of it: this object is part of a cycle, and may outlive its answer."""
        body, self.body = bytes(self.body), b""
        return body

    def reply(self, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Sends the answer."""
        if self.response_complete:
            return
        self.response_complete = True
        if not self.disconnected:
            self.connection.answer(self, status, body, headers)
