"""Tracked runs, against a real MLflow store in sqlite."""

import json
import logging
import math
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.experiments import commands as experiments
from mlflow_stores import make_store, out_of_order

from components.errors import BadInputError, GateRejectedError, StoppedError
from components.evaluation.result import SliceMetrics
from components.registry.registry import Registry
from components.registry.spool import Spool
from components.registry.tracking import Store, TrackedRun, choose_store, find_runs, start_run

pytestmark = pytest.mark.stack

CLASSES = ("World", "Sports", "Business", "Sci/Tech")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of its own, as a workspace has it."""
    return make_store(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def client(store: Store) -> MlflowClient:
    """Reads the store."""
    return MlflowClient(tracking_uri=store.uri)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def track(store: Store, client: MlflowClient, spool: Spool) -> Callable[[Callable[[TrackedRun], object]], Run]:
    """Opens a run, does something with it, closes it, and returns what the store holds of it."""

    def run(action: Callable[[TrackedRun], object]) -> Run:
        with start_run(store, "ag_news", "a run", spool) as tracked:
            action(tracked)
        return client.get_run(tracked.id)

    return run


@pytest.fixture
def fail(store: Store, client: MlflowClient, spool: Spool) -> Callable[[BaseException], Run]:
    """Opens a run in which an error is raised, and returns what the store holds of it."""

    def run(error: BaseException) -> Run:
        ids: list[str] = []
        with pytest.raises(type(error)) as caught, start_run(store, "ag_news", "a run", spool) as tracked:  # noqa: PT012
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
    ("error", "status", "reason"),
    [
        (ValueError("no such file: x.csv"), "FAILED", "no such file: x.csv"),
        (GateRejectedError("ModelGate", ["accuracy is low", "f1 too"]), "FAILED", "ModelGate: accuracy is low; f1 too"),
        (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt"),
        (SystemExit(3), "KILLED", "3"),
        (StoppedError(signal.SIGTERM), "KILLED", "stopped by SIGTERM"),
        (RuntimeError(), "FAILED", "RuntimeError"),
        (RuntimeError("通貨 \n" + "x" * 20_000), "FAILED", "通貨 \n" + "x" * 4_996),
    ],
    ids=["error", "gate", "interrupt", "exit", "sigterm", "no_message", "long_message"],
)
def test_a_run_that_raises_ends_with_the_reason(
    fail: Callable[[BaseException], Run], error: BaseException, status: str, reason: str
) -> None:
    run = fail(error)
    assert run.info.status == status
    assert run.info.end_time is not None
    assert run.data.tags["reason"] == reason


def test_a_message_that_is_no_valid_text_does_not_hide_the_error(fail: Callable[[BaseException], Run]) -> None:
    run = fail(OSError("cannot read caf\udce9.csv"))
    assert run.info.status == "FAILED"
    assert run.data.tags["reason"].startswith("cannot read caf")


def test_what_was_logged_before_an_error_is_kept(store: Store, client: MlflowClient, spool: Spool) -> None:
    with pytest.raises(ZeroDivisionError), start_run(store, "ag_news", "a run", spool) as tracked:  # noqa: PT012
        tracked.metrics({"loss": 1.0})
        tracked.metrics({"loss": 1 / 0})
    assert client.get_run(tracked.id).data.metrics == {"loss": 1.0}


def test_runs_of_one_experiment_stand_together(track: Track, client: MlflowClient, store: Store, spool: Spool) -> None:
    first, second = track(lambda _: None), track(lambda _: None)
    assert first.info.run_id != second.info.run_id
    assert first.info.experiment_id == second.info.experiment_id
    with start_run(store, "other", "a run", spool) as tracked:
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


@pytest.mark.parametrize("name", ["test/f1/Sci/Tech", "f1/Währung 通貨", "a" * 250, f"{'a' * 200}/{'b' * 49}", ".a"])
def test_a_metric_that_mlflow_takes_keeps_its_name(track: Track, name: str) -> None:
    assert track(lambda tracked: tracked.metrics({name: 1.0})).data.metrics == {name: 1.0}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("f1/R&D (new), 100%", "f1/R_D _new__ 100_-"),
        ("f1/C#:x;y", "f1/C__x_y-"),
        ("f1/a\tb\nc", "f1/a_b_c-"),
        ("f1/🙂", "f1/_-"),
        ("f1/" + "x" * 300, "f1/" + "x" * 89 + "-"),
        ("test/label_" + "x" * 300 + "/accuracy", "test/label_" + "x" * 127 + "-"),
    ],
)
def test_any_other_is_readable_with_a_digest(track: Track, name: str, kept: str) -> None:
    (found,) = track(lambda tracked: tracked.metrics({name: 1.0})).data.metrics
    assert found.startswith(kept)
    assert found.endswith("/accuracy") == name.endswith("/accuracy")


def test_no_two_classes_share_a_metric(track: Track, caplog: pytest.LogCaptureFixture) -> None:
    classes = [
        *"🙂🙃!?+-_.", "", " ", "..", "../..", "/", "//", "a/", "/a", "a/../b", "a/b", "..a", "R&D", "R+D", "R D",
        "C", "C#", "C++", "a\tb", "a\nb", "a b",
        "x" * 300, "x" * 301, "y/" * 200, "y/" * 201, "é", "e\u0301", "\udce9", "\udcea",
    ]  # fmt: skip
    (shortened,) = track(lambda tracked: tracked.slices([SliceMetrics("label", "C#", {"accuracy": 1.0})])).data.metrics
    classes.append(shortened.removeprefix("test/label_").removesuffix("/accuracy"))
    slices = [SliceMetrics("label", name, {"accuracy": float(number)}) for number, name in enumerate(classes)]
    scalars = SliceMetrics("", "", {f"f1/{name}": float(number) for number, name in enumerate(classes)})
    run = track(lambda tracked: tracked.slices([scalars, *slices]))
    assert sorted(run.data.metrics.values()) == sorted([*map(float, range(len(classes)))] * 2)
    assert warnings(caplog) == []


def test_params_and_tags_have_such_names_too(track: Track) -> None:
    values = {"a=b": "1", "a&b": "2", "x" * 300: "caf\udce9"}

    def action(tracked: TrackedRun) -> None:
        tracked.params(values)
        tracked.tags(values)

    run = track(action)
    for found in (
        run.data.params,
        {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")},
    ):
        assert sorted(found.values()) == ["1", "2", "caf\\udce9"]


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


def test_what_is_deleted_in_mlflow_is_named_with_the_way_back(
    tmp_path: Path, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(tmp_path / "deleted")
    client = MlflowClient(tracking_uri=store.uri)
    back = f"is deleted: bring it back with MLFLOW_TRACKING_URI={store.uri} mlflow"
    with start_run(store, "ag_news", "a-run", spool) as run:
        client.delete_run(run.id)
        run.metrics({"loss": 1.0})
    (said,) = warnings(caplog)
    assert f"run {run.id} of MLflow {back} runs restore --run-id {run.id}" in said
    with pytest.raises(BadInputError, match=re.escape(f"run {run.id} of MLflow {back} runs restore --run-id {run.id}")):
        find_runs(store, "a-run")
    with pytest.raises(BadInputError, match=f"restore --run-id {run.id}$"):
        Registry(store, "ag_news")._find_run("a-run")
    experiment = client.get_run(run.id).info.experiment_id
    client.delete_experiment(experiment)
    way = re.escape(f"experiment {experiment} of MLflow {back} experiments restore --experiment-id {experiment}")
    with pytest.raises(BadInputError, match=way), start_run(store, "ag_news", "another", spool):
        pytest.fail("the run opened")
    with pytest.raises(BadInputError, match=way):
        find_runs(store, run.id)
    with pytest.raises(BadInputError, match=way):
        Registry(store, "ag_news")._find_run("a-run")
    restore = ["restore", "--experiment-id", experiment]
    assert CliRunner().invoke(experiments, restore, env={"MLFLOW_TRACKING_URI": store.uri}).exit_code == 0
    with start_run(store, "ag_news", "another", spool):
        pass


def test_what_mlflow_no_longer_knows_is_no_server_to_start(tmp_path: Path) -> None:
    registry = Registry(make_store(tmp_path / "gone"), "ag_news")
    with pytest.raises(
        BadInputError, match=r"no longer has .*\(Registered Model with name=ag_news not found\): newsdesk run"
    ):
        registry.point("champion", "1")
    with pytest.raises(BadInputError, match=r"answers but refuses \(.*\): mend what it names$"):
        Registry(registry.store, "ag/news").tag("1", {"a": "b"})


def test_json_is_an_artifact(track: Track, client: MlflowClient, tmp_path: Path) -> None:
    value = {"nodes": [{"id": "Trainer", "seconds": 1.5}], "name": "Währung"}
    run = track(lambda tracked: tracked.json("run.json", value))
    assert json.loads(artifact_bytes(client, run, "run.json", tmp_path)) == value


def test_json_has_null_for_a_number_that_is_not_finite(track: Track, client: MlflowClient, tmp_path: Path) -> None:
    run = track(lambda tracked: tracked.json("gate.json", {"value": float("nan")}))
    found = json.loads(artifact_bytes(client, run, "gate.json", tmp_path), parse_constant=pytest.fail)
    assert found == {"value": None}


def test_the_store_is_in_the_workspace_unless_the_environment_names_one(tmp_path: Path) -> None:
    database, artifacts = tmp_path / "mlflow.db", tmp_path / "mlartifacts"
    own = Store(f"sqlite:///{database}", artifacts.as_uri())
    assert choose_store({}, database, artifacts) == own
    assert choose_store({"MLFLOW_TRACKING_URI": ""}, database, artifacts) == own
    environment = {"MLFLOW_TRACKING_URI": "http://tracking.example:5000"}
    assert choose_store(environment, database, artifacts) == Store("http://tracking.example:5000", None)


def test_a_store_from_the_environment_is_used(
    store: Store, client: MlflowClient, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = choose_store({"MLFLOW_TRACKING_URI": store.uri}, tmp_path / "mlflow.db", tmp_path / "mlartifacts")
    with start_run(chosen, "elsewhere", "a run", spool) as tracked:
        tracked.metrics({"loss": 1.0})
    assert client.get_run(tracked.id).info.status == "FINISHED"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def closed_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_that_does_not_answer_is_bad_input(
    closed_port: int, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{closed_port}"
    with (
        pytest.raises(BadInputError, match=f"{uri}.*MLFLOW_TRACKING_URI"),
        start_run(Store(uri, None), "a", "b", spool),
    ):
        pytest.fail("the run opened")


def log_all(tracked: TrackedRun, place: Path) -> None:
    """Tells a run one thing of each kind but its end."""
    place.joinpath("note.txt").write_text("kept")
    tracked.params({"preset": "sample"})
    tracked.tags({"node.Trainer": "ran"})
    tracked.metrics({"train/loss": 0.5}, step=1)
    tracked.metrics({"train/loss": 0.25}, step=2)
    tracked.json("run.json", {"rows": 80})
    tracked.file(place / "note.txt")
    tracked.confusion_matrix(np.eye(4), CLASSES)


def assert_all_arrived(client: MlflowClient, run_id: str) -> None:
    run = client.get_run(run_id)
    assert run.data.params == {"preset": "sample"}
    assert run.data.tags["node.Trainer"] == "ran"
    history = client.get_metric_history(run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]
    assert {item.path for item in client.list_artifacts(run_id)} == {"run.json", "note.txt", "confusion_matrix.png"}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns what this project says; MLflow says more."""
    return [record.message for record in caplog.records if record.name.startswith("newsdesk")]


