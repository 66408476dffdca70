"""What MLflow should have been told while it did not answer, in files, in order, one directory per MLflow run."""

import json
import logging
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from components.files import append_line

AWAY = (MlflowException, RequestException, SQLAlchemyError)
"""What MLflow's client raises where the store does not answer or refuses: it does not wrap every error of a transfer
or of a database."""
_ENTRIES = "entries.jsonl"
_REFUSED = "refused.jsonl"
# An answer that no repetition changes, such as to a parameter that has another value already.
FINAL = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
_log = logging.getLogger("newsdesk.tracking")


class Spool:
    """Entries by MLflow run id, in a directory that is made when it is needed."""

    def __init__(self, directory: Path):
        self.directory = directory

    def entries(self, run_id: str) -> bool:
        """Returns whether anything of a run waits here."""
        return (self._place(run_id) / _ENTRIES).is_file()

    def add(self, run_id: str, kind: str, value: Any) -> None:
        """Keeps one entry; a file is copied."""
        place = self._place(run_id)
        place.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            kept = place / uuid.uuid4().hex / Path(value).name
            kept.parent.mkdir()
            value = str(Path(shutil.copy(value, kept)).relative_to(place))
        append_line(place / _ENTRIES, json.dumps([kind, value]))

    def deliver(self, client: MlflowClient) -> None:
        """Delivers everything, and forgets a run once all of it has arrived; repeating an entry changes nothing.

        What can never be delivered, because the store knows better or a kill tore the entry, is kept beside in
        ``refused.jsonl``, with one warning per run.

        Raises:
            MlflowException: Or another of ``AWAY``; the store does not answer, and everything stays.
        """
        for place in sorted(path for path in self.directory.glob("*") if path.is_dir()):
            refused = [line for line in self._lines(place) if not _delivered(client, place, line)]
            if refused:
                with (place / _REFUSED).open("a", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in refused)
                _log.warning(
                    "MLflow does not take %d of the entries that waited for it: they are kept in %s",
                    len(refused),
                    place / _REFUSED,
                )
            # From here on the run has arrived, even if this is killed before its files are gone.
            (place / _ENTRIES).unlink(missing_ok=True)
            if not (place / _REFUSED).exists():
                shutil.rmtree(place)

    def _lines(self, place: Path) -> list[str]:
        # A kill between a file and its entry leaves a directory without entries.
        path = place / _ENTRIES
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []

    def _place(self, run_id: str) -> Path:
        if not re.fullmatch(r"\w+", run_id, re.ASCII):
            raise ValueError(f"{run_id!r} is not an MLflow run id")
        return self.directory / run_id


def _delivered(client: MlflowClient, place: Path, line: str) -> bool:
    try:
        kind, value = json.loads(line)
    except ValueError:
        return False
    path = place / value if kind == "file" else None
    if path and not path.is_file():
        return False
    try:
        deliver(client, place.name, kind, str(path) if path else value)
    except MlflowException as error:
        if error.error_code not in FINAL:
            raise
        return False
    return True


def deliver(client: MlflowClient, run_id: str, kind: str, value: Any) -> None:
    """Tells the store one thing: ``params``, ``tags``, ``metrics``, a ``file``, tags of a model ``version``, or that
    the run is at its ``end``."""
    match kind:
        case "params":
            client.log_batch(run_id, params=[Param(*item) for item in value.items()])
        case "tags":
            client.log_batch(run_id, tags=[RunTag(*item) for item in value.items()])
        case "metrics":
            client.log_batch(run_id, metrics=[Metric(*item) for item in value])
        case "file":
            client.log_artifact(run_id, value)
        case "version":
            name, version, tags = value
            for key, tag in tags.items():
                client.set_model_version_tag(name, version, key, tag)
        case "end":
            status, moment = value
            client.set_terminated(run_id, status, moment)
        case _:
            raise ValueError(f"there is no entry of kind {kind!r}")
