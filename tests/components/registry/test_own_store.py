"""The store of a workspace is made whole or not at all, and one that is dead is told from one that holds runs."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_stores import make_store

from components.errors import BadInputError
from components.registry import own_store
from components.registry.tracking import Store, choose_store, connect

# Kills its own process in the middle of MLflow's migrations.
KILLED = """
import os, signal, sys
from pathlib import Path
from alembic.operations import ops
from alembic.operations.base import Operations
from components.registry.tracking import choose_store, connect
steps = 0
real = Operations.invoke
def invoke(self, operation):
    global steps
    steps += 1
    if steps == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, operation)
Operations.invoke = invoke
root = Path(sys.argv[1])
connect(choose_store({}, root / "mlflow.db", root / "mlartifacts"))
"""


def change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def experiments(store: Store) -> list[str]:
    return [item.name for item in connect(store).search_experiments()]


def test_a_first_contact_that_is_killed_leaves_nothing_half_made(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "mlflow.db").exists()
    assert experiments(choose_store({}, tmp_path / "mlflow.db", tmp_path / "mlartifacts")) == ["Default"]


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE _alembic_tmp_metrics (key TEXT)"],
        ["DELETE FROM experiments"],
        ["DROP TABLE runs", "DELETE FROM experiments"],
        ["DROP TABLE experiments"],
    ],
    ids=lambda value: value[0][:20],
)
def test_a_dead_store_without_runs_is_made_anew_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, statements: list[str]
) -> None:
    store = make_store(tmp_path)
    change(tmp_path / "mlflow.db", "PRAGMA foreign_keys = OFF", *statements)
    assert experiments(store) == ["Default"]
    assert "was half made and held no run: it is made anew" in caplog.text
    caplog.clear()
    assert experiments(store) == ["Default"]
    assert caplog.text == ""


def test_a_dead_store_with_runs_is_left_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    connect(store).create_run("0")
    change(tmp_path / "mlflow.db", "CREATE TABLE _alembic_tmp_metrics (key TEXT)")
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(BadInputError, match="between two schemas of MLflow, and holds runs: put a copy of before"):
        connect(store)
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_a_store_that_somebody_writes_to_is_not_taken_for_dead(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(tmp_path)
    connect(store).create_experiment("mine")
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        own_store.make(tmp_path / "mlflow.db", lambda path: f"sqlite:///{path}")
        writer.execute("ROLLBACK")
    assert set(experiments(store)) == {"Default", "mine"}
    assert caplog.text == ""


def test_an_older_schema_is_brought_to_this_one_and_the_old_file_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow itself says that a schema is out of date."""
    store = make_store(tmp_path)
    run = connect(store).create_run("0").info.run_id
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        (head,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    change(database, "UPDATE alembic_version SET version_num = 'older'")

    def migrate(engine: object) -> None:
        change(Path(str(engine.url.database)), f"UPDATE alembic_version SET version_num = '{head}'")

    monkeypatch.setattr("mlflow.store.db.utils._upgrade_db", migrate)
    forget(monkeypatch)
    assert connect(store).get_run(run).info.run_id == run
    with closing(sqlite3.connect(tmp_path / "mlflow.db.before")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("older",)
        assert connection.execute("SELECT run_uuid FROM runs").fetchone() == (run,)


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path)
    database = tmp_path / "mlflow.db"
    change(database, "UPDATE alembic_version SET version_num = 'older'")
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir())

    def fail(engine: object) -> None:
        change(Path(str(engine.url.database)), "DROP TABLE runs")
        raise MlflowException("No space left on device")

    monkeypatch.setattr("mlflow.store.db.utils._upgrade_db", fail)
    forget(monkeypatch)
    with pytest.raises(BadInputError, match=r"cannot be made, or brought to the schema of this MLflow \(No space left"):
        connect(store)
    after = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir() if path.suffix != ".lock")
    assert after == before


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes MLflow look at the file as a new process would."""
    from mlflow.tracking._tracking_service import utils

    monkeypatch.setattr(utils._tracking_store_registry, "_get_store_with_resolved_uri", lambda *a, **k: new(*a, **k))

    def new(resolved: str, artifact_uri: str | None = None) -> object:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        return SqlAlchemyStore(resolved, artifact_uri or "./mlruns")


def test_a_store_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BadInputError, match=r"No space left on device.*see that there is space"):
        connect(choose_store({}, tmp_path / "mlflow.db", tmp_path / "mlartifacts"))
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_commands_that_come_at_once_make_one_store(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from components.registry.tracking import choose_store, connect; "
    program += "root = Path(sys.argv[1]); "
    program += "client = connect(choose_store({}, root / 'mlflow.db', root / 'mlartifacts')); "
    program += "client.create_experiment(sys.argv[2])"
    started = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), f"e{number}"]) for number in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    store = choose_store({}, tmp_path / "mlflow.db", tmp_path / "mlartifacts")
    assert {item.name for item in MlflowClient(store.uri).search_experiments()} == {"Default", "e0", "e1", "e2"}
