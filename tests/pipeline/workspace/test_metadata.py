"""The metadata store by URI: what is opened, and how an outage is outlasted or told."""

import socket
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import errors, metadata_store
from ml_metadata.proto import metadata_store_pb2

from components.errors import BadInputError
from pipeline.workspace import metadata
from pipeline.workspace.metadata import MetadataAwayError, MetadataPlace, PatientStore, connection

pytestmark = pytest.mark.stack

SERVER = "mysql://newsdesk@127.0.0.1:{port}/mlmd"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time passes only while somebody sleeps."""
    slept: list[float] = []
    monkeypatch.setattr(metadata.time, "sleep", slept.append)
    monkeypatch.setattr(metadata.time, "monotonic", lambda: sum(slept))
    return slept


class FakeServer:
    """Refuses connections while it is down; each connection breaks for good when it goes down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.down_for, self.opened, self.calls, self.epoch = 0, 0, [], 0
        monkeypatch.setattr(metadata_store, "MetadataStore", self.connect)

    def connect(self, config: Any) -> Any:
        if self.down_for:
            self.down_for -= 1
            raise RuntimeError("mysql_real_connect failed: errno: , error: ")
        self.opened += 1
        return FakeConnection(self)

    def restart(self, refusals: int) -> None:
        self.epoch += 1
        self.down_for = refusals


class FakeConnection:
    kind = "not callable"

    def __init__(self, server: FakeServer):
        self._server, self._epoch = server, server.epoch

    def get(self, number: int) -> int:
        if self._epoch != self._server.epoch:
            raise errors.InternalError("mysql_query failed: errno: Lost connection to MySQL server during query")
        self._server.calls.append(number)
        return number * 2

    def broken(self) -> None:
        self._server.calls.append("broken")
        raise errors.InternalError("a fault of its own")

    def wrong(self) -> None:
        self._server.calls.append("wrong")
        raise errors.InvalidArgumentError("no such type")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    return FakeServer(monkeypatch)


def test_a_file_is_made_where_it_is_missing(tmp_path: Path) -> None:
    place = MetadataPlace(f"sqlite:///{tmp_path}/deep/metadata.sqlite", {})
    assert not place.exists()
    store = place.open()
    store.put_artifact_type(metadata_store_pb2.ArtifactType(name="T"))
    assert place.exists()
    assert [item.name for item in MetadataPlace(place.uri, {}).open().get_artifact_types()] == ["T"]


def test_the_password_comes_from_the_environment_alone() -> None:
    place = MetadataPlace(SERVER.format(port=5432), {"NEWSDESK_METADATA_PASSWORD": "s3cr3t"})
    assert place.connection.mysql.password == "s3cr3t"
    assert b"s3cr3t" not in connection(place.uri).SerializeToString()
    mysql = connection("mysql://me@db.example:3307/mlmd", "s3cr3t").mysql
    assert (mysql.host, mysql.port, mysql.user, mysql.password, mysql.database) == (
        "db.example",
        3307,
        "me",
        "s3cr3t",
        "mlmd",
    )


@pytest.mark.parametrize("uri", ["mysql://a:s3cr3t@b/c", "postgresql://a@b/c", "oracle://a@b/c", ""])
def test_what_cannot_be_reached_is_refused(uri: str) -> None:
    with pytest.raises(BadInputError, match=r"password|a metadata store is|client of PostgreSQL") as refused:
        MetadataPlace(uri, {})
    assert "s3cr3t" not in str(refused.value)


def test_a_server_that_is_not_there_is_told_at_first_contact(free_port: int, pauses: list[float]) -> None:
    place = MetadataPlace(SERVER.format(port=free_port), {}, patience_seconds=600)
    with pytest.raises(BadInputError, match=r"^the metadata store mysql://.* does not answer \(.*\): start it"):
        place.check()
    assert sum(pauses) < 4


def test_a_server_that_refuses_is_told_apart(server: FakeServer, pauses: list[float]) -> None:
    server.down_for = 1000
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = MetadataPlace(SERVER.format(port=listening.getsockname()[1]), {})
        with pytest.raises(BadInputError, match=r"answers but refuses user newsdesk, its password \(NEWSDESK_METADATA"):
            place.check()


def test_two_that_make_the_tables_at_once_get_along(server: FakeServer, pauses: list[float]) -> None:
    server.down_for = 2
    MetadataPlace(SERVER.format(port=1), {}).check()
    assert server.opened == 1


def test_an_outage_is_outlasted_on_a_new_connection(server: FakeServer, pauses: list[float]) -> None:
    store = MetadataPlace(SERVER.format(port=1), {}, patience_seconds=60).open()
    assert store.get(1) == 2
    server.restart(refusals=5)
    assert store.get(number=2) == 4
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert server.calls == [1, 2]
    assert (server.opened, store.kind) == (2, "not callable")


def test_an_outage_that_lasts_ends_in_one_sentence_and_no_second_wait(
    server: FakeServer, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    place = MetadataPlace(SERVER.format(port=1), {}, patience_seconds=60)
    store = place.open()
    server.restart(refusals=10**6)
    with pytest.raises(MetadataAwayError, match=r"gone away and not come back in 60 seconds .* run again"):
        store.get(1)
    waited = sum(pauses)
    assert 50 < waited <= 60
    for attempt in (place.open, lambda: store.get(1)):
        with pytest.raises(MetadataAwayError):
            attempt()
    assert sum(pauses) == waited
    assert [record.message for record in caplog.records] == [
        f"the metadata store {place.uri} does not answer: waiting for it"
    ]


def test_an_error_of_the_call_is_not_taken_for_an_outage(server: FakeServer, pauses: list[float]) -> None:
    store = PatientStore(MetadataPlace(SERVER.format(port=1), {}, patience_seconds=60))
    with pytest.raises(errors.InvalidArgumentError, match="no such type"):
        store.wrong()
    assert server.calls == ["wrong"]
    with pytest.raises(errors.InternalError, match="a fault of its own"):
        store.broken()
    assert server.calls == ["wrong"] + ["broken"] * 5
