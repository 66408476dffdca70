"""What MLflow should have been told while it did not answer, in files, in order, one directory per MLflow run."""

import json
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

_ENTRIES = "entries.jsonl"
_BATCH = 1000
_SMALL_BATCH = 100


class Spool:
    """Entries by MLflow run id.

    Attributes:
        directory: Where; made when it is needed.
    """

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
        with (place / _ENTRIES).open("a", encoding="utf-8") as file:
            file.write(json.dumps([kind, value]) + "\n")

    def deliver(self, client: MlflowClient) -> None:
        """Delivers everything, and forgets a run once all of it has arrived; repeating an entry changes nothing.

        Raises:
            MlflowException: The store does not answer; everything stays.
        """
        for place in sorted(self.directory.glob("*")):
            for line in (place / _ENTRIES).read_text(encoding="utf-8").splitlines():
                kind, value = json.loads(line)
                deliver(client, place.name, kind, str(place / value) if kind == "file" else value)
            shutil.rmtree(place)

    def _place(self, run_id: str) -> Path:
        if not re.fullmatch(r"\w+", run_id, re.ASCII):
            raise ValueError(f"{run_id!r} is not an MLflow run id")
        return self.directory / run_id


def deliver(client: MlflowClient, run_id: str, kind: str, value: Any) -> None:
    """Tells the store one thing: ``params``, ``tags``, ``metrics``, a ``file``, tags of a model ``version``, or that
    the run is at its ``end``."""
    match kind:
        case "params":
            for part in _parts(list(value.items()), _SMALL_BATCH):
                client.log_batch(run_id, params=[Param(*item) for item in part])
        case "tags":
            for part in _parts(list(value.items()), _SMALL_BATCH):
                client.log_batch(run_id, tags=[RunTag(*item) for item in part])
        case "metrics":
            for part in _parts(value, _BATCH):
                client.log_batch(run_id, metrics=[Metric(*item) for item in part])
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


def _parts(items: list, size: int) -> list[list]:
    return [items[start : start + size] for start in range(0, len(items), size)]
