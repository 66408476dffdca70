"""Tracked runs, against a real MLflow store in sqlite."""

import json
import math
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from components.errors import BadInputError, GateRejectedError
from components.evaluation_result import SliceMetrics
from components.tracking import Store, TrackedRun, choose_store, start_run

CLASSES = ("World", "Sports", "Business", "Sci/Tech")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of its own, as a workspace has it."""
    directory = tmp_path_factory.mktemp("workspace")
    return choose_store({}, directory / "mlflow.db", directory / "mlartifacts")


@pytest.fixture(scope="module")
def client(store: Store) -> MlflowClient:
    """Reads the store."""
    return MlflowClient(tracking_uri=store.uri)


@pytest.fixture
def track(store: Store, client: MlflowClient) -> Callable[[Callable[[TrackedRun], object]], Run]:
    """Opens a run, does something with it, closes it, and returns what the store holds of it."""

    def run(action: Callable[[TrackedRun], object]) -> Run:
        with start_run(store, "ag_news", "a run") as tracked:
            action(tracked)
        return client.get_run(tracked.id)

    return run


@pytest.fixture
def fail(store: Store, client: MlflowClient) -> Callable[[BaseException], Run]:
    """Opens a run in which an error is raised, and returns what the store holds of it."""

    def run(error: BaseException) -> Run:
        ids: list[str] = []
        with pytest.raises(type(error)) as caught, start_run(store, "ag_news", "a run") as tracked:  # noqa: PT012
            ids.append(tracked.id)
            raise error
        assert caught.value is error
        return client.get_run(ids[0])

    return run


Track = Callable[[Callable[[TrackedRun], object]], Run]


def artifact_bytes(client: MlflowClient, run: Run, name: str, directory: Path) -> bytes:
    """Returns an artifact of a run."""
    return Path(client.download_artifacts(run.info.run_id, name, str(directory))).read_bytes()


def test_a_run_that_ends_is_finished(track: Track, client: MlflowClient) -> None:
    states: list[str] = []
    run = track(lambda tracked: states.append(client.get_run(tracked.id).info.status))
    assert states == ["RUNNING"]
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time
    assert run.info.run_name == "a run"
    assert "reason" not in run.data.tags


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no such file: x.csv"), "no such file: x.csv"),
        (GateRejectedError("ModelGate", ["accuracy is low", "f1 too"]), "ModelGate: accuracy is low; f1 too"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit(3), "3"),
        (RuntimeError(), "RuntimeError"),
        (RuntimeError("通貨 \n" + "x" * 20_000), "通貨 \n" + "x" * 4_996),
    ],
    ids=["error", "gate", "interrupt", "exit", "no_message", "long_message"],
)
def test_a_run_that_raises_is_failed_with_the_reason(
    fail: Callable[[BaseException], Run], error: BaseException, reason: str
) -> None:
    run = fail(error)
    assert run.info.status == "FAILED"
    assert run.info.end_time is not None
    assert run.data.tags["reason"] == reason


def test_a_message_that_is_no_valid_text_does_not_hide_the_error(fail: Callable[[BaseException], Run]) -> None:
    run = fail(OSError("cannot read caf\udce9.csv"))
    assert run.info.status == "FAILED"
    assert run.data.tags["reason"].startswith("cannot read caf")


def test_what_was_logged_before_an_error_is_kept(store: Store, client: MlflowClient) -> None:
    with pytest.raises(ZeroDivisionError), start_run(store, "ag_news", "a run") as tracked:  # noqa: PT012
        tracked.metrics({"loss": 1.0})
        tracked.metrics({"loss": 1 / 0})
    assert client.get_run(tracked.id).data.metrics == {"loss": 1.0}


def test_runs_of_one_experiment_stand_together(track: Track, client: MlflowClient, store: Store) -> None:
    first, second = track(lambda _: None), track(lambda _: None)
    assert first.info.run_id != second.info.run_id
    assert first.info.experiment_id == second.info.experiment_id
    with start_run(store, "other", "a run") as tracked:
        pass
    assert client.get_run(tracked.id).info.experiment_id != first.info.experiment_id
    assert client.get_experiment_by_name("other").artifact_location == store.artifacts


def test_params_are_kept_as_text(track: Track) -> None:
    values = {"text.vocab_size": 30_000, "data.directory": None, "name": "ag_news", "rate": 1e-3, "long": "y" * 9_000}
    run = track(lambda tracked: tracked.params(values))
    assert run.data.params == {
        "text.vocab_size": "30000",
        "data.directory": "None",
        "name": "ag_news",
        "rate": "0.001",
        "long": "y" * 500,
    }


def test_more_params_and_tags_than_one_call_may_carry_are_kept(track: Track) -> None:
    values = {f"key{number}": str(number) for number in range(150)}

    def log(tracked: TrackedRun) -> None:
        tracked.params(values)
        tracked.tags(values)

    run = track(log)
    assert run.data.params == values
    assert values.items() <= run.data.tags.items()


def test_tags_are_kept_and_replaced(track: Track) -> None:
    def log(tracked: TrackedRun) -> None:
        tracked.tags({"mlmd_run_id": "one", "data_digest": "abc"})
        tracked.tags({"mlmd_run_id": "two"})

    tags = track(log).data.tags
    assert (tags["mlmd_run_id"], tags["data_digest"]) == ("two", "abc")


def test_metrics_keep_their_steps(track: Track, client: MlflowClient) -> None:
    def log(tracked: TrackedRun) -> None:
        tracked.metrics({"loss": 0.5, "accuracy": np.float32(0.25)}, step=1)
        tracked.metrics({"loss": 0.125}, step=2)

    run = track(log)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.125)]
    assert run.data.metrics == {"loss": 0.125, "accuracy": 0.25}


def test_more_metrics_than_one_call_may_carry_are_kept(track: Track) -> None:
    values = {f"metric{number}": float(number) for number in range(1001)}
    assert track(lambda tracked: tracked.metrics(values)).data.metrics == values


def test_a_metric_that_is_no_number_does_not_lose_the_others(track: Track) -> None:
    metrics = track(lambda tracked: tracked.metrics({"loss": math.nan, "accuracy": 0.5})).data.metrics
    assert math.isnan(metrics["loss"])
    assert metrics["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("test/f1/Sci/Tech", "test/f1/Sci/Tech"),
        ("test/label=Sports/accuracy", "test/label_Sports/accuracy"),
        ("f1/R&D (new), 100%", "f1/R_D _new__ 100_"),
        ("f1/C#:x;y", "f1/C__x_y"),
        ("f1/Währung 通貨", "f1/Währung 通貨"),
        ("f1/a\tb\nc", "f1/a_b_c"),
        ("f1/🙂", "f1/_"),
    ],
)
def test_odd_characters_of_metric_names_are_replaced(track: Track, name: str, kept: str) -> None:
    assert track(lambda tracked: tracked.metrics({name: 1.0})).data.metrics == {kept: 1.0}


@pytest.mark.parametrize("name", ["f1/N//A", "f1/..", "f1/.", "f1/Sci/"])
def test_class_names_that_look_like_paths_are_kept_as_metrics(track: Track, name: str) -> None:
    assert list(track(lambda tracked: tracked.metrics({name: 0.5})).data.metrics.values()) == [0.5]


def test_history_has_a_step_per_epoch(track: Track, client: MlflowClient, tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    path.write_text(
        json.dumps({"epochs": [{"epoch": 1, "loss": 1.0, "seconds": 3.0}, {"epoch": 2, "loss": 0.5, "seconds": 2.0}]})
    )
    run = track(lambda tracked: tracked.history(path))
    loss = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in loss] == [(1, 1.0), (2, 0.5)]
    assert run.data.metrics == {"train/loss": 0.5, "train/seconds": 2.0}


def test_slices_are_named_by_feature_and_value(track: Track) -> None:
    slices = [
        SliceMetrics("", "", {"accuracy": 0.5, "f1/Sci/Tech": 0.25}, {"confusion_matrix": np.eye(4)}),
        SliceMetrics("label", "Sci/Tech", {"accuracy": 0.75}),
        SliceMetrics("length", "short", {"accuracy": 1.0}),
    ]
    assert track(lambda tracked: tracked.slices(slices)).data.metrics == {
        "test/accuracy": 0.5,
        "test/f1/Sci/Tech": 0.25,
        "test/label_Sci/Tech/accuracy": 0.75,
        "test/length_short/accuracy": 1.0,
    }


@pytest.mark.parametrize("rows", [[40, 2, 1, 0], [0, 0, 0, 0]], ids=["full", "class_without_rows"])
def test_the_confusion_matrix_is_a_picture(
    track: Track, client: MlflowClient, store: Store, tmp_path: Path, rows: list[int]
) -> None:
    matrix = np.array([rows, [3, 30, 0, 1], [0, 0, 5, 5], [1, 1, 1, 1]])
    run = track(lambda tracked: tracked.confusion_matrix(matrix, CLASSES))
    picture = artifact_bytes(client, run, "confusion_matrix.png", tmp_path)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) > 1000
    assert run.info.artifact_uri.startswith(str(store.artifacts))


def test_json_is_an_artifact(track: Track, client: MlflowClient, tmp_path: Path) -> None:
    value = {"nodes": [{"id": "Trainer", "seconds": 1.5}], "name": "Währung"}
    run = track(lambda tracked: tracked.json("run.json", value))
    assert json.loads(artifact_bytes(client, run, "run.json", tmp_path)) == value


def test_the_store_is_in_the_workspace_unless_the_environment_names_one(tmp_path: Path) -> None:
    database, artifacts = tmp_path / "mlflow.db", tmp_path / "mlartifacts"
    own = Store(f"sqlite:///{database}", artifacts.as_uri())
    assert choose_store({}, database, artifacts) == own
    assert choose_store({"MLFLOW_TRACKING_URI": ""}, database, artifacts) == own
    environment = {"MLFLOW_TRACKING_URI": "http://tracking.example:5000"}
    assert choose_store(environment, database, artifacts) == Store("http://tracking.example:5000", None)


def test_a_store_from_the_environment_is_used(
    store: Store, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = choose_store({"MLFLOW_TRACKING_URI": store.uri}, tmp_path / "mlflow.db", tmp_path / "mlartifacts")
    with start_run(chosen, "elsewhere", "a run") as tracked:
        tracked.metrics({"loss": 1.0})
    assert client.get_run(tracked.id).info.status == "FINISHED"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def closed_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_that_does_not_answer_is_bad_input(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{closed_port}"
    with pytest.raises(BadInputError, match=f"{uri}.*MLFLOW_TRACKING_URI"), start_run(Store(uri, None), "a", "b"):
        pytest.fail("the run opened")
