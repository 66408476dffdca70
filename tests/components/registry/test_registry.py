"""The registry against real MLflow: sqlite, and a server of its own where it makes a difference."""

import json
import logging
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from by_length import save_by_length
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_stores import Server, make_store, out_of_order

from components.errors import BadInputError
from components.push.manifest import MANIFEST, digest_of, hash_files, hash_model, make_manifest
from components.registry.promotion import promote
from components.registry.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    SERVING_VERSION,
    RegisteredVersion,
    Registry,
    save_pyfunc,
)
from components.registry.spool import Spool
from components.registry.tracking import Store, start_run

pytestmark = pytest.mark.stack

NAME = "ag_news"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that answers."""
    return save_by_length(tmp_path_factory.mktemp("classifier") / "model")


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a directory laid out like a SavedModel; other weights, another model."""

    def make(weights: str) -> Path:
        directory = tmp_path / "models" / weights
        for name, text in (("saved_model.pb", "graph"), ("variables/variables.index", weights)):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text)
        return directory

    return make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "workspace")


@pytest.fixture
def client(store: Store) -> MlflowClient:
    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, NAME)


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, Path]:
    """Files to keep beside a model, under names that are not their own."""
    paths = {"profile.json": tmp_path / "one.json", "predictions.npz": tmp_path / "two.npz"}
    for name, path in paths.items():
        path.write_text(f"content of {name}")
    return paths


def track(store: Store, name: str, experiment: str = NAME, tags: dict[str, str] | None = None) -> str:
    """Tracks a run and returns its MLflow id."""
    with start_run(store, experiment, name, Spool(Path("never used"))) as run:
        run.tags(tags or {})
    return run.id


def add_version(client: MlflowClient, name: str = NAME, **tags: str) -> str:
    """Makes a version without a model and returns its number."""
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    run = client.create_run(experiment_id).info
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    return str(client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id, tags=tags).version)


def register(registry: Registry, run: str, model: Path, kept: dict[str, Path] | None = None) -> RegisteredVersion:
    return registry.register(run, model, digest_of(hash_model(model)), "learnt", kept or {})


def test_a_candidate_is_a_version_that_says_where_it_is_from(
    registry: Registry, store: Store, client: MlflowClient, make_model: Callable[[str], Path], kept: dict[str, Path]
) -> None:
    tags = {
        "model_family": "transformer", "data_digest": "d1", "code_version": "c1", "mlmd_run_id": "run-1",
        "mlmd_context_id": "7", "node.Trainer": "ran",
    }  # fmt: skip
    run_id = track(store, "run-1", tags=tags)
    found = register(registry, "run-1", make_model("w"), kept)
    assert (found.name, found.version, found.run_id, found.aliases) == (NAME, "1", run_id, ())
    assert found.tags == {key: value for key, value in tags.items() if key != "node.Trainer"} | {
        "model_digest": digest_of(hash_model(make_model("w"))),
        "model_identity": "learnt",
        "validation_status": "pending",
        "run": "run-1",
    }
    assert (found.status, found.serving_version) == ("pending", None)
    assert registry.versions() == [found]
    source = client.get_model_version(NAME, "1").source
    assert source == f"{client.get_run(run_id).info.artifact_uri}/model"
    assert {item.path for item in client.list_artifacts(run_id)} == {"model", "kept"}
    assert {item.path for item in client.list_artifacts(run_id, "kept")} == {
        "kept/profile.json",
        "kept/predictions.npz",
    }


def test_a_model_is_registered_once(
    registry: Registry, store: Store, client: MlflowClient, make_model: Callable[[str], Path], kept: dict[str, Path]
) -> None:
    for run in ("run-1", "run-2", "run-3"):
        track(store, run)
    first = register(registry, "run-1", make_model("w"), kept)
    again = register(registry, "run-2", make_model("w"), kept)
    assert (again.version, again.run_id) == (first.version, first.run_id)
    other = register(registry, "run-3", make_model("other"))
    assert other.version == "2"
    assert [item.version for item in registry.versions()] == ["2", "1"]


