"""Runs in MLflow; ``registry.py`` has its models.

A run is opened before the graph starts and closed with its outcome. What nodes measured is read from their
artifacts, so that a node answered from the cache is tracked like one that ran.
"""

import hashlib
import json
import logging
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run, RunStatus, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy import URL, make_url

from components.clean import clean, printable, to_json
from components.errors import BadInputError, check_address
from components.files import TEMPORARY
from components.registry import own_store
from components.registry.spool import AWAY, FINAL, Spool, deliver

if TYPE_CHECKING:
    # It brings TensorFlow, which a reader of runs need not wait for.
    from components.evaluation.result import SliceMetrics

_MOST_RUNS = 1000
_PARAM_CHARACTERS = 500
_TAG_CHARACTERS = 5_000
_ERROR_CHARACTERS = 100
_NAME_CHARACTERS, _LAST_CHARACTERS, _DIGEST_CHARACTERS = 250, 100, 10
# A key that looks like one with a digest gets one as well, so that it is not taken for that of another.
_DIGESTED = re.compile(rf"-[0-9a-f]{{{_DIGEST_CHARACTERS}}}(/|$)")
LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
"""Variables that hold what MLflow asks a user for."""
_SERVER = "start it, or set MLFLOW_TRACKING_URI to another or to nothing"
_FILE = "see that this user may write the file and its disk has space, or set MLFLOW_TRACKING_URI to another"
_WHO = ("UNAUTHENTICATED", "PERMISSION_DENIED")
_DELETED = re.compile(r"(run|experiment) (\S+) must be in the 'active' state", re.IGNORECASE)
_log = logging.getLogger("newsdesk.tracking")
# It logs with a traceback what it also raises, and what becomes a sentence here.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


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
        check_address("MLFLOW_TRACKING_URI", uri, f"set {LOGIN}")
        return Store(uri, None)
    return Store(_database_url(database), artifacts.as_uri())


def _database_url(path: Path) -> str:
    """Returns SQLAlchemy's URL of a file, which names no other file whatever the path holds.

    A path that a plain URL can carry has that, which stands in earlier workspaces.
    """
    plain = f"sqlite:///{path}"
    if make_url(plain).database == str(path):
        return plain
    # With the driver's name: MLflow makes the directory of a sqlite:/// URL, and does not decode that before.
    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string()


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
        self._send("params", _texts(values, _PARAM_CHARACTERS))

    def tags(self, values: Mapping[str, str]) -> None:
        """Sets tags."""
        self._send("tags", _texts(values, _TAG_CHARACTERS))

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
            prefix = f"test/{item.feature}_{item.value}/" if item.feature else "test/"
            values |= {prefix + key: value for key, value in item.scalars.items()}
        self.metrics(values)

    def confusion_matrix(self, matrix: np.ndarray, classes: tuple[str, ...]) -> None:
        """Logs the confusion matrix as a picture; rows are true classes."""
        from matplotlib.figure import Figure
        from sklearn.metrics import ConfusionMatrixDisplay

        figure = Figure(layout="constrained")
        display = ConfusionMatrixDisplay(matrix, display_labels=classes)
        display.plot(ax=figure.add_subplot(), cmap="Blues", colorbar=False, values_format=".0f")
        self._written("confusion_matrix.png", figure.savefig)

    def json(self, name: str, value: Any) -> None:
        """Logs a JSON document as an artifact."""
        self._written(name, lambda path: path.write_text(to_json(value, indent=1), encoding="utf-8"))

    def file(self, path: Path) -> None:
        """Logs a file as an artifact under its own name."""
        self._send("file", str(path))

    def version_tags(self, name: str, version: str, values: Mapping[str, str]) -> None:
        """Sets tags of a registered model's version, such as the one this run trained."""
        self._send("version", [name, version, _texts(values, _TAG_CHARACTERS)])

    def end(self, status: str) -> None:
        """Closes the run."""
        self._send("end", [status, int(time.time() * 1000)])

    def _send(self, kind: str, value: Any) -> None:
        if self._spool.entries(self.id):
            self._keep(kind, value)
            return
        try:
            deliver(self._client, self.id, kind, value)
        except (*AWAY, OSError) as error:
            self._keep(kind, value)
            _log.warning(
                "%s; what this run measures is kept in %s and delivered by the next run",
                _answer(self._client.tracking_uri, error) or f"MLflow does not answer ({_shorten(error)}...)",
                self._spool.directory,
            )

    def _keep(self, kind: str, value: Any) -> None:
        try:
            self._spool.add(self.id, kind, value)
        except OSError as error:
            # The disk is full, say. What the nodes made stands, and the report has their numbers.
            _log.warning("MLflow was not told of the %s of this run, nor can they wait (%s)", kind, error.strerror)

    def _written(self, name: str, write: Callable[[Path], Any]) -> None:
        """Logs a file that ``write`` writes; on the disk of the workspace, since that of TMPDIR may be small."""
        try:
            self._spool.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=self._spool.directory) as directory:
                write(Path(directory) / name)
                self.file(Path(directory) / name)
        except OSError as error:
            _log.warning("MLflow was not told of %s (%s)", name, error.strerror)