@pytest.fixture
def own_store(tmp_path: Path) -> Store:
    """A store that may be broken."""
    return make_store(tmp_path / "workspace")


def test_a_store_that_goes_away_in_mid_run_is_told_once_and_gets_everything_later(
    own_store: Store, spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "newsdesk"), start_run(own_store, "ag_news", "first", spool) as first:
        with out_of_order(tmp_path / "workspace"):
            log_all(first, tmp_path)
        # It is back, but what waits comes first: an order that MLflow would see is kept.
        first.tags({"after": "it came back"})
    assert [said.startswith("MLflow does not answer") for said in warnings(caplog)] == [True]
    assert str(spool.directory) in caplog.text
    client = MlflowClient(tracking_uri=own_store.uri)
    assert client.get_run(first.id).info.status == "RUNNING"
    assert "after" not in client.get_run(first.id).data.tags
    with start_run(own_store, "ag_news", "second", spool) as second:
        assert not spool.entries(first.id)
    assert_all_arrived(client, first.id)
    arrived = client.get_run(first.id)
    assert (arrived.info.status, arrived.data.tags["after"]) == ("FINISHED", "it came back")
    assert arrived.info.end_time <= client.get_run(second.id).info.start_time
    assert list(spool.directory.iterdir()) == []


def test_a_run_that_fails_while_the_store_is_away_keeps_its_reason(
    own_store: Store, spool: Spool, tmp_path: Path
) -> None:
    away = ExitStack()
    with away, pytest.raises(GateRejectedError), start_run(own_store, "ag_news", "first", spool) as first:  # noqa: PT012
        away.enter_context(out_of_order(tmp_path / "workspace"))
        raise GateRejectedError("ModelGate", ["accuracy is low"])
    client = MlflowClient(tracking_uri=own_store.uri)
    assert client.get_run(first.id).info.status == "RUNNING"
    spool.deliver(client)
    run = client.get_run(first.id)
    assert (run.info.status, run.data.tags["reason"]) == ("FAILED", "ModelGate: accuracy is low")


