"""ML Metadata on MariaDB: it opens, refuses the wrong password, and outlasts a restart."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from database_servers import PASSWORD, USER, MariaDB, PostgreSQL
from ml_metadata import errors, metadata_store
from ml_metadata.proto import metadata_store_pb2
from running_server import wait_until

from components.errors import BadInputError
from pipeline.workspace import metadata
from pipeline.workspace.lineage import Lineage
from pipeline.workspace.metadata import MetadataAwayError, MetadataPlace
from pipeline.workspace.stores import PASSWORD as VARIABLE

pytestmark = pytest.mark.engines

TEXT = "Überschrift, 見出し, 🗞, \\, ', \", {\\n}"


def place(mariadb: MariaDB, name: str, patience: float = 60, password: str = PASSWORD) -> MetadataPlace:
    return MetadataPlace(mariadb.uri(name), {VARIABLE: password}, patience)


def test_what_is_written_is_read_again(mariadb: MariaDB) -> None:
    here = place(mariadb, "written")
    here.check()
    store = here.open()
    kind = store.put_artifact_type(metadata_store_pb2.ArtifactType(name="Text"))
    artifact = metadata_store_pb2.Artifact(type_id=kind, uri="file:///a")
    artifact.custom_properties["what"].string_value = TEXT
    store.put_artifacts([artifact])
    (found,) = place(mariadb, "written").open().get_artifacts()
    assert found.custom_properties["what"].string_value == TEXT


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_password_is_one_sentence(mariadb: MariaDB, password: str) -> None:
    with pytest.raises(BadInputError, match=r"answers but refuses user newsdesk, its password \(NEWSDESK"):
        place(mariadb, "written", password=password).check()


def test_two_make_the_tables_of_one_database_at_once(mariadb: MariaDB) -> None:
    failed: list[BaseException] = []

    def check() -> None:
        try:
            place(mariadb, "at_once").check()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_restart_between_and_during_calls_is_outlasted(mariadb: MariaDB) -> None:
    store = place(mariadb, "outlasted").open()
    kind = store.put_artifact_type(metadata_store_pb2.ArtifactType(name="Text"))
    ended = threading.Event()
    numbers: list[int] = []

    def write() -> None:
        while not ended.is_set():
            artifact = metadata_store_pb2.Artifact(type_id=kind, uri=f"file:///{len(numbers)}")
            numbers.extend(store.put_artifacts([artifact]))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(2):
            enough = len(numbers) + 20
            wait_until(lambda enough=enough: len(numbers) >= enough, 120)  # type: ignore[misc]
            mariadb.kill()
            time.sleep(1)
            mariadb.start()
    finally:
        ended.set()
        thread.join()
    kept = {item.id: item.uri for item in place(mariadb, "outlasted").open().get_artifacts()}
    # Every write that was answered is there, each under its own number.
    assert {number: f"file:///{position}" for position, number in enumerate(numbers)}.items() <= kept.items()
    # And at most one more per restart, whose answer was lost.
    assert len(kept) <= len(numbers) + 2


def test_a_server_that_stays_away_is_told(mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place(mariadb, "away", patience=2).open()
    store.put_artifact_type(metadata_store_pb2.ArtifactType(name="Text"))
    mariadb.kill()
    try:
        pauses: list[float] = []
        with monkeypatch.context() as patch:
            # Time passes only while somebody sleeps.
            clock = SimpleNamespace(sleep=pauses.append, monotonic=lambda: sum(pauses))
            patch.setattr(metadata, "time", clock)
            with pytest.raises(MetadataAwayError, match="not come back in 2 seconds"):
                store.get_artifacts()
        assert pauses == [0.25, 0.5, 1.0]
        with pytest.raises(BadInputError, match="does not answer"):
            place(mariadb, "away").check()
    finally:
        mariadb.start()


def test_gc_sees_the_runs_of_its_own_workspace(mariadb: MariaDB, tmp_path: Path) -> None:
    """Two workspaces share the server and the name of the pipeline."""
    store = place(mariadb, "shared").open()
    types = [store.put_context_type(metadata_store_pb2.ContextType(name=name)) for name in ("pipeline", "pipeline_run")]
    kind = store.put_artifact_type(metadata_store_pb2.ArtifactType(name="Examples"))
    doing = store.put_execution_type(metadata_store_pb2.ExecutionType(name="ExampleGen"))
    parent, *_ = store.put_contexts([metadata_store_pb2.Context(type_id=types[0], name="ag_news")])
    for run in ("ours", "theirs"):
        context, *_ = store.put_contexts([metadata_store_pb2.Context(type_id=types[1], name=run)])
        execution = metadata_store_pb2.Execution(type_id=doing, last_known_state=metadata_store_pb2.Execution.COMPLETE)
        number, *_ = store.put_executions([execution])
        artifact = metadata_store_pb2.Artifact(
            type_id=kind, uri=f"{tmp_path}/{run}/artifacts/ExampleGen/examples/{number}"
        )
        made, *_ = store.put_artifacts([artifact])
        event = metadata_store_pb2.Event(execution_id=number, artifact_id=made, type=metadata_store_pb2.Event.OUTPUT)
        store.put_events([event])
        store.put_attributions_and_associations(
            [], [metadata_store_pb2.Association(context_id=item, execution_id=number) for item in (parent, context)]
        )
    found = Lineage(place(mariadb, "shared"), tmp_path / "ours" / "artifacts")
    assert [run.id for run in found.of("ag_news")] == ["ours"]
    assert found.use("ag_news", 1, []).marks == ()


def test_why_postgresql_is_refused(postgresql: PostgreSQL) -> None:
    """Once this fails, ml-metadata has been mended, and its PostgreSQL can be let in."""
    config = metadata_store_pb2.ConnectionConfig()
    server = config.postgresql
    server.host, server.port, server.user, server.password = "127.0.0.1", str(postgresql.port), USER, PASSWORD
    server.dbname = "mlmd"
    store = metadata_store.MetadataStore(config)
    kind = store.put_artifact_type(metadata_store_pb2.ArtifactType(name="Text"))
    store.put_artifacts([metadata_store_pb2.Artifact(type_id=kind, uri="without")])
    with pytest.raises(errors.InternalError, match="syntax error"):
        store.put_artifacts([metadata_store_pb2.Artifact(type_id=kind, uri="with a \\")])