@dataclass(frozen=True)
class FoundRun:
    """A run as the store holds it. ``name`` is the pipeline's run id; ``started`` is in milliseconds since 1970, and
    ``seconds`` is None while the run is open."""

    id: str
    name: str
    status: str
    started: int
    seconds: float | None
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def find_runs(store: Store, prefix: str) -> list[FoundRun]:
    """Returns up to 1,000 runs whose MLflow id or name begins with ``prefix``, of all experiments, newest first.

    A prefix is letters, digits, ``-``, ``_`` and ``.``; with anything else, or an empty one, no run is found.

    Raises:
        BadInputError: The store does not answer or refuses, or all such runs are deleted.
    """
    # It becomes part of a query, in which a quote would end the text.
    if not re.fullmatch(r"[\w.-]+", prefix, re.ASCII):
        return []
    client = connect(store)
    try:
        stages = {item.experiment_id: item.lifecycle_stage for item in client.search_experiments(ViewType.ALL)}
        found = [
            run
            for attribute in ("run_id", "run_name")
            for run in client.search_runs(
                list(stages), f"attributes.{attribute} LIKE '{prefix}%'", ViewType.ALL, max_results=_MOST_RUNS
            )
        ]
    except AWAY as error:
        raise refused(store, error) from error
    # LIKE takes an underscore for any letter, and does not tell upper case from lower.
    named = [run for run in found if run.info.run_id.startswith(prefix) or run.info.run_name.startswith(prefix)]
    active = [run for run in named if run.info.lifecycle_stage == LifecycleStage.ACTIVE]
    if named and not active:
        info = named[0].info
        whole = stages[info.experiment_id] == LifecycleStage.DELETED
        gone = ("experiment", info.experiment_id) if whole else ("run", info.run_id)
        raise BadInputError(deleted(store.uri, *gone))
    unique = {run.info.run_id: run for run in sorted(active, key=lambda run: run.info.start_time, reverse=True)}
    return [_found_run(run) for run in unique.values()]


def open_runs(store: Store, mine: Callable[[FoundRun], bool], close: bool) -> list[FoundRun]:
    """Returns the runs that the store calls running and that ``mine`` picks, of all experiments, newest first.

    ``close`` closes them as KILLED: whoever asks for that knows that their processes are gone.

    Raises:
        BadInputError: The store does not answer or refuses.
    """
    client = connect(store)
    try:
        experiments = [item.experiment_id for item in client.search_experiments()]
        asked = f"attributes.status = '{RunStatus.to_string(RunStatus.RUNNING)}'"
        runs = map(_found_run, client.search_runs(experiments, asked, max_results=_MOST_RUNS))
        found = [run for run in runs if mine(run)]
        for run in found if close else ():
            client.set_tag(run.id, "reason", f"run {run.name} was killed")
            client.set_terminated(run.id, RunStatus.to_string(RunStatus.KILLED))
    except AWAY as error:
        raise refused(store, error) from error
    return found


def open_run(
    store: Store, experiment: str, name: str, spool: Spool, tags: Mapping[str, str], resume: bool = False
) -> TrackedRun:
    """Opens a run, in an experiment that is made if it is missing; what earlier runs left in the spool is delivered.

    Args:
        store: MLflow's.
        experiment: Its name.
        name: Of the run.
        spool: Keeps what cannot be delivered.
        tags: Are there as soon as the run is, whenever this is killed.
        resume: Whether a run of that name is taken up, which an earlier attempt opened.

    Raises:
        BadInputError: The store does not answer or refuses.
    """
    client = connect(store)
    try:
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment, store.artifacts)
        # Not earlier: the calls above showed that this is MLflow's store, so what it refuses now it refuses for good.
        spool.deliver(client)
        before = client.search_runs([experiment_id], f"attributes.run_name = '{name}'") if resume else []
        run = before[0] if before else client.create_run(experiment_id, None, dict(tags), name)
    except AWAY as error:
        raise refused(store, error) from error
    return TrackedRun(client, run.info.run_id, spool)


