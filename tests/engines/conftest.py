"""Real servers, once per module."""

from collections.abc import Iterator
from typing import TypeVar

import pytest
from database_servers import DatabaseServer, MariaDB, PostgreSQL

_Server = TypeVar("_Server", bound=DatabaseServer)


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDB]:
    yield from _running(MariaDB())


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    yield from _running(PostgreSQL())


def _running(server: _Server) -> Iterator[_Server]:
    try:
        server.start()
        yield server
    finally:
        server.remove()
