"""The desk, and clients of it that do not really wait."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rest_desk import CLASSES, Desk

from serving.client.rest import Client
from serving.client.retry import Retry


@pytest.fixture
def desk() -> Iterator[Desk]:
    server = Desk()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def connect(desk: Desk, waits: list[float]) -> Iterator[Callable[..., Client]]:
    """Makes clients of the desk that do not really wait; a drawn wait is its bound."""
    clients = []

    def make(retries: int = 3, **settings: Any) -> Client:
        retry = Retry(retries, sleep=waits.append, draw=lambda _, bound: bound)
        clients.append(Client(**{"url": desk.url, "classes": CLASSES, "retry": retry, **settings}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