def test_no_run_opens_while_what_waits_cannot_be_delivered(own_store: Store, spool: Spool, tmp_path: Path) -> None:
    with start_run(own_store, "ag_news", "first", spool) as first, out_of_order(tmp_path / "workspace"):
        first.tags({"a": "b"})
    assert spool.entries(first.id)
    with (
        out_of_order(tmp_path / "workspace"),
        pytest.raises(BadInputError, match="does not answer or refuses"),
        start_run(own_store, "ag_news", "second", spool),
    ):
        pytest.fail("the run opened")
    assert spool.entries(first.id)


def test_tags_of_a_version_wait_like_the_rest(own_store: Store, spool: Spool, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri=own_store.uri, registry_uri=own_store.uri)
    with start_run(own_store, "ag_news", "first", spool) as first:
        client.create_registered_model("ag_news")
        client.create_model_version("ag_news", f"{client.get_run(first.id).info.artifact_uri}/model", first.id)
    with out_of_order(tmp_path / "workspace"):
        first.version_tags("ag_news", "1", {"validation_status": "rejected", "verdict.ModelGate": "x" * 9_000})
    assert client.get_model_version("ag_news", "1").tags == {}
    with start_run(own_store, "ag_news", "second", spool):
        pass
    assert client.get_model_version("ag_news", "1").tags == {
        "validation_status": "rejected",
        "verdict.ModelGate": "x" * 5_000,
    }


