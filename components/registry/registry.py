"""MLflow's model registry: every candidate is a version there, and aliases say what serves.

A version's tag ``serving_version`` names the directory that it was pushed to; the two count apart, since not every
candidate is pushed.
"""

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.entities import LifecycleStage, Run, ViewType

from components.errors import BadInputError, GateRejectedError
from components.outcomes import Standing
from components.push.manifest import digest_of, hash_files
from components.registry.spool import AWAY
from components.registry.tracking import Store, connect, deleted, refused

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
ALIASES = (CHAMPION, PREVIOUS, CHALLENGER)
STATUS, SERVING_VERSION = "validation_status", "serving_version"
MODEL_DIGEST, MODEL_IDENTITY = "model_digest", "model_identity"
COLLECTED = "newsdesk.collected"
"""Tag of a version whose model garbage collection has deleted; what is known of it stays."""
MODEL_PATH = "model"
"""Where a run's artifacts hold its model."""
KEPT_PATH = "kept"
"""Where they hold what a later run compares with: ``profile.json`` and ``predictions.npz``."""
_PYFUNC = Path(__file__).with_name("pyfunc.py")
_COPIED_TAGS = ("model_family", "data_digest", "code_version", "mlmd_run_id", "mlmd_context_id")
_OWNER = "newsdesk.workspace"
_MOST_VERSIONS = 10_000


@dataclass(frozen=True)
class RegisteredVersion:
    """A candidate in the registry: a version of the model ``name``; ``created`` is in milliseconds since 1970."""

    name: str
    version: str
    run_id: str
    created: int
    tags: dict[str, str]
    aliases: tuple[str, ...]

    @property
    def serving_version(self) -> int | None:
        """The directory it was pushed to; None if it was not."""
        number = self.tags.get(SERVING_VERSION)
        return int(number) if number else None

    @property
    def status(self) -> str:
        """What the gates said."""
        return self.tags.get(STATUS, Standing.PENDING)