def test_what_became_of_a_model_is_known_when_it_comes_again(
    registry: Registry, store: Store, make_model: Callable[[str], Path]
) -> None:
    track(store, "run-1")
    register(registry, "run-1", make_model("w"))
    registry.tag("1", {"validation_status": "rolled back", SERVING_VERSION: "3"})
    registry.point(PREVIOUS, "1")
    found = register(registry, "run-2, of which MLflow knows nothing", make_model("w"))
    assert (found.status, found.serving_version, found.aliases) == ("rolled back", 3, ("previous",))


@pytest.mark.parametrize("run", ["run-2", "run", "RUN-1", "run-_"])
def test_a_run_that_is_not_there_is_bad_input(
    registry: Registry, store: Store, make_model: Callable[[str], Path], run: str
) -> None:
    track(store, "run-1")
    track(store, "run-2", experiment="other")
    with pytest.raises(BadInputError, match=rf"MLflow at .* has no run {run} in experiment ag_news: .* replaced"):
        register(registry, run, make_model("w"))
    assert registry.versions() == []


def test_without_an_experiment_there_is_no_run(registry: Registry, make_model: Callable[[str], Path]) -> None:
    with pytest.raises(BadInputError, match="has no run run-1"):
        register(registry, "run-1", make_model("w"))


STEPS = 10


@pytest.mark.parametrize("cut", range(STEPS + 1))
def test_a_registration_that_is_cut_anywhere_is_finished_by_asking_again(
    registry: Registry,
    store: Store,
    client: MlflowClient,
    make_model: Callable[[str], Path],
    kept: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    cut: int,
) -> None:
    run_id = track(store, "run-1")
    calls: list[str] = []

    class Failing:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                if len(calls) == cut:
                    raise MlflowException("the server is away")
                calls.append(name)
                return getattr(client, name)(*arguments, **options)

            return call

    with monkeypatch.context() as patch:
        patch.setattr(registry, "_client", Failing())
        if cut < STEPS:
            with pytest.raises(BadInputError, match=r"does not answer or refuses"):
                register(registry, "run-1", make_model("w"), kept)
        else:
            register(registry, "run-1", make_model("w"), kept)
            assert len(calls) == STEPS
    found = register(registry, "run-1", make_model("w"), kept)
    assert [item.version for item in registry.versions()] == ["1"] == [found.version]
    assert {item.path for item in client.list_artifacts(run_id, "kept")} == {
        "kept/profile.json",
        "kept/predictions.npz",
    }


def test_versions_come_newest_first_each_with_its_aliases(registry: Registry, client: MlflowClient) -> None:
    for number in range(1, 12):
        assert add_version(client, number=str(number)) == str(number)
    add_version(client, "ag_news_bert")
    client.set_registered_model_alias("ag_news_bert", CHAMPION, "1")
    registry.point(CHAMPION, "10")
    registry.point(PREVIOUS, "9")
    registry.point(CHALLENGER, "9")
    registry.point("mine", "9")
    found = registry.versions()
    assert [item.version for item in found] == [str(number) for number in range(11, 0, -1)]
    assert {item.version: item.aliases for item in found if item.aliases} == {
        "10": (CHAMPION,),
        "9": (PREVIOUS, CHALLENGER),
    }
    assert [item.tags["number"] for item in found] == [item.version for item in found]


def test_a_model_of_which_there_is_no_version(registry: Registry) -> None:
    assert registry.versions() == []
    assert registry.with_alias(CHAMPION) is None
    assert registry.with_tag("a", "b") is None
    registry.point(CHAMPION, None)


def test_a_version_is_found_by_alias_and_by_tag(registry: Registry, client: MlflowClient) -> None:
    for run in ("a", "b", "a"):
        add_version(client, run=run)
    registry.point(CHAMPION, "2")
    found = [registry.with_alias(CHAMPION), registry.with_tag("run", "a"), registry.with_tag("run", "b")]
    assert [item.version for item in found if item] == ["2", "3", "2"]
    assert registry.with_alias(PREVIOUS) is None
    assert registry.with_tag("run", "c") is None