class Failing(BaseHTTPRequestHandler):
    """A server of MLflow's that opens runs and answers everything else as the class says."""

    status, body, refused = 500, b"the database is on fire", 0

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = 200, b"{}"
        if "experiments/get-by-name" in self.path:
            body = b'{"experiment": {"experiment_id": "1", "name": "ag_news"}}'
        elif "runs/create" in self.path:
            body = b'{"run": {"info": {"run_id": "0123456789abcdef0123456789abcdef", "experiment_id": "1"}}}'
        else:
            status, body = type(self).status, type(self).body
            type(self).refused += 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def failing_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A server that answers with 500 once a run is open; nothing is asked twice."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    Failing.refused = 0
    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Store(f"http://127.0.0.1:{server.server_port}", None)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"the database is on fire"),
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "the database is on fire"}'),
        (503, b"<html>the proxy speaks</html>"),
        (429, b'{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "later"}'),
    ],
    ids=["text", "json", "proxy", "too many"],
)
def test_a_server_that_answers_with_an_error_is_asked_once_and_told_once(
    failing_server: Store,
    spool: Spool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: bytes,
) -> None:
    monkeypatch.setattr(Failing, "status", status)
    monkeypatch.setattr(Failing, "body", body)
    with caplog.at_level(logging.WARNING, "newsdesk"), start_run(failing_server, "ag_news", "first", spool) as first:
        log_all(first, tmp_path)
    assert [said.startswith("MLflow does not answer") for said in warnings(caplog)] == [True]
    assert Failing.refused == 1
    kinds = [json.loads(line)[0] for line in (spool.directory / first.id / "entries.jsonl").read_text().splitlines()]
    assert kinds == ["params", "tags", "metrics", "metrics", "file", "file", "file", "end"]
    assert {path.name for path in spool.directory.glob("*/*/*")} == {"run.json", "note.txt", "confusion_matrix.png"}
    with (
        pytest.raises(BadInputError, match="does not answer or refuses"),
        start_run(failing_server, "ag_news", "second", spool),
    ):
        pytest.fail("the run opened")
    assert len((spool.directory / first.id / "entries.jsonl").read_text().splitlines()) == len(kinds)
