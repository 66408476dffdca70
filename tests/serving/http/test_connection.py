"""What of uvicorn's inside the limits of a connection lean on: a release without it is refused here, not in production.

``setup.py`` holds uvicorn below the next release; the ceiling moves when this and ``test_limits.py`` pass with that.
"""

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from serving.http.connection import Connection
from serving.http.server import Server

pytestmark = pytest.mark.stack

OVERRIDDEN = {
    "connection_made",
    "data_received",
    "on_message_begin",
    "on_headers_complete",
    "on_message_complete",
    "connection_lost",
    "_start_asgi_task",
    "shutdown",
    "send_400_response",
}
CALLED_BY_UVICORN = {"startup", "handle_exit", "on_tick"}


class FakeTransport:
    """Goes nowhere."""

    def get_extra_info(self, name: str) -> Any:
        return None

    def write(self, data: bytes) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def test_it_overrides_what_uvicorn_has_and_nothing_else() -> None:
    own = {name for name, value in vars(Connection).items() if callable(value) and name in dir(HttpToolsProtocol)}
    assert own - {"__init__"} == OVERRIDDEN
    assert {name for name in vars(Server) if name in dir(uvicorn.Server)} >= CALLED_BY_UVICORN


def test_uvicorn_has_what_is_read_of_it() -> None:
    async def test() -> None:
        config = uvicorn.Config(app, log_config=None)
        protocol = HttpToolsProtocol(config, ServerState(), {})
        assert config.app is app
        assert protocol.cycle is None
        assert protocol.connections == set()
        assert list(protocol.pipeline) == []
        transport: Any = FakeTransport()
        protocol.connection_made(transport)
        assert protocol.transport is transport
        assert protocol.connections == {protocol}
        protocol.data_received(b"GET / HTTP/1.1\r\n\r\n" * 2)
        assert (protocol.cycle.response_started, protocol.cycle.response_complete) == (False, False)
        assert (len(protocol.pipeline), protocol.flow.read_paused, protocol.parser.should_upgrade()) == (1, True, False)
        await asyncio.sleep(0.01)
        assert (protocol.cycle.response_started, protocol.cycle.response_complete) == (True, True)
        assert (len(protocol.pipeline), protocol.flow.read_paused) == (0, False)
        assert type(protocol.flow) is FlowControl
        assert STATUS_LINE[431].startswith(b"HTTP/1.1 431 ")
        protocol.connection_lost(None)
        assert protocol.connections == set()

    asyncio.run(test())


@pytest.mark.parametrize("name", ["started", "should_exit", "force_exit", "server_state"])
def test_uvicorns_server_has_what_is_read_of_it(name: str) -> None:
    assert hasattr(uvicorn.Server(uvicorn.Config(app, log_config=None)), name)