def test_an_alias_moves_and_goes(registry: Registry, client: MlflowClient) -> None:
    add_version(client)
    add_version(client)
    for version in ("1", "2", "2", None, None):
        registry.point(CHAMPION, version)
        found = registry.with_alias(CHAMPION)
        assert (found.version if found else None) == version


def test_tags_are_set_and_replaced(registry: Registry, client: MlflowClient) -> None:
    add_version(client, a="1")
    registry.tag("1", {SERVING_VERSION: "12", "a": "2", "verdict": "no: accuracy is 0.85\n通貨"})
    found = registry.versions()[0]
    assert found.tags == {"a": "2", SERVING_VERSION: "12", "verdict": "no: accuracy is 0.85\n通貨"}
    assert found.serving_version == 12


def test_the_snapshot_follows_versions_and_aliases_only(registry: Registry, client: MlflowClient) -> None:
    seen = [registry.snapshot()]
    for change in (
        lambda: add_version(client),
        lambda: registry.point(CHAMPION, "1"),
        lambda: add_version(client),
        lambda: registry.point(CHALLENGER, "2"),
        lambda: registry.point(CHAMPION, "2"),
        lambda: registry.point(PREVIOUS, "1"),
        lambda: registry.point(CHALLENGER, None),
    ):
        change()
        seen.append(registry.snapshot())
        assert registry.snapshot() == seen[-1]
    assert len(set(seen)) == len(seen)
    assert json.loads(seen[-1]) == {"newest": "2", CHAMPION: "2", PREVIOUS: "1"}
    registry.tag("1", {"a": "b"})
    assert registry.snapshot() == seen[-1]


def test_metrics_are_those_of_all_test_rows(registry: Registry, client: MlflowClient) -> None:
    add_version(client)
    version = registry.versions()[0]
    for key in (
        "test/accuracy",
        "test/macro_f1",
        "test/f1/Sports",
        "test/label_Sports/accuracy",
        "train/accuracy",
        "x",
    ):
        client.log_metric(version.run_id, key, 0.5)
    assert registry.test_metrics(version) == {"accuracy": 0.5, "macro_f1": 0.5}


def test_a_download_is_the_model_and_what_was_kept(
    registry: Registry, store: Store, make_model: Callable[[str], Path], kept: dict[str, Path], tmp_path: Path
) -> None:
    track(store, "run-1")
    found = register(registry, "run-1", make_model("w"), kept)
    target = tmp_path / "target"
    target.mkdir()
    registry.download(found, target)
    assert hash_files(target / "model") == hash_files(make_model("w"))
    assert {path.name for path in target.iterdir()} == {"model", "profile.json", "predictions.npz"}
    assert (target / "profile.json").read_text() == "content of profile.json"


def test_a_version_that_kept_nothing_is_downloaded(
    registry: Registry, store: Store, make_model: Callable[[str], Path], tmp_path: Path
) -> None:
    track(store, "run-1")
    registry.download(register(registry, "run-1", make_model("w")), tmp_path)
    assert hash_files(tmp_path / "model") == hash_files(make_model("w"))


def test_a_model_that_is_gone_is_bad_input(registry: Registry, client: MlflowClient, tmp_path: Path) -> None:
    add_version(client)
    with pytest.raises(BadInputError, match=r"version 1 of ag_news .* its model is gone .* newsdesk models promote"):
        registry.download(registry.versions()[0], tmp_path)


def test_a_model_that_is_not_what_was_registered_is_bad_input(
    registry: Registry, store: Store, make_model: Callable[[str], Path], tmp_path: Path
) -> None:
    track(store, "run-1")
    found = register(registry, "run-1", make_model("w"))
    (kept,) = (tmp_path / "workspace" / "mlartifacts").rglob("variables.index")
    kept.write_text("other weights, from somebody else")
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(BadInputError, match=r"version 1 of ag_news .* is not what was registered"):
        registry.download(found, target)


