"""One whole run on a tiny world, with sockets blocked; everything else here looks at what it left."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocked_sockets import BLOCK_SOCKETS
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from mlflow import MlflowClient
from tiny_settings import TINY

from components import features
from components.example_gen.source import find_source
from pipeline.config.config import override
from pipeline.config.presets import make_config
from trainers.input import Rows, read_rows

NODES = [
    "ExampleGen",
    "ImportSchema",
    "StatisticsGen",
    "ExampleValidator",
    "Champion",
    "DataGate",
    "Baseline",
    "Transform",
    "Trainer",
    "Evaluator",
    "Answers",
    "Register",
    "ModelGate",
    "ServingGate",
    "Card",
    "Pusher",
    "Promote",
]
JUDGED_AGAIN = {"Champion", "DataGate", "Register", "ModelGate", "Card", "Pusher", "Promote"}
"""What a run does again after the champion has changed."""


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory, run_tiny: Callable[..., Any], tiny_world: Callable[..., Path]
) -> Any:
    """The run all tests of this module look at: ``(finished, workspace, data)``."""
    root = tmp_path_factory.mktemp("first")
    data = tiny_world(root / "data", malformed=["not,enough"])
    finished = run_tiny(data, root / "ws", prelude=BLOCK_SOCKETS, settings={"data.malformed_budget": "0.01"})
    assert finished.code == 0, finished.err
    return finished, root / "ws", data


def test_every_node_ran_once(first: Any) -> None:
    finished, _, _ = first
    assert finished.states() == dict.fromkeys(NODES, "ran")


def test_the_last_node_has_the_last_word_on_the_screen(first: Any) -> None:
    """What is left of TensorFlow when the process ends complains to nobody."""
    assert first[0].err.splitlines()[-1].split()[:2] == ["Promote", "done"]


def test_result_follows_the_contract(first: Any) -> None:
    result = first[0].result
    assert result["status"] == "pushed"
    assert result["model_family"] == "transformer"
    assert result["model_name"] == "ag_news"
    assert result["model_version"] == "1"
    assert result["reasons"] == []
    assert result["metrics"]["accuracy"] > 0.9
    assert result["metrics"]["baseline_accuracy"] > 0.9
    assert all(node["seconds"] >= 0 for node in result["nodes"])
    assert set(result) == {
        "status", "run_id", "mlflow_run_id", "model_family", "model_name", "model_version", "model_dir",
        "metrics", "nodes", "seconds", "report", "reasons",
    }  # fmt: skip


def test_pushed_model_is_whole(first: Any) -> None:
    directory = Path(first[0].result["model_dir"])
    assert directory == first[1] / "serving" / "ag_news" / "1"
    manifest = json.loads((directory / "MANIFEST.json").read_text())
    assert "MODEL_CARD.md" in manifest["files"]
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == digest
    assert (directory / "assets.extra" / "classes.txt").read_text().split("\n")[:4] == [
        "World", "Sports", "Business", "Sci/Tech",
    ]  # fmt: skip


def test_predict_answers(first: Any, newsdesk: Callable[..., Any]) -> None:
    done = newsdesk("predict", "--json", "--workspace", first[1], "the coach and the striker", "", "😀" * 50)
    assert done.code == 0, done.err
    answers = json.loads(done.out)
    assert [set(answer) for answer in answers] == [{"text", "label", "label_id", "probability", "probabilities"}] * 3
    assert (answers[0]["label"], answers[0]["label_id"]) == ("Sports", 1)
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_quarantine_names_line_and_reason(first: Any) -> None:
    finished, workspace, data = first
    (entry,) = map(
        json.loads, (workspace / "quarantine" / f"{finished.result['run_id']}.jsonl").read_text().splitlines()
    )
    lines = (data / "train.csv").read_text().splitlines()
    assert lines[entry["line"] - 1] == "not,enough"
    assert entry["reason"] == "2 columns instead of 3"
    assert "not,enough" not in json.dumps(entry)


def test_mlflow_has_the_run(first: Any) -> None:
    finished, workspace, _ = first
    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    run = client.get_run(finished.result["mlflow_run_id"])
    assert client.get_experiment(run.info.experiment_id).name == "ag_news"
    assert run.info.status == "FINISHED"
    assert run.data.params["transformer.width"] == "8"
    assert run.data.tags["mlmd_run_id"] == finished.result["run_id"]
    assert run.data.tags["serving_version"] == "1"
    assert {"data_digest", "code_version", "mlmd_context_id", "model_dir"} <= set(run.data.tags)
    metrics = run.data.metrics
    assert metrics["test/accuracy"] == finished.result["metrics"]["accuracy"]
    assert metrics["baseline/accuracy"] == finished.result["metrics"]["baseline_accuracy"]
    assert metrics["test/label_Sports/recall/Sports"] >= 0.9
    assert "test/length_short/accuracy" in metrics
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train/eval_accuracy")] == [1, 2, 3]
    assert all(f"seconds/{node}" in metrics and f"peak_mb/{node}" in metrics for node in NODES)
    kept = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert kept >= {
        "confusion_matrix.png",
        "ingest.json",
        "DataGate.json",
        "ModelGate.json",
        "ServingGate.json",
        "model",
    }


def test_registry_has_the_candidate_as_champion(first: Any) -> None:
    finished, workspace, _ = first
    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    champion = client.get_model_version_by_alias("ag_news", "champion")
    assert champion.run_id == finished.result["mlflow_run_id"]
    assert champion.tags["serving_version"] == "1"
    assert champion.tags["validation_status"] == "approved"
    assert {champion.tags[f"verdict.{gate}"] for gate in ("DataGate", "ModelGate", "ServingGate")} == {"passed"}
    assert {"data_digest", "code_version", "mlmd_run_id", "model_digest"} <= set(champion.tags)


def test_report_is_one_file_about_the_run(first: Any, newsdesk: Callable[..., Any]) -> None:
    finished, workspace, _ = first
    page = workspace / "reports" / finished.result["run_id"] / "index.html"
    assert finished.result["report"] == str(page)
    assert finished.result["run_id"] in page.read_text(encoding="utf-8")
    assert page.stat().st_size < 3_000_000
    assert "What depth buys" in page.read_text(encoding="utf-8")
    before = page.read_bytes()
    page.unlink()
    again = newsdesk("report", finished.result["run_id"], "--workspace", workspace)
    assert (again.code, again.out.strip()) == (0, str(page))
    assert page.read_bytes() == before


def test_metadata_knows_the_mlflow_run(first: Any) -> None:
    finished, workspace, _ = first
    store = _store(workspace)
    context = store.get_context_by_type_and_name("pipeline_run", finished.result["run_id"])
    assert context.custom_properties["mlflow_run_id"].string_value == finished.result["mlflow_run_id"]
    executions = store.get_executions_by_context(context.id)
    assert len(executions) == len(NODES)
    assert {item.last_known_state for item in executions} == {metadata_store_pb2.Execution.COMPLETE}


def test_test_split_reaches_neither_transform_nor_trainer(first: Any) -> None:
    artifacts = first[1] / "artifacts"
    (transformed,) = (artifacts / "Transform" / "transformed_examples").iterdir()
    assert sorted(path.name for path in transformed.iterdir()) == ["Split-eval", "Split-train"]
    (examples,) = (artifacts / "ExampleGen" / "examples").iterdir()
    assert sorted(path.name for path in examples.iterdir()) == ["Split-eval", "Split-test", "Split-train"]


def test_experiments_see_the_rows_of_a_run(first: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their accuracies stand for those of runs: same rows, same words, same numbers."""
    _, workspace, data = first
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    experiment = import_module("experiment")
    config = override(make_config("sample"), TINY)
    texts = experiment.read_texts(find_source(data), config.data.eval_fraction)
    encoded = experiment.encode(texts, config, {})
    for split in (features.TRAIN, features.EVAL):
        (transformed,) = workspace.glob(f"artifacts/Transform/transformed_examples/*/Split-{split}")
        assert in_order(encoded[split]) == in_order(read_rows(f"{transformed}/*"))


