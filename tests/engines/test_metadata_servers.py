"""ML Metadata on PostgreSQL and MariaDB: it opens, refuses the wrong password, and outlasts a restart."""

import threading
import time
from pathlib import Path

import pytest
from database_servers import PASSWORD, DatabaseServer
from ml_metadata.proto import metadata_store_pb2

from components.errors import BadInputError
from pipeline.lineage import Lineage
from pipeline.metadata import MetadataAwayError, MetadataPlace
from pipeline.stores import PASSWORD as VARIABLE

pytestmark = pytest.mark.engines


def place(database: DatabaseServer, name: str, patience: float = 60, password: str = PASSWORD) -> MetadataPlace:
    return MetadataPlace(database.uri(name), {VARIABLE: password}, patience)


def test_what_is_written_is_read_again(database: DatabaseServer) -> None:
    here = place(database, "written")
    here.check()
    store = here.open()
    kind = store.put_artifact_type(metadata_store_pb2.ArtifactType(name="Text"))
    artifact = metadata_store_pb2.Artifact(type_id=kind, uri="file:///a")
    artifact.custom_properties["what"].string_value = "Überschrift, 見出し, 🗞"
    store.put_artifacts([artifact])
    (found,) = place(database, "written").open().get_artifacts()
    assert found.custom_properties["what"].string_value == "Überschrift, 見出し, 🗞"


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_password_is_one_sentence(database: DatabaseServer, password: str) -> None:
    with pytest.raises(BadInputError, match=r"answers but refuses user newsdesk, its password \(NEWSDESK_METADATA_PASS"):
        place(database, "written", password=password).check()


def test_two_make_the_tables_of_one_database_at_once(database: DatabaseServer) -> None:
    failed: list[BaseException] = []

    def check() -> None:
        try:
            place(database, "at_once").check()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_restart_between_and_during_calls_is_outlasted(database: DatabaseServer) -> None:
    store = place(database, "outlasted").open()
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
            before = len(numbers)
            while len(numbers) < before + 20:
                time.sleep(0.01)
            database.kill()
            time.sleep(1)
            database.start()
    finally:
        ended.set()
        thread.join()
    kept = {item.id: item.uri for item in place(database, "outlasted").open().get_artifacts()}
    # Every write that was answered is there, each under its own number.
    assert {number: f"file:///{position}" for position, number in enumerate(numbers)}.items() <= kept.items()
    # And at most one more per restart, whose answer was lost.
    assert len(kept) <= len(numbers) + 2


def test_a_server_that_stays_away_is_told(database: DatabaseServer) -> None:
    store = place(database, "away", patience=2).open()
    store.put_artifact_type(metadata_store_pb2.ArtifactType(name="Text"))
    database.kill()
    try:
        started = time.monotonic()
        with pytest.raises(MetadataAwayError, match="not come back in 2 seconds"):
            store.get_artifacts()
        assert 1 < time.monotonic() - started < 10
        with pytest.raises(BadInputError, match="does not answer"):
            place(database, "away").check()
    finally:
        database.start()


def test_gc_sees_the_runs_of_its_own_workspace(database: DatabaseServer, tmp_path: Path) -> None:
    """Two workspaces share the server and the name of the pipeline."""
    store = place(database, "shared").open()
    types = [
        store.put_context_type(metadata_store_pb2.ContextType(name=name)) for name in ("pipeline", "pipeline_run")
    ]
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
        event = metadata_store_pb2.Event(
            execution_id=number, artifact_id=made, type=metadata_store_pb2.Event.OUTPUT
        )
        store.put_events([event])
        store.put_attributions_and_associations(
            [], [metadata_store_pb2.Association(context_id=item, execution_id=number) for item in (parent, context)]
        )
    found = Lineage(place(database, "shared"), tmp_path / "ours" / "artifacts")
    assert [run.id for run in found.of("ag_news")] == ["ours"]
    assert found.use("ag_news", 1, []).marks == ()
