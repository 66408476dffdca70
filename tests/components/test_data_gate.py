"""DataGate stops the run on data that break the schema, and counts rows that leak into the test split."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_data_validation.statistics.stats_impl import generate_statistics_in_memory
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.types import artifact_utils, standard_artifacts

from components import features
from components.artifacts import Verdict
from components.errors import GateRejectedError
from components.example_gen.source import SAMPLE_DIR, find_source
from components.examples import read_texts, split_files
from components.gates.data import Anomaly, DataGate, count_overlap, find_anomalies
from components.gates.verdict import VERDICT_FILE
from components.schema import load_schema
from pipeline.graph import create_pipeline
from pipeline.presets import make_config
from pipeline.workspace import open_workspace

Row = dict[str, str | int]
SCHEMA = load_schema(4)


def rows_of(*texts: str) -> list[Row]:
    """Returns clean rows, with labels 0 to 3 in turn."""
    return [{"text": text, "label": number % 4, "length": "short"} for number, text in enumerate(texts)]


TRAIN = rows_of("a", "b", "c", "d", "e", "f")
EVAL = rows_of("g", "h")
TEST = rows_of("i", "j", "k", "l")


def examine(rows: list[Row]) -> tuple[anomalies_pb2.Anomalies, statistics_pb2.DatasetFeatureStatisticsList]:
    """Returns anomalies and statistics of rows, as ExampleValidator and StatisticsGen write them."""
    schema = text_format.Parse(SCHEMA, schema_pb2.Schema())
    names = sorted({name for row in rows for name in row})
    columns = [pa.array([[row[name]] if name in row else None for row in rows]) for name in names]
    statistics = generate_statistics_in_memory(
        pa.RecordBatch.from_arrays(columns, names), tfdv.StatsOptions(schema=schema)
    )
    return tfdv.validate_statistics(statistics, schema), statistics


def sentences(rows: list[Row]) -> list[str]:
    """Returns the anomalies of rows as the gate words them."""
    anomalies, statistics = examine(rows)
    schema = text_format.Parse(SCHEMA, schema_pb2.Schema())
    return [str(anomaly) for anomaly in find_anomalies("train", anomalies, statistics.datasets[0], schema)]


def write_examples(path: Path, rows: Iterable[Row]) -> None:
    """Writes rows as a TFRecord file, compressed if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as writer:
        for row in rows:
            feature = {
                name: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                if isinstance(value, int)
                else tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
                for name, value in row.items()
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


@pytest.fixture
def run_gate(tmp_path: Path) -> Callable[..., dict]:
    """Runs the node's function on artifacts of the rows; returns the verdict: ``run_gate(train=[...])``."""

    def run(train: list[Row] = TRAIN, evaluation: list[Row] = EVAL, test: list[Row] = TEST) -> dict:
        examples, statistics, schema, anomalies, verdict = (
            standard_artifacts.Examples(),
            standard_artifacts.ExampleStatistics(),
            standard_artifacts.Schema(),
            standard_artifacts.ExampleAnomalies(),
            Verdict(),
        )
        for artifact in (examples, statistics, schema, anomalies, verdict):
            artifact.uri = str(tmp_path / type(artifact).__name__)
            Path(artifact.uri).mkdir()
        for artifact in (examples, statistics, anomalies):
            artifact.split_names = artifact_utils.encode_split_names(list(features.SPLITS))
        Path(schema.uri, "schema.pbtxt").write_text(SCHEMA)
        for split, rows in zip(features.SPLITS, (train, evaluation, test), strict=True):
            write_examples(Path(examples.uri, f"Split-{split}", "data.gz"), rows)
            found, stats = examine(rows)
            for uri, name, message in (
                (statistics.uri, "FeatureStats.pb", stats),
                (anomalies.uri, "SchemaDiff.pb", found),
            ):
                directory = Path(uri, f"Split-{split}")
                directory.mkdir()
                (directory / name).write_bytes(message.SerializeToString())
        verdict_file = Path(verdict.uri, VERDICT_FILE)
        try:
            DataGate.test_call(
                examples=examples,
                statistics=statistics,
                schema=schema,
                anomalies=anomalies,
                verdict=verdict,
                code_digest="x",
            )
        except GateRejectedError:
            assert not verdict_file.exists()
            raise
        return json.loads(verdict_file.read_text())

    return run


def test_clean_rows_have_no_anomalies() -> None:
    assert sentences(TRAIN) == []


def test_an_unknown_length_is_named_with_its_rows() -> None:
    rows = TRAIN + [{"text": "x", "label": 0, "length": "huge"}] * 2 + [{"text": "x", "label": 0, "length": "tiny"}]
    (sentence,) = sentences(rows)
    assert sentence.startswith("train split, feature length: ")
    assert sentence.endswith("('huge' in 2 rows, 'tiny' in 1 row)")


@pytest.mark.parametrize("label", [7, 4, -1])
def test_a_label_outside_the_classes_is_named_with_its_rows(label: int) -> None:
    (sentence,) = sentences([*TRAIN, *[{"text": "x", "label": label, "length": "short"}] * 3])
    assert sentence.startswith("train split, feature label: ")
    assert sentence.endswith(f"('{label}' in 3 rows)")


def test_a_label_that_is_no_number_is_an_anomaly() -> None:
    (sentence,) = sentences([{"text": "x", "label": "Sport", "length": "short"}])
    assert "feature label" in sentence
    assert "'Sport' in 1 row" in sentence


@pytest.mark.parametrize("name", ["text", "label", "length"])
def test_a_feature_missing_from_one_row_is_an_anomaly(name: str) -> None:
    (sentence,) = sentences([*TRAIN, {key: value for key, value in TRAIN[0].items() if key != name}])
    assert f"feature {name}: " in sentence
    assert "fewer examples than expected" in sentence


def test_a_feature_missing_from_all_rows_is_an_anomaly() -> None:
    (sentence,) = sentences([{"label": 0, "length": "short"}])
    assert sentence == "train split, feature text: Column is completely missing"


def test_a_feature_that_the_schema_does_not_know_is_an_anomaly() -> None:
    (sentence,) = sentences([{**TRAIN[0], "author": "me"}])
    assert sentence.startswith("train split, feature author: New column")


def test_each_broken_feature_has_its_own_sentence() -> None:
    broken = sentences([*TRAIN, {"text": "x", "label": 9, "length": "huge"}])
    assert [sentence.split(":")[0] for sentence in broken] == [
        "train split, feature label",
        "train split, feature length",
    ]


def test_a_split_without_rows_is_an_anomaly() -> None:
    anomalies = anomalies_pb2.Anomalies(data_missing=True)
    found = find_anomalies("eval", anomalies, statistics_pb2.DatasetFeatureStatistics(), schema_pb2.Schema())
    assert found == [Anomaly("eval", "(all)", "the split holds no rows", ())]


def test_an_anomaly_of_the_data_as_a_whole_is_kept() -> None:
    anomalies = anomalies_pb2.Anomalies()
    anomalies.dataset_anomaly_info.description = "too few rows"
    found = find_anomalies("eval", anomalies, statistics_pb2.DatasetFeatureStatistics(), schema_pb2.Schema())
    assert found == [Anomaly("eval", "(all)", "too few rows", ())]


def test_a_sentence_names_five_values_at_most() -> None:
    values = tuple((f"v{number}", number) for number in range(1, 8))
    sentence = str(Anomaly("test", "length", "bad", values))
    assert sentence == (
        "test split, feature length: bad "
        "('v1' in 1 row, 'v2' in 2 rows, 'v3' in 3 rows, 'v4' in 4 rows, 'v5' in 5 rows)"
    )
    assert str(Anomaly("test", "length", "bad", ())) == "test split, feature length: bad"


def test_statistics_of_the_graph_know_the_schema_and_so_count_labels(tmp_path: Path) -> None:
    graph = create_pipeline(make_config("sample"), find_source(SAMPLE_DIR), open_workspace(tmp_path), {})
    (statistics_gen,) = (node for node in graph.components if node.id == "StatisticsGen")
    assert "schema" in statistics_gen.inputs


def test_clean_data_pass_with_a_verdict(run_gate: Callable[..., dict]) -> None:
    assert run_gate() == {
        "gate": "DataGate",
        "passed": True,
        "reasons": [],
        "numbers": {"test_rows": 4, "test_rows_in_train": 0},
    }


@pytest.mark.parametrize("split", ["train", "evaluation", "test"])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"text": "x", "label": 7, "length": "short"}, ["feature label", "7"]),
        ({"text": "x", "label": 0, "length": "huge"}, ["feature length", "'huge' in 1 row"]),
        ({"label": 0, "length": "short"}, ["feature text"]),
    ],
    ids=["label_out_of_domain", "unknown_length", "text_missing"],
)
def test_a_bad_row_in_any_split_stops_the_run(
    run_gate: Callable[..., dict], split: str, bad: Row, words: list[str]
) -> None:
    rows = {"train": TRAIN, "evaluation": EVAL, "test": TEST}[split]
    with pytest.raises(GateRejectedError) as caught:
        run_gate(**{split: [*rows, bad]})
    (reason,) = caught.value.reasons
    assert caught.value.gate == "DataGate"
    assert reason.startswith("eval split" if split == "evaluation" else f"{split} split")
    assert all(word in reason for word in words)
    assert str(caught.value) == f"DataGate: {reason}"


