"""What waits for MLflow: kept in order, delivered once, and no kill or damage stops the runs that follow."""

import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_stores import make_store

from components.registry.spool import Spool, deliver
from components.registry.tracking import Store

RUN = "a" * 32
# Of every kind, each with a value that a later one replaces or that stands at its own step.
ENTRIES: list[tuple[str, Any]] = [
    ("params", {"preset": "sample", "transformer.epochs": "3"}),
    ("tags", {"node.Trainer": "ran", "reason": "first"}),
    ("metrics", [["train/loss", 0.5, 1_000, 1], ["train/accuracy", 0.25, 1_000, 1]]),
    ("metrics", [["train/loss", 0.25, 2_000, 2]]),
    ("tags", {"reason": "second"}),
    ("version", ["ag_news", "1", {"validation_status": "rejected", "verdict.ModelGate": "no"}]),
    ("end", ["FAILED", 1_700_000_000_000]),
]


class Recorder:
    """Stands in for MLflow's client; answers the call numbered ``fails`` with an error."""

    def __init__(self, fails: int | None = None):
        self.calls: list[tuple[str, tuple, dict]] = []
        self.fails = fails

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            if len(self.calls) == self.fails:
                raise MlflowException("the server is away")
            self.calls.append((name, arguments, options))

        return call


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def client(store: Store) -> MlflowClient:
    client = MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)
    client.create_experiment("ag_news", store.artifacts)
    return client


@pytest.fixture
def run_id(client: MlflowClient) -> str:
    """An open run with version 1 of a model, neither of which knows anything yet."""
    made = client.create_run(client.get_experiment_by_name("ag_news").experiment_id).info
    if client.search_registered_models("name='ag_news'"):
        client.delete_registered_model("ag_news")
    client.create_registered_model("ag_news")
    client.create_model_version("ag_news", f"{made.artifact_uri}/model", made.run_id)
    return made.run_id


def fill(spool: Spool, run_id: str, directory: Path) -> None:
    """Adds ``ENTRIES`` and a file, which is gone afterwards."""
    for kind, value in ENTRIES[:-1]:
        spool.add(run_id, kind, value)
    path = directory / "run.json"
    path.write_text('{"rows": 80}')
    spool.add(run_id, "file", path)
    path.unlink()
    spool.add(run_id, *ENTRIES[-1])


