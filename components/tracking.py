"""Runs in MLflow; ``registry.py`` has its models.

A run is opened before the graph starts and closed with its outcome. What nodes measured is read from their
artifacts, so that a node answered from the cache is tracked like one that ran.
"""

import json
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus

from components.errors import BadInputError
from components.spool import AWAY, Spool, deliver

if TYPE_CHECKING:
    # It brings TensorFlow, which a reader of runs need not wait for.
    from components.evaluation_result import SliceMetrics

_MOST_RUNS = 1000
_PARAM_CHARACTERS = 500
_TAG_CHARACTERS = 5_000
_ERROR_CHARACTERS = 100
_WHO = ("UNAUTHENTICATED", "PERMISSION_DENIED")
_log = logging.getLogger("newsdesk.tracking")


@dataclass(frozen=True)
class Store:
    """Where runs are tracked. ``artifacts`` is None where the server decides that."""

    uri: str
    artifacts: str | None


def choose_store(environment: Mapping[str, str], database: Path, artifacts: Path) -> Store:
    """Returns MLflow's own setting if there is one, else a sqlite store in the workspace.

    Raises:
        BadInputError: The setting holds a password, which would be written wherever a run says what it is tracked by.
    """
    uri = environment.get("MLFLOW_TRACKING_URI")
    if uri:
        if re.search(r"://[^/@]*:[^/@]*@", uri):
            raise BadInputError(
                "MLFLOW_TRACKING_URI holds a password: take user and password out and set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD"
            )
        return Store(uri, None)
    return Store(f"sqlite:///{database}", artifacts.as_uri())


class TrackedRun:
    """One open MLflow run.

    If the store stops answering, what follows is written to a spool and delivered by a later run: a training of
    hours does not end because its diary is away.
    """

    def __init__(self, client: MlflowClient, run_id: str, spool: Spool):
        self._client = client
        self._spool = spool
        self.id = run_id

    def params(self, values: Mapping[str, Any]) -> None:
        """Logs settings."""
        self._send("params", {key: str(value)[:_PARAM_CHARACTERS] for key, value in values.items()})

    def tags(self, values: Mapping[str, str]) -> None:
        """Sets tags."""
        self._send("tags", {key: value[:_TAG_CHARACTERS] for key, value in values.items()})

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Logs numbers of one step."""
        now = int(time.time() * 1000)
        self._send("metrics", [[_name(key), float(value), now, step] for key, value in values.items()])

    def history(self, path: Path) -> None:
        """Logs training curves, one step per epoch."""
        for epoch in json.loads(path.read_text(encoding="utf-8"))["epochs"]:
            step = epoch.pop("epoch")
            self.metrics({f"train/{key}": value for key, value in epoch.items()}, step)

    def slices(self, slices: "list[SliceMetrics]") -> None:
        """Logs the Evaluator's metrics: ``test/accuracy``, ``test/label_Sports/accuracy`` and so on."""
        values: dict[str, float] = {}
        for item in slices:
            prefix = f"test/{item.feature}={item.value}/" if item.feature else "test/"
            values |= {prefix + key: value for key, value in item.scalars.items()}
        self.metrics(values)

    def confusion_matrix(self, matrix: np.ndarray, classes: tuple[str, ...]) -> None:
        """Logs the confusion matrix as a picture; rows are true classes."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "confusion_matrix.png"
            _draw_confusion_matrix(matrix, classes).savefig(path)
            self.file(path)

    def json(self, name: str, value: Any) -> None:
        """Logs a JSON document as an artifact."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / name
            path.write_text(json.dumps(value, indent=1), encoding="utf-8")
            self.file(path)

    def file(self, path: Path) -> None:
        """Logs a file as an artifact under its own name."""
        self._send("file", str(path))

    def version_tags(self, name: str, version: str, values: Mapping[str, str]) -> None:
        """Sets tags of a registered model's version, such as the one this run trained."""
        self._send("version", [name, version, {key: value[:_TAG_CHARACTERS] for key, value in values.items()}])

    def end(self, status: str) -> None:
        """Closes the run."""
        self._send("end", [status, int(time.time() * 1000)])

    def _send(self, kind: str, value: Any) -> None:
        if self._spool.entries(self.id):
            self._spool.add(self.id, kind, value)
            return
        try:
            deliver(self._client, self.id, kind, value)
        except AWAY as error:
            self._spool.add(self.id, kind, value)
            _log.warning(
                "MLflow does not answer (%s...): what this run measures is kept in %s and delivered by the next run",
                _shorten(error),
                self._spool.directory,
            )