class Registry:
    """The versions of one registered model; whatever is asked raises ``BadInputError`` if the store does not answer."""

    def __init__(self, store: Store, name: str):
        self.store = store
        self.name = name
        self._client = connect(store)

    def versions(self) -> list[RegisteredVersion]:
        """Returns all versions, newest first."""
        with self._answering():
            aliases = self._aliases()
            found = self._client.search_model_versions(f"name='{self.name}'", max_results=_MOST_VERSIONS)
        # A listing leaves aliases out.
        listed = [
            RegisteredVersion(
                self.name,
                str(item.version),
                str(item.run_id),
                int(item.creation_timestamp or 0),
                dict(item.tags),
                tuple(alias for alias in ALIASES if aliases.get(alias) == str(item.version)),
            )
            for item in found
        ]
        return sorted(listed, key=lambda item: int(item.version), reverse=True)

    def with_alias(self, alias: str) -> RegisteredVersion | None:
        """Returns the version that an alias points at."""
        return next((item for item in self.versions() if alias in item.aliases), None)

    def with_tag(self, tag: str, value: str) -> RegisteredVersion | None:
        """Returns the newest version with a tag of that value."""
        return next((item for item in self.versions() if item.tags.get(tag) == value), None)

    def snapshot(self) -> str:
        """Returns what an answer of a node that looks here depends on, as JSON for its cache key."""
        versions = self.versions()
        aliases = {alias: item.version for item in versions for alias in item.aliases}
        return json.dumps({"newest": versions[0].version if versions else None, **aliases}, sort_keys=True)

    def claim(self, owner: str, adopt: bool = False, make: bool = True) -> None:
        """Makes the model that of one workspace: two would move each other's aliases by numbers of their own.

        A model that is nobody's, as those of earlier versions, becomes its.

        Args:
            owner: Of ``Workspace.owner``.
            adopt: Whether to take it from another workspace.
            make: Whether to make a model that is not there.

        Raises:
            BadInputError: It is another workspace's, or the store does not answer.
        """
        with self._answering():
            found = self._client.search_registered_models(f"name='{self.name}'")
            if not found:
                if make:
                    self._client.create_registered_model(self.name, {_OWNER: owner})
                return
            held = found[0].tags.get(_OWNER, owner)
            if held == owner or adopt:
                self._client.set_registered_model_tag(self.name, _OWNER, owner)
                return
        raise BadInputError(
            f"the model {self.name} of MLflow at {self.store.uri} is that of workspace {held.partition(' ')[2]}: set "
            "another name (--set name=NAME) or another MLFLOW_TRACKING_URI; where that workspace was moved here or is "
            "out of use, newsdesk models adopt"
        )

    def check_unmoved(self, snapshot: str, candidate: str | None = None) -> None:
        """Holds the champion against the one with which the gates of a run compare, that of the run's ``snapshot``.

        Raises:
            GateRejectedError: Somebody has moved the alias since, and not to the ``candidate``.
        """
        versions = self.versions()
        now = next((item.version for item in versions if CHAMPION in item.aliases), None)
        then = json.loads(snapshot).get(CHAMPION)
        if now != then and (now is None or now != candidate):
            names = {item.version: f"version {item.serving_version}" for item in versions}
            was, is_ = names.get(str(then), "none"), names.get(str(now), "none")
            reason = f"the champion of {self.name} was {was} when this run began and is {is_} now"
            reason += ": newsdesk models list shows it, and the next run compares with it"
            raise GateRejectedError("Champion", [reason])

    def register(
        self, run_name: str, model: Path, digest: str, identity: str, kept: Mapping[str, Path]
    ) -> RegisteredVersion:
        """Makes a version of a SavedModel: an artifact of its run, so that a server accepts it as a source.

        A model that is registered already is not registered again.

        Args:
            run_name: Name of the run that trained it, in the experiment of the model's name.
            model: SavedModel directory.
            digest: Of its files.
            identity: Of what it has learnt; models of two exports may share it.
            kept: Files to keep beside it, by name.
        """
        if found := self.with_tag(MODEL_DIGEST, digest):
            if COLLECTED in found.tags:
                with self._answering():
                    self._keep_model(found.run_id, model)
                    self._client.delete_model_version_tag(self.name, found.version, COLLECTED)
            return found
        with self._answering():
            run = self._find_run(run_name)
            self._keep_model(run.info.run_id, model)
            for name, path in kept.items():
                with tempfile.TemporaryDirectory() as temporary:
                    self._client.log_artifact(run.info.run_id, shutil.copy(path, Path(temporary) / name), KEPT_PATH)
            if not self._client.search_registered_models(f"name='{self.name}'"):
                self._client.create_registered_model(self.name)
            tags = {name: run.data.tags[name] for name in _COPIED_TAGS if name in run.data.tags}
            made = self._client.create_model_version(
                self.name,
                f"{run.info.artifact_uri}/{MODEL_PATH}",
                run.info.run_id,
                tags={
                    **tags,
                    MODEL_DIGEST: digest,
                    MODEL_IDENTITY: identity,
                    STATUS: Standing.PENDING,
                    "run": run_name,
                },
            )
        return RegisteredVersion(
            self.name, str(made.version), run.info.run_id, int(made.creation_timestamp or 0), dict(made.tags), ()
        )

    def kept_models(self, artifacts: Path) -> list[tuple[RegisteredVersion, Path]]:
        """Returns the versions without an alias whose models lie below a directory of MLflow's artifacts, and where."""
        found = []
        for version in self.versions():
            with self._answering():
                source = self._client.get_model_version(self.name, version.version).source
            place = Path(url2pathname(urlsplit(str(source)).path))
            if not version.aliases and place.is_relative_to(artifacts) and place.is_dir() and not place.is_symlink():
                found.append((version, place))
        return found

    def test_metrics(self, version: RegisteredVersion) -> dict[str, float]:
        """Returns what the Evaluator measured on all test rows, by name."""
        with self._answering():
            metrics = self._client.get_run(version.run_id).data.metrics
        found = {key.removeprefix("test/"): value for key, value in metrics.items() if key.startswith("test/")}
        return {key: value for key, value in found.items() if "/" not in key}

    def tag(self, version: str, values: Mapping[str, str]) -> None:
        """Sets tags of a version."""
        with self._answering():
            for key, value in values.items():
                self._client.set_model_version_tag(self.name, version, key, value)

    def point(self, alias: str, version: str | None) -> None:
        """Points an alias at a version, or at nothing."""
        with self._answering():
            if version is None:
                if alias in self._aliases():
                    self._client.delete_registered_model_alias(self.name, alias)
            else:
                self._client.set_registered_model_alias(self.name, alias, version)

    def download(self, version: RegisteredVersion, target: Path) -> None:
        """Copies a version's SavedModel to ``target/model``, and what was kept beside it to ``target``.

        Raises:
            BadInputError: The store does not answer, or no longer has the model as it was registered.
        """
        with self._answering():
            for path in (MODEL_PATH, KEPT_PATH):
                if self._client.list_artifacts(version.run_id, path):
                    self._client.download_artifacts(version.run_id, path, str(target))
        wrapped, beside = target / MODEL_PATH, target / KEPT_PATH
        saved = next((path.parent for path in wrapped.glob("artifacts/*/saved_model.pb")), None)
        if saved is None:
            raise BadInputError(
                f"version {version.version} of {self.name} is in the registry but its model is gone from run "
                f"{version.run_id}: point the alias elsewhere with newsdesk models promote"
            )
        if version.tags.get(MODEL_DIGEST, digest := digest_of(hash_files(saved))) != digest:
            raise BadInputError(
                f"version {version.version} of {self.name} is in the registry but its model in run {version.run_id} is "
                "not what was registered: point the alias elsewhere with newsdesk models promote"
            )
        unwrapped = target / "unwrapped"
        saved.rename(unwrapped)
        shutil.rmtree(wrapped)
        unwrapped.rename(wrapped)
        if beside.is_dir():
            for file in beside.iterdir():
                file.rename(target / file.name)
            beside.rmdir()

    def _keep_model(self, run_id: str, model: Path) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            wrapped = Path(temporary) / MODEL_PATH
            save_pyfunc(model, wrapped)
            self._client.log_artifacts(run_id, str(wrapped), MODEL_PATH)

    def _aliases(self) -> dict[str, str]:
        found = self._client.search_registered_models(f"name='{self.name}'")
        return {alias: str(number) for model in found for alias, number in model.aliases.items()}

    def _find_run(self, name: str) -> Run:
        experiment = self._client.get_experiment_by_name(self.name)
        if experiment and experiment.lifecycle_stage == LifecycleStage.DELETED:
            raise BadInputError(deleted(self.store.uri, "experiment", experiment.experiment_id))
        experiments, asked = [experiment.experiment_id] if experiment else [], f"attributes.run_name = '{name}'"
        runs = self._client.search_runs(experiments, asked, ViewType.ALL)
        if not runs:
            raise BadInputError(
                f"MLflow at {self.store.uri} has no run {name} in experiment {self.name}: "
                "the run that trains a model opens one; was the store replaced meanwhile?"
            )
        active = [run for run in runs if run.info.lifecycle_stage == LifecycleStage.ACTIVE]
        if not active:
            raise BadInputError(deleted(self.store.uri, "run", runs[0].info.run_id))
        return active[0]

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except AWAY as error:
            raise refused(self.store, error) from error


def save_pyfunc(model: Path, target: Path) -> None:
    """Writes a SavedModel as an MLflow model, so that ``mlflow models serve`` answers with it.

    ``target`` must not exist.
    """
    with warnings.catch_warnings():
        # MLflow warns of type hints of its own, and that there is no example of an input.
        warnings.filterwarnings("ignore", ".*(Any type hint is inferred|input example was not provided)", UserWarning)
        from mlflow import pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, Schema
        from mlflow.types.schema import Array

        pyfunc.save_model(
            str(target),
            python_model=str(_PYFUNC),
            # MLflow takes a path for the address that it may be.
            artifacts={"saved_model": model.absolute().as_uri()},
            signature=ModelSignature(
                Schema([ColSpec(DataType.string, "text")]),
                Schema(
                    [
                        ColSpec(DataType.string, "label"),
                        ColSpec(DataType.long, "label_id"),
                        ColSpec(Array(DataType.float), "probabilities"),
                    ]
                ),
            ),
            pip_requirements=[f"{name}=={installed(name)}" for name in ("tensorflow", "tensorflow-text", "mlflow")],
        )