def test_all_broken_splits_are_reported_at_once(run_gate: Callable[..., dict]) -> None:
    with pytest.raises(GateRejectedError) as caught:
        run_gate(
            train=[*TRAIN, {"text": "x", "label": 7, "length": "short"}],
            test=[*TEST, {"text": "x", "label": 0, "length": "huge"}],
        )
    assert [reason.split(":")[0] for reason in caught.value.reasons] == [
        "train split, feature label",
        "test split, feature length",
    ]


@pytest.mark.parametrize(
    ("train", "evaluation", "test", "count"),
    [
        ([*TRAIN, TEST[0]], EVAL, TEST, 1),
        (TRAIN, [*EVAL, TEST[0]], TEST, 1),
        ([*TRAIN, TEST[0], TEST[0]], [*EVAL, TEST[0]], TEST, 1),
        (TRAIN, EVAL, [*TEST, TRAIN[0], TRAIN[0], EVAL[0]], 3),
        ([*TRAIN, *TEST], EVAL, TEST, 4),
    ],
)
def test_test_rows_that_stand_in_train_are_counted(
    run_gate: Callable[..., dict], train: list[Row], evaluation: list[Row], test: list[Row], count: int
) -> None:
    verdict = run_gate(train=train, evaluation=evaluation, test=test)
    assert verdict["numbers"] == {"test_rows": len(test), "test_rows_in_train": count}


