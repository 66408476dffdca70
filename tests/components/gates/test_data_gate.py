"""DataGate stops the run on data that break the schema or drift, and leaves its verdict and a profile behind."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_data_validation.statistics.stats_impl import generate_statistics_in_memory
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.types import artifact_utils, standard_artifacts

from components import features
from components.artifacts import Champion, DataProfile, Verdict
from components.errors import BadInputError, GateRejectedError
from components.example_gen.examples import read_texts, split_files
from components.example_gen.schema import load_schema
from components.example_gen.source import SAMPLE_DIR, find_source
from components.file_names import PROFILE_FILE, VERDICT_FILE
from components.gates.data.component import DataGate
from components.gates.data.facts import gather
from components.gates.data.gate import DataGateConfig
from components.gates.data.profile import LENGTH_EDGES, from_json, to_json
from components.gates.data.schema_checks import Anomaly, check_schema, find_anomalies, find_unreadable
from components.gates.verdict import MOST_ROWS, check_verdict, read_verdict
from pipeline.config.presets import make_config
from pipeline.graph import RegistryState, create_pipeline
from pipeline.workspace.place import open_workspace

Row = dict[str, str | int]
SCHEMA = load_schema(4)


def rows_of(*texts: str) -> list[Row]:
    """Returns clean rows, with labels 0 to 3 in turn."""
    return [{"text": text, "label": number % 4, "length": "short"} for number, text in enumerate(texts)]


TRAIN = rows_of(*(f"the old story number {number}" for number in "abcdef"))
EVAL = rows_of("the old story number g", "the old story number h")
TEST = rows_of(*(f"the old story number {number}" for number in "ijkl"))


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


@dataclass(frozen=True)
class Ran:
    """What the node left behind. ``profile`` is the text of its file, None if there is none."""

    verdict: dict
    profile: str | None
    error: Exception | None


@pytest.fixture
def run_gate(tmp_path: Path) -> Callable[..., Ran]:
    """Runs the node's function on artifacts of the rows: ``run_gate(train=[...], champion=text of a profile)``."""

    def run(
        train: list[Row] = TRAIN,
        evaluation: list[Row] = EVAL,
        test: list[Row] = TEST,
        champion: str | None = None,
        classes: tuple[str, ...] = ("0", "1", "2", "3"),
        **limits: object,
    ) -> Ran:
        artifacts = {
            "examples": standard_artifacts.Examples(),
            "statistics": standard_artifacts.ExampleStatistics(),
            "schema": standard_artifacts.Schema(),
            "anomalies": standard_artifacts.ExampleAnomalies(),
            "champion": Champion(),
            "verdict": Verdict(),
            "profile": DataProfile(),
        }
        uris = {name: tmp_path / name for name in artifacts}
        for name, artifact in artifacts.items():
            artifact.uri = str(uris[name])
            uris[name].mkdir()
        for name in ("examples", "statistics", "anomalies"):
            artifacts[name].split_names = artifact_utils.encode_split_names(list(features.SPLITS))
        (uris["schema"] / "schema.pbtxt").write_text(SCHEMA)
        if champion is not None:
            (uris["champion"] / PROFILE_FILE).write_text(champion)
        for split, rows in zip(features.SPLITS, (train, evaluation, test), strict=True):
            write_examples(uris["examples"] / f"Split-{split}" / "data.gz", rows)
            found, stats = examine(rows)
            for name, file, message in (
                ("statistics", "FeatureStats.pb", stats),
                ("anomalies", "SchemaDiff.pb", found),
            ):
                directory = uris[name] / f"Split-{split}"
                directory.mkdir()
                (directory / file).write_bytes(message.SerializeToString())
        DataGate.test_call(
            **artifacts,
            settings=DataGateConfig(**limits).model_dump_json(),
            code_digest="x",
            classes=json.dumps(classes),
        )
        error = None
        try:
            check_verdict(read_verdict(uris["verdict"]))
        except GateRejectedError as raised:
            error = raised
        profile = uris["profile"] / PROFILE_FILE
        return Ran(
            json.loads((uris["verdict"] / VERDICT_FILE).read_text()),
            profile.read_text() if profile.exists() else None,
            error,
        )

    return run