CALLS: dict[str, Callable[[Registry], object]] = {
    "versions": lambda registry: registry.versions(),
    "with_alias": lambda registry: registry.with_alias(CHAMPION),
    "snapshot": lambda registry: registry.snapshot(),
    "tag": lambda registry: registry.tag("1", {"a": "b"}),
    "point": lambda registry: registry.point(CHAMPION, "1"),
    "unpoint": lambda registry: registry.point(CHAMPION, None),
    "register": lambda registry: registry.register("run", Path("model"), "digest", "learnt", {}),
    "metrics": lambda registry: registry.test_metrics(RegisteredVersion(NAME, "1", "a" * 32, 0, {}, ())),
    "download": lambda registry: registry.download(RegisteredVersion(NAME, "1", "a" * 32, 0, {}, ()), Path("nowhere")),
}


def test_a_store_that_is_damaged_from_the_first_is_bad_input(tmp_path: Path) -> None:
    store = make_store(tmp_path / "workspace")
    with start_run(store, NAME, "run-1", Spool(tmp_path / "spool")):
        pass
    # MLflow opens its runs and its models apart; these are asked for the first time now.
    with out_of_order(tmp_path / "workspace"), pytest.raises(BadInputError, match="does not answer or refuses"):
        Registry(store, NAME).versions()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_store_that_goes_away_is_bad_input(
    registry: Registry, client: MlflowClient, tmp_path: Path, call: Callable[[Registry], object]
) -> None:
    add_version(client)
    with (
        out_of_order(tmp_path / "workspace"),
        pytest.raises(
            BadInputError, match=r"^MLflow.*mlflow\.db does not answer or refuses .*: restore it from a copy$"
        ),
    ):
        call(Registry(registry.store, NAME))


def test_a_server_that_is_not_there_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(BadInputError, match=f"MLflow at {uri} does not answer"):
        Registry(Store(uri, None), NAME).versions()


@pytest.mark.parametrize("uri", ["nonsense://somewhere", "sqlite:///{}/file/mlflow.db", "sqlite:///{}/file"])
def test_a_store_that_cannot_be_is_bad_input(tmp_path: Path, uri: str) -> None:
    (tmp_path / "file").write_text("no database, and no directory either")
    uri = uri.format(tmp_path)
    with pytest.raises(BadInputError, match=f"MLflow at {uri}"):
        Registry(Store(uri, None), NAME).versions()


@pytest.fixture
def mlflow_uri(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Tells MLflow's own commands where the store is, and takes it back."""

    def use(uri: str) -> None:
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)

    # Set first, so that what MLflow sets itself is undone too.
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, "")
    yield use
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


def test_mlflow_answers_with_the_champion(
    registry: Registry, store: Store, classifier: Path, mlflow_uri: Callable[[str], None]
) -> None:
    track(store, "run-1")
    registry.point(CHAMPION, register(registry, "run-1", classifier).version)
    mlflow_uri(store.uri)
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@{CHAMPION}")
    answers = model.predict(pd.DataFrame({"text": ["ab", "", "通貨", "zero\x00byte"]}))
    assert list(answers.columns) == ["label", "label_id", "probabilities"]
    assert answers["label"].tolist() == ["Business", "World", "World", "World"]
    assert answers["label_id"].tolist() == [2, 0, 0, 0]
    assert answers["probabilities"].tolist()[0] == [0.25, 0.25, 0.5]
    assert model.predict(pd.DataFrame({"text": pd.Series([], dtype=str)})).empty
    for wrong in (pd.DataFrame({"headline": ["ab"]}), pd.DataFrame({"text": [1]})):
        with pytest.raises(MlflowException):
            model.predict(wrong)


@pytest.mark.parametrize("name", ["w", "w#x/w", "w%31/w"])
def test_the_registered_model_needs_nothing_of_this_project(
    tmp_path: Path, make_model: Callable[[str], Path], name: str
) -> None:
    save_pyfunc(make_model(name), tmp_path / "wrapped")
    files = {path.name: path for path in (tmp_path / "wrapped").iterdir() if path.is_file()}
    assert "components" not in files["pyfunc.py"].read_text()
    assert {line.split("==")[0] for line in files["requirements.txt"].read_text().split()} == {
        "mlflow", "tensorflow", "tensorflow-text"
    }  # fmt: skip
    assert list((tmp_path / "wrapped").rglob("*.pkl")) == []
    assert hash_files(tmp_path / "wrapped" / "artifacts" / "w") == hash_files(make_model(name))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A real MLflow server."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    made = Server(tmp_path / "server")
    made.start()
    yield made
    made.kill()