def in_order(rows: Rows) -> list[tuple[int, list[int]]]:
    ids = np.split(rows.ids, rows.starts[1:-1])
    return sorted((int(label), row.tolist()) for label, row in zip(rows.labels, ids, strict=True))


def test_metadata_database_is_sound(first: Any) -> None:
    with closing(sqlite3.connect(first[1] / "metadata.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_repeated_runs_are_answered_from_the_cache(first: Any, run_tiny: Callable[..., Any]) -> None:
    finished, workspace, data = first
    (data / "train.csv").touch()
    # The first run made a champion, against which the same model is judged once; after that nothing is new.
    for judged_again in (JUDGED_AGAIN, set()):
        again = run_tiny(data, workspace, settings={"data.malformed_budget": "0.01"})
        assert again.code == 0, again.err
        assert {node for node, state in again.states().items() if state == "ran"} == judged_again
        assert {node for node, state in again.states().items() if state == "cached"} == set(NODES) - judged_again
        assert again.result["status"] == "pushed"
        assert again.result["model_version"] == "1"
        assert again.result["metrics"] == finished.result["metrics"]
        assert again.result["run_id"] != finished.result["run_id"]
        assert (workspace / "quarantine" / f"{again.result['run_id']}.jsonl").exists()
    assert json.loads((workspace / "serving" / "ag_news" / "aliases.json").read_text()) == {"champion": 1}


def _store(workspace: Path) -> metadata_store.MetadataStore:
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(workspace / "metadata.sqlite")
    return metadata_store.MetadataStore(config)