def profile_text(train: list[Row]) -> str:
    """Returns the profile that a run on these rows leaves."""
    splits = {"train": train, "eval": EVAL, "test": TEST}
    rows = {name: [(str(row["text"]).encode(), int(row["label"])) for row in part] for name, part in splits.items()}
    return to_json(gather(rows, "0123").profile)


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


@pytest.fixture
def graph(tmp_path: Path) -> dict[str, Any]:
    """The nodes of the graph by their ids."""
    made = create_pipeline(
        make_config("sample"), find_source(SAMPLE_DIR), open_workspace(tmp_path), {}, RegistryState("", "")
    )
    return {node.id: node for node in made.components}


def test_statistics_of_the_graph_know_the_schema_and_so_count_labels(graph: dict[str, Any]) -> None:
    assert "schema" in graph["StatisticsGen"].inputs


def test_the_graph_learns_words_from_train_alone_and_measures_on_test_alone(graph: dict[str, Any]) -> None:
    """Every other split that a node reads beside these tells it something that it must not know."""
    splits = json.loads(graph["Transform"].exec_properties["splits_config"])
    assert splits == {"analyze": ["train"], "transform": ["train", "eval"]}
    fitted, chosen = (json.loads(graph["Trainer"].exec_properties[name]) for name in ("train_args", "eval_args"))
    assert (fitted, chosen) == ({"splits": ["train"]}, {"splits": ["eval"]})
    assert json.loads(graph["Evaluator"].exec_properties["example_splits"]) == ["test"]


def test_clean_data_pass_with_a_verdict_and_a_profile(run_gate: Callable[..., Ran]) -> None:
    ran = run_gate()
    assert ran.error is None
    checks = ran.verdict.pop("checks")
    drawn = {
        "rows": {"train": 6, "eval": 2, "test": 4},
        "class_counts": {"train": [2, 2, 1, 1], "eval": [1, 1, 0, 0], "test": [1, 1, 1, 1]},
        "length_counts": [6 * (edge == 5) for edge in LENGTH_EDGES],
        "words": 30,
    }
    assert ran.verdict == {
        "gate": "DataGate",
        "passed": True,
        "reasons": [],
        "warnings": [],
        "numbers": {
            "test_rows": 4,
            "test_rows_in_train": 0,
            "classes": ["0", "1", "2", "3"],
            "length_edges": list(LENGTH_EDGES),
            "data": drawn,
            "champion": None,
        },
    }
    assert [check["name"] for check in checks] == list(DataGateConfig.model_fields)
    assert all(check["passed"] for check in checks)
    assert ran.profile == profile_text(TRAIN)
    assert from_json(ran.profile).words["the"] == 6


def test_a_champion_with_a_profile_is_compared_with(run_gate: Callable[..., Ran]) -> None:
    ran = run_gate(champion=profile_text([*TRAIN, *TRAIN]))
    checks = {check["name"]: check for check in ran.verdict["checks"]}
    assert checks["row_collapse"]["value"] == 0.5
    assert checks["length_drift"]["value"] == 0
    assert ran.verdict["numbers"]["champion"]["rows"] == {"train": 12, "eval": 2, "test": 4}
    assert ran.error is None


def test_drift_from_the_champion_stops_the_run_with_a_verdict_and_a_profile(run_gate: Callable[..., Ran]) -> None:
    long = [{**row, "text": f"{row['text']} and so on and so forth"} for row in TRAIN]
    ran = run_gate(champion=profile_text(long), vocabulary_drift={"severity": "warn", "threshold": 0.01})
    (reason,) = ran.verdict["reasons"]
    assert reason.startswith("words per text of train diverge by 1 bits, median now 5, was 10 to 11, above the limit")
    assert str(ran.error) == f"DataGate: {reason}"
    assert ran.verdict["passed"] is False
    assert ran.profile == profile_text(TRAIN)


def test_settings_reach_the_checks(run_gate: Callable[..., Ran]) -> None:
    ran = run_gate(
        missing_class="off", class_ratio={"severity": "warn", "threshold": 1.5}, length_drift={"threshold": 9}
    )
    checks = {check["name"]: check for check in ran.verdict["checks"]}
    assert "missing_class" not in checks
    assert (checks["class_ratio"]["passed"], checks["class_ratio"]["severity"]) == (False, "warn")
    assert ran.verdict["warnings"] == [checks["class_ratio"]["sentence"]]
    assert checks["length_drift"]["limit"] == 9