@pytest.mark.e2e
def test_behind_a_server(
    server: Server,
    classifier: Path,
    kept: dict[str, Path],
    tmp_path: Path,
    mlflow_uri: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One test for all that needs a server, since it starts slowly."""
    client = MlflowClient(tracking_uri=server.store.uri, registry_uri=server.store.uri)
    registry, spool, serving = Registry(server.store, NAME), Spool(tmp_path / "spool"), tmp_path / "serving"
    pushed = Path(shutil.copytree(classifier, serving / NAME / "1"))
    (pushed / MANIFEST).write_text(make_manifest(1, hash_files(pushed), {}))
    with start_run(server.store, NAME, "run-1", spool) as first:
        found = register(registry, "run-1", classifier, kept)
        # Why the pushed directory itself is not what is registered.
        with pytest.raises(MlflowException, match="Invalid model version source"):
            client.create_model_version(NAME, str(pushed), first.id)
        registry.tag(found.version, {SERVING_VERSION: "1"})
        promote(registry, serving, 1)
    assert client.get_model_version_by_alias(NAME, CHAMPION).version == found.version
    assert registry.versions()[0].aliases == (CHAMPION,)
    mlflow_uri(server.store.uri)
    answers = mlflow.pyfunc.load_model(f"models:/{NAME}@{CHAMPION}").predict(pd.DataFrame({"text": ["ab"]}))
    assert answers.to_dict("records") == [{"label": "Business", "label_id": 2, "probabilities": [0.25, 0.25, 0.5]}]
    (tmp_path / "champion").mkdir()
    registry.download(found, tmp_path / "champion")
    assert hash_files(tmp_path / "champion" / "model") == hash_files(classifier)
    assert (tmp_path / "champion" / "predictions.npz").read_text() == "content of predictions.npz"

    # It dies in the middle of a run, and while the next model waits for its promotion.
    before = {path.name: path.read_bytes() for path in serving.rglob("*") if path.is_file()}
    with caplog.at_level(logging.WARNING, "newsdesk"), start_run(server.store, NAME, "run-2", spool) as second:
        second.metrics({"train/loss": 0.5}, step=1)
        server.kill()
        second.metrics({"train/loss": 0.25}, step=2)
        second.json("run.json", {"rows": 80})
        with pytest.raises(BadInputError, match="does not answer"):
            promote(registry, serving, 1)
    warnings = [record.message for record in caplog.records if record.name.startswith("newsdesk")]
    assert [said.startswith("MLflow does not answer") for said in warnings] == [True]
    assert {path.name: path.read_bytes() for path in serving.rglob("*") if path.is_file()} == before
    server.start()
    assert client.get_run(second.id).info.status == "RUNNING"
    with start_run(server.store, NAME, "run-3", spool):
        pass
    arrived = client.get_run(second.id)
    assert arrived.info.status == "FINISHED"
    assert [(point.step, point.value) for point in client.get_metric_history(second.id, "train/loss")] == [
        (1, 0.5), (2, 0.25)
    ]  # fmt: skip
    assert [item.path for item in client.list_artifacts(second.id)] == ["run.json"]
    # The artifacts break while the rest answers: a server says so with a status that MLflow's client does not wrap.
    shutil.rmtree(tmp_path / "server" / "mlartifacts")
    (tmp_path / "server" / "mlartifacts").write_text("no directory")
    with start_run(server.store, NAME, "run-4", spool) as fourth:
        fourth.json("run.json", {"rows": 80})
        fourth.tags({"a": "b"})
    assert spool.entries(fourth.id)
    # The server lists nothing there, unless it has just closed the connection that it left unread.
    with pytest.raises(BadInputError, match=r"does not answer or refuses|its model is gone"):
        registry.download(found, tmp_path / "again")
    with (
        pytest.raises(BadInputError, match="does not answer or refuses"),
        start_run(server.store, NAME, "run-5", spool),
    ):
        pytest.fail("the run opened although what waits cannot be delivered")