def test_overlap_compares_whole_texts() -> None:
    assert count_overlap({b"a b", b"c"}, [b"a", b"b", b"A b", b"a b "]) == 0
    assert count_overlap({b"a b", b"c"}, [b"c", b"a b", b"c"]) == 3
    assert count_overlap(set(), []) == 0


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_texts_are_read_from_all_files_of_one_split_in_name_order(tmp_path: Path, suffix: str) -> None:
    write_examples(tmp_path / "Split-train" / f"data-1{suffix}", TRAIN[3:])
    write_examples(tmp_path / "Split-train" / f"data-0{suffix}", TRAIN[:3])
    write_examples(tmp_path / "Split-test" / f"data-0{suffix}", TEST)
    assert [Path(file).name for file in split_files(str(tmp_path), "train")] == [f"data-0{suffix}", f"data-1{suffix}"]
    assert list(read_texts(str(tmp_path), "train")) == [
        (b"a", 0), (b"b", 1), (b"c", 2), (b"d", 3), (b"e", 0), (b"f", 1),
    ]  # fmt: skip


def test_a_split_whose_file_is_empty_has_no_texts(tmp_path: Path) -> None:
    write_examples(tmp_path / "Split-test" / "data.gz", [])
    assert list(read_texts(str(tmp_path), "test")) == []


def test_texts_keep_every_byte(tmp_path: Path) -> None:
    text = 'Währung 通貨 "q"\n\\ \x00 🙂'
    write_examples(tmp_path / "Split-eval" / "data.gz", [{"text": text, "label": 3, "length": "short"}])
    assert list(read_texts(str(tmp_path), "eval")) == [(text.encode(), 3)]