def test_classes_are_called_by_their_names(run_gate: Callable[..., Ran]) -> None:
    ran = run_gate(test=TEST[:3], classes=features.AG_NEWS_CLASSES)
    (reason,) = ran.verdict["reasons"]
    assert reason.startswith("classes without a row: Sci/Tech in test, ")
    assert ran.verdict["numbers"]["classes"] == list(features.AG_NEWS_CLASSES)


@pytest.mark.parametrize("damage", ["", "{}", "{cut"])
def test_a_damaged_profile_of_the_champion_is_no_reason_to_go_on(run_gate: Callable[..., Ran], damage: str) -> None:
    with pytest.raises(BadInputError, match=r"profile\.json is damaged, so drift cannot be judged .*promote another"):
        run_gate(champion=damage)


@pytest.mark.parametrize("split", ["train", "evaluation", "test"])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"text": "x y z", "label": 7, "length": "short"}, ["feature label", "7"]),
        ({"text": "x y z", "label": 0, "length": "huge"}, ["feature length", "'huge' in 1 row"]),
        ({"label": 0, "length": "short"}, ["feature text"]),
        ({"text": "x y z", "length": "short"}, ["feature label"]),
    ],
    ids=["label_out_of_domain", "unknown_length", "text_missing", "label_missing"],
)
def test_a_bad_row_in_any_split_stops_the_run(
    run_gate: Callable[..., Ran], split: str, bad: Row, words: list[str]
) -> None:
    rows = {"train": TRAIN, "evaluation": EVAL, "test": TEST}[split]
    ran = run_gate(**{split: [*rows, bad]})
    assert isinstance(ran.error, GateRejectedError)
    (reason,) = ran.error.reasons
    assert ran.error.gate == "DataGate"
    assert reason.startswith("eval split" if split == "evaluation" else f"{split} split")
    assert all(word in reason for word in [*words, "(data_gate.schema_anomalies)"])
    assert str(ran.error) == f"DataGate: {reason}"
    assert ran.verdict["reasons"] == [reason]
    assert (ran.profile is None) == ("text" not in bad or "label" not in bad)


def test_all_broken_splits_are_reported_at_once(run_gate: Callable[..., Ran]) -> None:
    ran = run_gate(
        train=[*TRAIN, {"text": "x y z", "label": 7, "length": "short"}],
        test=[*TEST, {"text": "x y z", "label": 0, "length": "huge"}, TRAIN[0]],
    )
    assert [reason.split(":")[0] for reason in ran.verdict["reasons"]] == [
        "train split, feature label",
        "test split, feature length",
        "2 of 6 test rows stand in train or eval too (33.33%), above the limit of 1.00% (data_gate.leakage.threshold)",
    ]
    assert ran.verdict["checks"][0]["rows"] == ['train row of label 7: "x y z"']
    assert ran.verdict["checks"][1]["rows"] == ["'huge' in 1 row"]


@pytest.mark.parametrize("severity", ["warn", "off"])
def test_a_lesser_severity_lets_anomalies_pass_but_no_rows_that_cannot_be_read(
    run_gate: Callable[..., Ran], severity: str
) -> None:
    ran = run_gate(test=[*TEST, {"text": "x y z", "label": 0, "length": "huge"}], schema_anomalies=severity)
    assert ran.error is None
    assert len(ran.verdict["warnings"]) == (severity == "warn")


@pytest.mark.parametrize("severity", ["fail", "warn", "off"])
def test_rows_that_cannot_be_read_stop_the_run_whatever_the_severity(
    run_gate: Callable[..., Ran], severity: str
) -> None:
    ran = run_gate(test=[*TEST, {"label": 0, "length": "short"}], schema_anomalies=severity)
    (reason,) = ran.verdict["reasons"]
    assert reason.startswith("test split, feature text: ")
    assert (reason.endswith("not one text in every row, so the rows cannot be read (data_gate.schema_anomalies)")) == (
        severity != "fail"
    )
    assert len(ran.verdict["warnings"]) == (severity == "warn")


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
def test_test_rows_that_stand_in_train_stop_the_run_and_are_counted(
    run_gate: Callable[..., Ran], train: list[Row], evaluation: list[Row], test: list[Row], count: int
) -> None:
    ran = run_gate(train=train, evaluation=evaluation, test=test)
    numbers = ran.verdict["numbers"]
    assert (numbers["test_rows"], numbers["test_rows_in_train"]) == (len(test), count)
    assert any(reason.startswith(f"{count} of {len(test)} test rows stand in") for reason in ran.verdict["reasons"])