def held(client: MlflowClient, run_id: str, directory: Path) -> dict[str, Any]:
    """Returns all that a store knows of a run and of version 1."""
    run = client.get_run(run_id)
    names = [item.path for item in client.list_artifacts(run_id)]
    return {
        "params": run.data.params,
        "tags": {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")},
        "metrics": {
            key: [(point.value, point.timestamp, point.step) for point in client.get_metric_history(run_id, key)]
            for key in run.data.metrics
        },
        "version": dict(client.get_model_version("ag_news", "1").tags),
        "files": {name: Path(client.download_artifacts(run_id, name, str(directory))).read_text() for name in names},
        "end": (run.info.status, run.info.end_time),
    }


EXPECTED = {
    "params": {"preset": "sample", "transformer.epochs": "3"},
    "tags": {"node.Trainer": "ran", "reason": "second"},
    "metrics": {"train/loss": [(0.5, 1_000, 1), (0.25, 2_000, 2)], "train/accuracy": [(0.25, 1_000, 1)]},
    "version": {"validation_status": "rejected", "verdict.ModelGate": "no"},
    "files": {"run.json": '{"rows": 80}'},
    "end": ("FAILED", 1_700_000_000_000),
}


def test_everything_arrives_and_is_forgotten(spool: Spool, client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    fill(spool, run_id, tmp_path)
    assert Spool(spool.directory).entries(run_id)
    Spool(spool.directory).deliver(client)
    assert held(client, run_id, tmp_path) == EXPECTED
    assert not spool.entries(run_id)
    assert list(spool.directory.iterdir()) == []


def test_what_was_delivered_is_not_delivered_again(spool: Spool, tmp_path: Path) -> None:
    fill(spool, RUN, tmp_path)
    spool.deliver(Recorder())
    again = Recorder()
    spool.deliver(again)
    assert again.calls == []


def test_an_entry_that_arrives_twice_changes_nothing(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    for kind, value in ENTRIES:
        for _ in range(2):
            deliver(client, run_id, kind, value)
    found = held(client, run_id, tmp_path)
    assert found == EXPECTED | {"files": {}}


def test_entries_are_delivered_in_the_order_they_came_in(spool: Spool, tmp_path: Path) -> None:
    fill(spool, RUN, tmp_path)
    recorder = Recorder()
    spool.deliver(recorder)
    assert [name for name, _, _ in recorder.calls] == [
        "log_batch", "log_batch", "log_batch", "log_batch", "log_batch",
        "set_model_version_tag", "set_model_version_tag", "log_artifact", "set_terminated",
    ]  # fmt: skip
    assert {arguments[0] for name, arguments, _ in recorder.calls if name != "set_model_version_tag"} == {RUN}


@pytest.mark.parametrize("fails", range(9))
def test_a_delivery_that_is_cut_short_is_finished_by_the_next(
    spool: Spool, client: MlflowClient, run_id: str, tmp_path: Path, fails: int
) -> None:
    fill(spool, run_id, tmp_path)
    away = Recorder(fails)

    class Both(Recorder):
        """Tells the real store what the recorder lets pass."""

        def __getattr__(self, name: str) -> Callable[..., None]:
            def call(*arguments: Any, **options: Any) -> None:
                getattr(away, name)(*arguments, **options)
                getattr(client, name)(*arguments, **options)

            return call

    with pytest.raises(MlflowException):
        spool.deliver(Both())
    assert spool.entries(run_id)
    spool.deliver(client)
    assert held(client, run_id, tmp_path) == EXPECTED
    assert not spool.entries(run_id)


def test_runs_wait_apart(spool: Spool) -> None:
    spool.add(RUN, "tags", {"a": "1"})
    spool.add("b" * 32, "tags", {"b": "1"})
    recorder = Recorder()
    spool.deliver(recorder)
    assert [arguments[0] for _, arguments, _ in recorder.calls] == [RUN, "b" * 32]
    assert not spool.entries(RUN)
    assert not spool.entries("b" * 32)


def test_a_run_that_has_arrived_does_not_wait_for_the_next(spool: Spool) -> None:
    spool.add(RUN, "tags", {"a": "1"})
    spool.add("b" * 32, "tags", {"b": "1"})
    with pytest.raises(MlflowException):
        spool.deliver(Recorder(fails=1))
    assert (spool.entries(RUN), spool.entries("b" * 32)) == (False, True)


def test_files_of_one_name_are_both_kept(spool: Spool, client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    for place in ("one", "two"):
        path = tmp_path / place / "verdict.json"
        path.parent.mkdir()
        path.write_text(place)
        spool.add(run_id, "file", path)
    assert sorted(path.read_text() for path in spool.directory.rglob("verdict.json")) == ["one", "two"]
    spool.deliver(client)
    assert held(client, run_id, tmp_path)["files"] == {"verdict.json": "two"}


def test_numbers_survive_the_file(spool: Spool) -> None:
    spool.add(RUN, "metrics", [["loss", math.nan, 1, 0], ["worst", -math.inf, 1, 0], ["tiny", 1e-300, 1, 0]])
    recorder = Recorder()
    spool.deliver(recorder)
    values = [metric.value for metric in recorder.calls[0][2]["metrics"]]
    assert math.isnan(values[0])
    assert values[1:] == [-math.inf, 1e-300]


def test_text_survives_the_file(spool: Spool) -> None:
    spool.add(RUN, "tags", {"reason": "Währung 通貨\nsecond line\u2028 third"})
    recorder = Recorder()
    spool.deliver(recorder)
    assert recorder.calls[0][2]["tags"][0].value == "Währung 通貨\nsecond line\u2028 third"


def test_more_than_one_call_may_carry_arrives(client: MlflowClient, run_id: str) -> None:
    """A server takes 1,000 metrics, and 100 settings or tags, at a time; MLflow's client sees to that."""
    deliver(client, run_id, "metrics", [[f"m{number}", 1.0, 1, 0] for number in range(2_001)])
    for kind in ("params", "tags"):
        deliver(client, run_id, kind, {f"k{number}": "v" for number in range(201)})
    data = client.get_run(run_id).data
    assert (len(data.metrics), len(data.params)) == (2_001, 201)
    assert {f"k{number}" for number in range(201)} <= data.tags.keys()


@pytest.mark.parametrize("run_id", ["", "..", "../x", "a/b", "a b", "a\n", "a.b", "ä"])
def test_what_is_no_run_id_makes_no_path(spool: Spool, run_id: str) -> None:
    with pytest.raises(ValueError, match="is not an MLflow run id"):
        spool.add(run_id, "tags", {})
    with pytest.raises(ValueError, match="is not an MLflow run id"):
        spool.entries(run_id)
    assert not spool.directory.exists()


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="no entry of kind 'tag'"):
        deliver(Recorder(), RUN, "tag", {})


def test_looking_makes_nothing(spool: Spool) -> None:
    assert not spool.entries(RUN)
    spool.deliver(Recorder())
    assert not spool.directory.exists()


def tear(spool: Spool) -> None:
    """Leaves the last entry as a kill in the middle of its writing does."""
    entries = next(spool.directory.glob("*/*.jsonl"))
    entries.write_bytes(entries.read_bytes()[:-5])


@pytest.mark.parametrize("later", [[], ["c"]], ids=["last", "and one after it"])
def test_an_entry_torn_by_a_kill_does_not_stop_the_others(spool: Spool, later: list[str]) -> None:
    spool.add(RUN, "tags", {"a": "1"})
    spool.add(RUN, "tags", {"b": "1"})
    tear(spool)
    for key in later:
        spool.add(RUN, "tags", {key: "1"})
    recorder = Recorder()
    spool.deliver(recorder)
    assert [options["tags"][0].key for _, _, options in recorder.calls] == ["a", *later]
    assert not spool.entries(RUN)


def test_a_kill_between_a_file_and_its_entry_does_not_stop_what_follows(spool: Spool) -> None:
    spool.add(RUN, "tags", {"a": "1"})
    (spool.directory / ("b" * 32) / "0123").mkdir(parents=True)
    (spool.directory / ("b" * 32) / "0123" / "run.json").write_text("{}")
    (spool.directory / "notes.txt").write_text("a stray file")
    recorder = Recorder()
    spool.deliver(recorder)
    assert len(recorder.calls) == 1
    assert not spool.entries(RUN)


def test_a_kill_while_a_delivered_run_is_forgotten_does_not_stop_what_follows(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(spool, RUN, tmp_path)

    def killed(directory: Path) -> None:
        for path in Path(directory).rglob("run.json"):
            path.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            spool.deliver(Recorder())
    again = Recorder()
    spool.deliver(again)
    assert "log_artifact" not in [name for name, _, _ in again.calls]
    assert not spool.entries(RUN)


def test_what_the_store_refuses_is_told_and_kept_apart(
    spool: Spool, client: MlflowClient, run_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client.log_param(run_id, "preset", "other")  # parameters cannot change
    fill(spool, run_id, tmp_path)
    with caplog.at_level(logging.WARNING, "newsdesk"):
        spool.deliver(client)
    found = held(client, run_id, tmp_path)
    assert found["params"]["preset"] == "other"
    assert {key: found[key] for key in found if key != "params"} == {
        key: EXPECTED[key] for key in EXPECTED if key != "params"
    }
    assert len(caplog.records) == 1
    assert run_id in caplog.text
    (kept,) = spool.directory.glob("*/refused.jsonl")
    assert [json.loads(line)[0] for line in kept.read_text().splitlines()] == ["params"]
    assert not spool.entries(run_id)
    spool.deliver(client)  # and does not stop the next run
