"""The MLflow store of a workspace, a file of SQLite: made, made anew or brought to a newer schema, whole or not at all.

MLflow works on the file itself, step by step, and a file that was left between two steps answers nobody any more.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from components.errors import BadInputError
from components.files import TEMPORARY, locked

_LOCK_SECONDS = 120
_log = logging.getLogger("newsdesk.tracking")


def make(database: Path, url: Callable[[Path], str]) -> None:
    """Makes the store where there is none, and anew where its making was cut; ``url`` gives SQLAlchemy's of a file.

    Raises:
        BadInputError: It cannot be read or written, or is between two schemas and holds runs.
    """
    if _is_whole(database):
        return
    with _beside(database) as made:
        if _is_whole(database):
            return
        if database.exists():
            if _has_rows(database, "runs"):
                raise BadInputError(
                    f"{database} was left between two schemas of MLflow, and holds runs: put a copy of before there"
                )
            _log.warning("%s was half made and held no run: it is made anew", database)
        MlflowClient(url(made), url(made)).search_experiments(max_results=1)
        if database.exists():
            _copy(made, database)
        else:
            os.replace(made, database)


def upgrade(database: Path, url: Callable[[Path], str]) -> None:
    """Brings the store of an older MLflow to the schema of this one; the older stays beside it, as ``.before``.

    Raises:
        BadInputError: It cannot be written.
    """
    from mlflow.store.db import utils

    with _beside(database) as made:
        _copy(database, made)
        # As the command mlflow db upgrade does.
        utils._upgrade_db(utils.create_sqlalchemy_engine(url(made)))
        _copy(database, Path(f"{database}.before"))
        _copy(made, database)


def _copy(source: Path, target: Path) -> None:
    """Copies in one transaction, which a kill undoes, into the file that other connections have open."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def _is_whole(database: Path) -> bool:
    """Returns whether MLflow has ended making a file; one that a writer has locked for now is taken for one."""
    if not database.exists():
        return False
    try:
        # The first experiment is what it makes last.
        cut = any(name.startswith("_alembic_tmp") for name in _tables(database))
        return not cut and _has_rows(database, "experiments")
    except sqlite3.DatabaseError as error:
        # Python's own, such as of a name that is no text, has none.
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return True
        raise BadInputError(
            f"MLflow's store {database} does not answer or refuses ({error}): restore it from a copy"
        ) from error


def _has_rows(database: Path, table: str) -> bool:
    return table in _tables(database) and bool(_ask(database, f"SELECT 1 FROM {table} LIMIT 1"))  # noqa: S608


def _tables(database: Path) -> list[str]:
    return [name for (name,) in _ask(database, "SELECT name FROM sqlite_master WHERE type = 'table'")]


def _ask(database: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


@contextmanager
def _beside(database: Path) -> Iterator[Path]:
    """Yields a path to make the store at, in a directory beside it, and admits one process at a time."""
    busy = f"another process has been making {database} for {_LOCK_SECONDS} s: try again when it is done"
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        with (
            locked(database.with_name(f".{database.name}.lock"), lambda: busy, _LOCK_SECONDS),
            TemporaryDirectory(prefix=TEMPORARY, dir=database.parent) as directory,
        ):
            yield Path(directory, database.name)
    except (OSError, MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        why = " ".join(str(error).split())[:200]
        raise BadInputError(
            f"{database} cannot be made, or brought to the schema of this MLflow ({why}): see that there is space and "
            "that it can be written, and run again; what stood there is unchanged"
        ) from error