@dataclass(frozen=True)
class FoundRun:
    """A run as the store holds it. ``name`` is the pipeline's run id; ``seconds`` is None while the run is open."""

    id: str
    name: str
    status: str
    seconds: float | None
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def find_runs(store: Store, prefix: str) -> list[FoundRun]:
    """Returns up to 1,000 runs whose MLflow id or name begins with ``prefix``, of all experiments, newest first.

    Args:
        store: Where.
        prefix: Letters, digits, ``-``, ``_`` and ``.``; with anything else, or empty, no run is found.

    Raises:
        BadInputError: The store does not answer or refuses.
    """
    # It becomes part of a query, in which a quote would end the text.
    if not re.fullmatch(r"[\w.-]+", prefix, re.ASCII):
        return []
    client = connect(store)
    try:
        experiments = [item.experiment_id for item in client.search_experiments()]
        found = [
            run
            for attribute in ("run_id", "run_name")
            for run in client.search_runs(
                experiments, f"attributes.{attribute} LIKE '{prefix}%'", max_results=_MOST_RUNS
            )
        ]
    except AWAY as error:
        raise refused(store, error) from error
    # LIKE takes an underscore for any letter, and does not tell upper case from lower.
    named = [run for run in found if run.info.run_id.startswith(prefix) or run.info.run_name.startswith(prefix)]
    unique = {run.info.run_id: run for run in sorted(named, key=lambda run: run.info.start_time, reverse=True)}
    return [_found_run(run) for run in unique.values()]


@contextmanager
def start_run(store: Store, experiment: str, name: str, spool: Spool) -> Iterator[TrackedRun]:
    """Opens a run and closes it as FINISHED, or with the reason in the tag ``reason``: as FAILED, or as KILLED where
    the process was asked to end.

    What earlier runs left in the spool is delivered before.

    Args:
        store: Where.
        experiment: Name of the experiment; made if missing.
        name: Name of the run.
        spool: Keeps what cannot be delivered.

    Raises:
        BadInputError: The store does not answer or refuses.
    """
    client = connect(store)
    try:
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment, store.artifacts)
        # After the store has shown that it is one: what it refuses then is not delivered again.
        spool.deliver(client)
        run = TrackedRun(client, client.create_run(experiment_id, run_name=name).info.run_id, spool)
    except AWAY as error:
        raise refused(store, error) from error
    status = RunStatus.FAILED
    try:
        yield run
        status = RunStatus.FINISHED
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            status = RunStatus.KILLED
        reason = f"{error}".encode("utf-8", "backslashreplace").decode() or type(error).__name__
        run.tags({"reason": reason})
        raise
    finally:
        run.end(RunStatus.to_string(status))


def connect(store: Store) -> MlflowClient:
    """Returns a client of the store, for runs and for models.

    Raises:
        BadInputError: There cannot be such a store.
    """
    try:
        return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)
    except (*AWAY, OSError) as error:
        raise refused(store, error) from error


def refused(store: Store, error: Exception) -> BadInputError:
    """Returns the sentence for a store that does not answer or refuses."""
    if getattr(error, "error_code", None) in _WHO or re.search(r"failed with error code 40[13]\b", str(error)):
        return BadInputError(
            f"MLflow at {store.uri} does not take this user: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to those of a user who may write there"
        )
    return BadInputError(
        f"MLflow at {store.uri} does not answer or refuses ({_shorten(error)}...): "
        "start it, or set MLFLOW_TRACKING_URI to another or to nothing"
    )


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:_ERROR_CHARACTERS]


def _found_run(run: Run) -> FoundRun:
    info, data = run.info, run.data
    seconds = (info.end_time - info.start_time) / 1000 if info.end_time else None
    return FoundRun(info.run_id, info.run_name, info.status, seconds, data.params, data.metrics, data.tags)


def _name(key: str) -> str:
    """MLflow allows letters, digits and ``_-./ `` in metric names, and no empty or relative part between slashes."""
    allowed = "".join(char if char.isalnum() or char in "_-./ " else "_" for char in key)
    return "/".join("_" if part in ("", ".", "..") else part for part in allowed.split("/"))


def _draw_confusion_matrix(matrix: np.ndarray, classes: tuple[str, ...]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for row, column in np.ndindex(*matrix.shape):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{int(matrix[row, column])}", ha="center", va="center", color=color)
    return figure
