"""On a real Flink and a real Spark every node gives what it gives in memory, and so does batch inference.

Workers are the run's own process (loopback): containers need an engine for them, which tests do not ask for.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from job_server import job_server
from tensorflow_metadata.proto.v0 import statistics_pb2
from tiny_settings import TINY, to_options

pytestmark = [pytest.mark.engines, pytest.mark.timeout(1800)]

SPLITS = ("train", "eval", "test")
SETTINGS = TINY | {"text.vocab_size": "60", "data.eval_fraction": "0.1", "data.malformed_budget": "0.1"}


@dataclass(frozen=True)
class Run:
    """A finished run: what it printed, its workspace, and the options that chose its engine."""

    result: dict[str, Any]
    workspace: Path
    options: list[str]

    def outputs(self, node: str, output: str) -> Path:
        (directory,) = (self.workspace / "artifacts" / node / output).iterdir()
        return directory


def newsdesk(*arguments: str | Path) -> dict[str, Any]:
    code = "from pipeline.cli.main import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "NEWSDESK_WORKSPACE"},
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def run(world: Path, name: str, options: list[str]) -> Run:
    settings = to_options(SETTINGS)
    workspace = world / name
    result = newsdesk("run", "--data", world / "data", "--workspace", workspace, *settings, *options)
    return Run(result, workspace, options)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_world: Callable[..., Path]) -> Path:
    """A directory with ``data`` in it, three of whose rows are malformed."""
    root = tmp_path_factory.mktemp("engines")
    tiny_world(root / "data", malformed=['"1","two columns"', '"2","",""', '"3","a","b","c"'])
    return root


@pytest.fixture(scope="module")
def in_memory(world: Path) -> Run:
    """The run that the others are held to."""
    return run(world, "in-memory", [])


@pytest.fixture(scope="module", params=["flink", "spark"])
def on_engine(request: pytest.FixtureRequest, world: Path, in_memory: Run) -> Iterator[Run]:
    """The same run with its data work on an engine, which goes on running."""
    engine = request.param
    with job_server(engine, world) as endpoint:
        options = ["--beam", engine, "--set", f"beam.job_endpoint={endpoint}", "--set", "beam.workers=loopback"]
        if engine == "flink":
            options += ["--set", "beam.parallelism=2"]
        yield run(world, engine, options)
        # It was the engine that did it.
        log = (world / f"{engine}.log").read_text(errors="replace")
        assert log.count("Invoking job") >= 5, log[-2000:]


def records(directory: Path) -> list[bytes]:
    """Returns all examples below a directory, sorted: engines write as many files as they like, in any order."""
    files = sorted(map(str, directory.glob("*")))
    assert files
    found = [
        tf.train.Example.FromString(record)
        for file in files
        for record in tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else "").as_numpy_iterator()
    ]
    # Transform writes the features of an example in any order, in memory too.
    return sorted(example.SerializeToString(deterministic=True) for example in found)


def statistics(directory: Path) -> Any:
    """Returns a split's statistics with the features in order of their names."""
    found = tfdv.load_stats_binary(str(directory / "FeatureStats.pb"))
    (dataset,) = found.datasets
    ordered = sorted(dataset.features, key=lambda feature: feature.path.step[0])
    return statistics_pb2.DatasetFeatureStatistics(num_examples=dataset.num_examples, features=ordered)


def test_the_whole_graph_ran(in_memory: Run, on_engine: Run) -> None:
    for done in (in_memory, on_engine):
        assert done.result["status"] == "pushed"
        assert {node["state"] for node in done.result["nodes"]} == {"ran"}
    assert on_engine.result["metrics"]["accuracy"] > 0.9


@pytest.mark.parametrize("split", SPLITS)
def test_ingest_gives_the_same_rows(in_memory: Run, on_engine: Run, split: str) -> None:
    expected, found = (
        records(item.outputs("ExampleGen", "examples") / f"Split-{split}") for item in (in_memory, on_engine)
    )
    assert len(expected) > 20
    assert found == expected


def test_ingest_reports_the_same(in_memory: Run, on_engine: Run) -> None:
    for name in ("report.json", "quarantine.jsonl"):
        expected, found = (
            sorted((item.outputs("ExampleGen", "report") / name).read_text().splitlines())
            for item in (in_memory, on_engine)
        )
        assert len(expected) > 2
        assert found == expected


@pytest.mark.parametrize("split", SPLITS)
def test_statistics_are_the_same(in_memory: Run, on_engine: Run, split: str) -> None:
    expected, found = (
        statistics(item.outputs("StatisticsGen", "statistics") / f"Split-{split}") for item in (in_memory, on_engine)
    )
    assert expected.num_examples > 20
    assert found == expected


def test_transform_gives_the_same_vocabulary(in_memory: Run, on_engine: Run) -> None:
    expected, found = (
        item.outputs("Transform", "transform_graph") / "transform_fn" / "assets" / "vocabulary"
        for item in (in_memory, on_engine)
    )
    assert len(expected.read_text().splitlines()) == 58
    assert found.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("split", ["train", "eval"])
def test_transform_gives_the_same_rows(in_memory: Run, on_engine: Run, split: str) -> None:
    expected, found = (
        records(item.outputs("Transform", "transformed_examples") / f"Split-{split}") for item in (in_memory, on_engine)
    )
    assert len(expected) > 20
    assert found == expected


def test_batch_inference_gives_the_same_answers(in_memory: Run, on_engine: Run, world: Path, tmp_path: Path) -> None:
    models = in_memory.workspace / "serving" / "ag_news"
    arguments = ["batch", world / "data" / "test.csv"]
    common = ["--model-dir", models, "--shard-rows", "20"]
    expected = newsdesk(*arguments, tmp_path / "in-memory.csv", *common)
    found = newsdesk(*arguments, tmp_path / "engine.csv", *common, *on_engine.options)
    assert (found["rows"], found["shards"], found["labels"]) == (80, 4, expected["labels"])
    assert (tmp_path / "engine.csv").read_bytes() == (tmp_path / "in-memory.csv").read_bytes()
