"""Real servers, once per module."""

from collections.abc import Iterator

import pytest
from database_servers import DatabaseServer, MariaDB, PostgreSQL


@pytest.fixture(scope="module", params=[PostgreSQL, MariaDB], ids=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    yield from _running(request.param())


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    yield from _running(PostgreSQL())


def _running(server: DatabaseServer) -> Iterator[DatabaseServer]:
    try:
        server.start()
        yield server
    finally:
        server.remove()