def test_rows_of_one_text_and_one_class_id_each_are_readable() -> None:
    assert find_unreadable("train", examine(TRAIN)[1].datasets[0]) == []


@pytest.mark.parametrize(
    ("rows", "feature", "what"),
    [
        ([*TRAIN, {"label": 0, "length": "short"}], "text", "text"),
        ([*TRAIN, {"text": "x", "length": "short"}], "label", "class id"),
        ([{"label": 0, "length": "short"}], "text", "text"),
        ([{"text": "x", "label": "Sport", "length": "short"}], "label", "class id"),
        ([{"text": 5, "label": 0, "length": "short"}], "text", "text"),
    ],
)
def test_a_row_without_text_or_class_id_is_unreadable(rows: list[Row], feature: str, what: str) -> None:
    (found,) = find_unreadable("eval", examine(rows)[1].datasets[0])
    assert found == Anomaly("eval", feature, f"not one {what} in every row, so the rows cannot be read", ())


def test_a_row_of_two_texts_is_unreadable() -> None:
    statistics = examine(TRAIN)[1].datasets[0]
    (text,) = (feature for feature in statistics.features if feature.path.step[:] == ["text"])
    text.string_stats.common_stats.max_num_values = 2
    assert [found.feature for found in find_unreadable("eval", statistics)] == ["text"]


def test_a_split_without_rows_is_unreadable_and_told_once() -> None:
    unreadable = find_unreadable("eval", statistics_pb2.DatasetFeatureStatistics())
    anomalies = anomalies_pb2.Anomalies(data_missing=True)
    found = find_anomalies("eval", anomalies, statistics_pb2.DatasetFeatureStatistics(), schema_pb2.Schema())
    for known in (found, []):
        (check,) = check_schema(known, unreadable, {}, DataGateConfig())
        assert check.sentence == "eval split, feature (all): the split holds no rows (data_gate.schema_anomalies)"
        assert (check.severity, check.passed) == ("fail", False)


def test_an_anomaly_shows_ten_rows_at_most() -> None:
    labels = Anomaly("test", "label", "bad", tuple((f"{number}", 1) for number in range(4, 24)))
    rows = {"test": [(b"some text", number) for number in range(4, 24)]}
    for unknown, shown in ((rows, 'test row of label 4: "some text"'), ({}, "'4' in 1 row")):
        (check,) = check_schema([labels], [], unknown, DataGateConfig())
        assert len(check.rows) == MOST_ROWS
        assert check.rows[0] == shown


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_texts_are_read_from_all_files_of_one_split_in_name_order(tmp_path: Path, suffix: str) -> None:
    write_examples(tmp_path / "Split-train" / f"data-1{suffix}", TRAIN[3:])
    write_examples(tmp_path / "Split-train" / f"data-0{suffix}", TRAIN[:3])
    write_examples(tmp_path / "Split-test" / f"data-0{suffix}", TEST)
    assert [Path(file).name for file in split_files(str(tmp_path), "train")] == [f"data-0{suffix}", f"data-1{suffix}"]
    assert list(read_texts(str(tmp_path), "train")) == [
        (f"the old story number {letter}".encode(), number % 4) for number, letter in enumerate("abcdef")
    ]


def test_a_split_whose_file_is_empty_has_no_texts(tmp_path: Path) -> None:
    write_examples(tmp_path / "Split-test" / "data.gz", [])
    assert list(read_texts(str(tmp_path), "test")) == []


def test_texts_keep_every_byte(tmp_path: Path) -> None:
    text = 'Währung 通貨 "q"\n\\ \x00 🙂'
    write_examples(tmp_path / "Split-eval" / "data.gz", [{"text": text, "label": 3, "length": "short"}])
    assert list(read_texts(str(tmp_path), "eval")) == [(text.encode(), 3)]