@contextmanager
def start_run(
    store: Store, experiment: str, name: str, spool: Spool, tags: Mapping[str, str] = MappingProxyType({})
) -> Iterator[TrackedRun]:
    """Opens a run as ``open_run`` does and closes it as FINISHED, or with the reason in the tag ``reason``: as FAILED,
    or as KILLED where the process was asked to end.
    """
    run = open_run(store, experiment, name, spool, tags)
    status = RunStatus.FAILED
    try:
        yield run
        status = RunStatus.FINISHED
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            status = RunStatus.KILLED
        run.tags({"reason": clean(str(error)) or type(error).__name__})
        raise
    finally:
        run.end(RunStatus.to_string(status))


def connect(store: Store) -> MlflowClient:
    """Returns a client of the store, for runs and for models. A workspace's own is made or upgraded where it must be.

    Raises:
        BadInputError: There cannot be such a store.
    """
    own = Path(make_url(store.uri).database or "") if store.artifacts else None
    if own:
        own_store.make(own, _database_url)
    try:
        try:
            return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)
        except MlflowException as error:
            if not own or "out-of-date database schema" not in str(error):
                raise
            own_store.upgrade(own, _database_url)
            return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)
    except (*AWAY, OSError) as error:
        raise refused(store, error) from error


def refused(store: Store, error: Exception) -> BadInputError:
    """Returns the sentence for a store that does not answer or refuses."""
    if getattr(error, "error_code", None) in _WHO or re.search(r"failed with error code 40[13]\b", str(error)):
        return BadInputError(
            f"MLflow at {store.uri} does not take this user: set {LOGIN}, to those of a user who may write there"
        )
    return BadInputError(
        _answer(store.uri, error)
        or f"MLflow at {store.uri} does not answer or refuses ({_shorten(error)}...): "
        + (_FILE if store.uri.startswith("sqlite") else _SERVER)
    )


def deleted(uri: str, kind: str, number: str) -> str:
    """Returns the sentence for a ``run`` or an ``experiment`` that the store holds as deleted."""
    command = f"MLFLOW_TRACKING_URI={shlex.quote(uri)} mlflow {kind}s restore --{kind}-id {number}"
    return f"{kind} {number} of MLflow is deleted: bring it back with {command}"


def _answer(uri: str, error: Exception) -> str | None:
    """Returns the sentence for an answer that no repetition changes; None for any other error."""
    code, said = getattr(error, "error_code", None), _shorten(error)
    # Of a server that is not MLflow, or of a proxy before it.
    if "failed with error code" in str(error):
        return None
    if found := _DELETED.search(str(error)):
        return deleted(uri, found[1], found[2])
    if code == "RESOURCE_DOES_NOT_EXIST":
        return f"MLflow at {uri} no longer has what was recorded there ({said}): newsdesk run records a model anew"
    return f"MLflow at {uri} answers but refuses ({said}): mend what it names" if code in FINAL else None


def _shorten(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:_ERROR_CHARACTERS]


def _found_run(run: Run) -> FoundRun:
    info, data = run.info, run.data
    seconds = (info.end_time - info.start_time) / 1000 if info.end_time else None
    return FoundRun(
        info.run_id, info.run_name, info.status, info.start_time, seconds, data.params, data.metrics, data.tags
    )


def _texts(values: Mapping[str, Any], most: int) -> dict[str, str]:
    return {_name(key): clean(str(value))[:most] for key, value in values.items()}


def _name(key: str) -> str:
    """Returns MLflow's name for a key: the key where MLflow takes it, else what it takes of both sides of the last
    slash, each with a digest where it was changed, since no two keys may share a name."""
    whole = _allowed(key, _NAME_CHARACTERS)
    head, slash, last = key.rpartition("/")
    if whole == key or not slash:
        return whole
    return _allowed(head, _NAME_CHARACTERS - _LAST_CHARACTERS - 1) + slash + _allowed(last, _LAST_CHARACTERS)


def _allowed(text: str, most: int) -> str:
    # Letters, digits and "_-./ ", no empty or relative part between slashes, and no two dots at the beginning.
    plain = re.sub(r"[^\w./ -]", "_", text)
    plain = "/".join("_" if part in ("", ".", "..") else part for part in plain.split("/"))
    plain = f"_{plain[1:]}" if plain.startswith("..") else plain
    if plain == text and len(text) <= most and not _DIGESTED.search(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{plain[: most - _DIGEST_CHARACTERS - 1]}-{digest}"
