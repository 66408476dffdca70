"""Tests of splits, examples, the ingest report and the ExampleGen node."""

import gzip
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import tensorflow as tf
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils, standard_artifacts

from components import features
from components.artifacts import IngestReport
from components.errors import BadInputError
from components.example_gen import component, ingest
from components.example_gen.source import Source, find_source
from pipeline.config.beam import BeamConfig, beam_args
from pipeline.config.config import DataConfig

pytestmark = pytest.mark.stack

MakeData = Callable[..., Path]
Rows = list[tuple[str, str, str]]

CLASSES = features.AG_NEWS_CLASSES
BUDGET = DataConfig().malformed_budget


def rows(count: int, prefix: str = "Title") -> Rows:
    return [(str(number % 4 + 1), f"{prefix} {number}", f"Text of {number}.") for number in range(count)]


def texts(data: Rows) -> set[str]:
    return {f"{title} {description}" for _, title, description in data}


def parse(record: bytes) -> tuple[str, int, str]:
    feature = tf.train.Example.FromString(record).features.feature
    assert set(feature) == {"text", "label", "length"}
    (text,), (label,), (length,) = (
        feature["text"].bytes_list.value,
        feature["label"].int64_list.value,
        feature["length"].bytes_list.value,
    )
    return text.decode(), label, length.decode()


@dataclass
class Read:
    """What ``ReadFile`` yields for one file."""

    examples: dict[str, list[tuple[str, int, str]]]
    malformed: list[dict[str, Any]]
    summary: dict[str, Any]


def read_file(path: Path, split: str | None = None, eval_fraction: float = 0.05, class_count: int = 4) -> Read:
    outputs: dict[str, list[Any]] = {}
    for output in ingest.ReadFile(class_count, eval_fraction).process(ingest.InputFile(str(path), split)):
        assert isinstance(output, beam.pvalue.TaggedOutput)
        outputs.setdefault(output.tag, []).append(output.value)
    (summary,) = outputs.pop(ingest.SUMMARY)
    malformed = [json.loads(line) for line in outputs.pop(ingest.MALFORMED, [])]
    examples = {tag: [parse(record) for record in records] for tag, records in outputs.items()}
    return Read(examples, malformed, json.loads(summary))


def summary(
    file: str = "train.csv",
    counts: list[list[Any]] | None = None,
    malformed: int = 0,
    unknown: dict[str, dict[str, int]] | None = None,
) -> dict[str, Any]:
    return {"file": file, "malformed": malformed, "unknown_labels": unknown or {}, "counts": counts or []}


def report_of(malformed: int, usable: int) -> dict[str, Any]:
    counts = [["train", 0, usable - 2], ["eval", 1, 1], ["test", 2, 1]]
    return ingest.make_report([summary(counts=counts, malformed=malformed)], CLASSES, "d1")


def refusal(report: dict[str, Any], budget: float = BUDGET) -> str:
    with pytest.raises(BadInputError) as error:
        ingest.check_report(report, budget, "/kept/run.jsonl")
    message = str(error.value)
    assert "\n" not in message
    return message


def test_the_split_of_a_text_never_changes() -> None:
    held_out = [n for n in range(200) if ingest.eval_or_train(f"headline {n}", 0.05) == "eval"]
    assert held_out == [20, 24, 49, 118, 166, 189]
    assert ingest.eval_or_train("Währung 通貨", 0.05) == "train"


def test_the_eval_share_is_what_was_asked_for() -> None:
    for fraction in (0.05, 0.2):
        splits = Counter(ingest.eval_or_train(f"headline {number}", fraction) for number in range(20_000))
        assert set(splits) == {"train", "eval"}
        assert splits["eval"] / 20_000 == pytest.approx(fraction, abs=0.006)


def test_a_larger_eval_fraction_only_adds_to_the_eval_split() -> None:
    small, large = (
        {n for n in range(2000) if ingest.eval_or_train(f"headline {n}", fraction) == "eval"}
        for fraction in (0.05, 0.1)
    )
    assert small < large


def test_equal_texts_get_one_split_whatever_their_label_and_place(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    lines = [f'"{label}","Title {n}","Text"\n' for label in (1, 2, 3) for n in range(200)]
    lines += [f"4,Title {n} , Text \n" for n in reversed(range(200))]
    path.write_text("".join(lines))
    found = read_file(path, eval_fraction=0.2).examples
    counts = {split: Counter(text for text, _, _ in examples) for split, examples in found.items()}
    assert set(counts["train"]) & set(counts["eval"]) == set()
    assert set((counts["train"] + counts["eval"]).values()) == {4}
    assert len(counts["train"] + counts["eval"]) == 200


def test_a_text_with_line_breaks_keeps_the_split_it_had_before_they_were_left_as_they_are(tmp_path: Path) -> None:
    for name, mark in (("new", "\\"), ("old", "\n")):
        lines = [f'"1","Title{mark}{n}{mark}","{mark} Text {mark}{n}"\n' for n in range(200)]
        (tmp_path / name).write_text("".join(lines))
    new, old = (read_file(tmp_path / name, eval_fraction=0.2).examples for name in ("new", "old"))
    assert len(old["eval"]) > 20
    for split in ("train", "eval"):
        words = [[text.replace("\\", " ").split() for text, _, _ in found[split]] for found in (new, old)]
        assert words[0] == words[1]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("goal", "short"),
        ("word " * 28 + "end", "short"),
        ("word " * 29 + "end", "medium"),
        ("word " * 48 + "end", "medium"),
        ("word " * 49 + "end", "long"),
        ('Währung 通貨 "quoted"\nline\u2028break 🙂', "short"),
    ],
)
def test_an_example_holds_text_label_and_length(text: str, length: str) -> None:
    assert parse(ingest.to_example(text, 3)) == (text, 3, length)


def test_equal_examples_are_equal_bytes() -> None:
    assert len({ingest.to_example("goal", 1) for _ in range(20)}) == 1
    assert ingest.to_example("goal", 0) != ingest.to_example("goal", 1)


def test_a_file_with_a_split_of_its_own_goes_there_whole(make_data: MakeData) -> None:
    data = rows(100)
    found = read_file(make_data(test=data) / "test.csv", split="test", eval_fraction=0.5)
    assert found.examples == {
        "test": [(f"{title} {description}", int(label) - 1, "short") for label, title, description in data]
    }
    assert found.summary["counts"] == [["test", label, 25] for label in range(4)]


def test_a_report_adds_up_files_splits_and_classes() -> None:
    report = ingest.make_report(
        [
            summary("train.csv", [["eval", 0, 3], ["train", 0, 10], ["train", 3, 20]], malformed=2),
            summary("test.csv", [["test", 2, 5]], malformed=1, unknown={"Sport": {"count": 4, "line": 7}}),
        ],
        CLASSES,
        "d1",
    )
    assert report == {
        "rows": 45,
        "splits": {
            "train": {"World": 10, "Sports": 0, "Business": 0, "Sci/Tech": 20},
            "eval": {"World": 3, "Sports": 0, "Business": 0, "Sci/Tech": 0},
            "test": {"World": 0, "Sports": 0, "Business": 5, "Sci/Tech": 0},
        },
        "malformed": 3,
        "unknown_labels": [{"file": "test.csv", "value": "Sport", "count": 4, "line": 7}],
        "digest": "d1",
    }


def test_a_report_does_not_depend_on_the_order_of_files() -> None:
    summaries = [
        summary("train.csv", [["train", 0, 1]], unknown={"5": {"count": 1, "line": 2}}),
        summary("test.csv", [["test", 0, 1]], unknown={"0": {"count": 1, "line": 2}}),
    ]
    assert ingest.make_report(summaries, CLASSES, "d1") == ingest.make_report(summaries[::-1], CLASSES, "d1")


@pytest.mark.parametrize("value", ["5", "0", "", "Sport", "-1", "1.0", "01", " 1"])
def test_an_unknown_label_is_named_with_count_file_and_line(make_data: MakeData, value: str) -> None:
    data = rows(40)
    data[6] = (value, "A title\nof two lines", "Text")
    data[10] = data[20] = (value, "Another", "Text")
    found = read_file(make_data(train=data) / "train.csv", eval_fraction=0.5)
    report = ingest.make_report([found.summary, summary("test.csv", [["test", 0, 1]])], CLASSES, "d1")
    assert report["unknown_labels"] == [{"file": "train.csv", "value": value, "count": 3, "line": 7}]
    assert report["rows"] == 41
    message = refusal(report, budget=1.0)
    assert f'"{value}" in 3 rows' in message
    assert "train.csv line 7" in message
    assert '"1" to "4"' in message


def test_one_row_with_an_unknown_label_in_the_test_file_is_enough(make_data: MakeData) -> None:
    data = rows(40)
    data[39] = ("7", "Title", "Text")
    found = read_file(make_data(test=data) / "test.csv", split="test")
    report = ingest.make_report([summary(counts=[["train", 0, 9], ["eval", 0, 9]]), found.summary], CLASSES, "d1")
    assert '"7" in 1 row (first at test.csv line 40)' in refusal(report)


def test_the_classes_decide_which_labels_are_known(make_data: MakeData) -> None:
    found = read_file(make_data(train=rows(40)) / "train.csv", class_count=2)
    assert {value: seen["line"] for value, seen in found.summary["unknown_labels"].items()} == {"3": 3, "4": 4}
    report = ingest.make_report([found.summary], ("Politics", "Money"), "d1")
    message = refusal(report)
    assert '"3" in 10 rows' in message
    assert '"4" in 10 rows' in message
    assert '"1" to "2"' in message


def test_many_unknown_labels_make_a_short_message() -> None:
    unknown = {f"class {number}": {"count": 1, "line": number + 1} for number in range(1000)}
    assert len(refusal(ingest.make_report([summary(unknown=unknown)], CLASSES, "d1"))) < 600


@pytest.mark.parametrize(("malformed", "rows_in_all"), [(0, 50), (1, 1000), (3, 3000), (120, 120_000), (7, 7999)])
def test_malformed_rows_up_to_the_budget_pass(malformed: int, rows_in_all: int) -> None:
    ingest.check_report(report_of(malformed, rows_in_all - malformed), BUDGET, "kept")


@pytest.mark.parametrize(("malformed", "rows_in_all"), [(1, 999), (4, 3999), (121, 120_000)])
def test_one_malformed_row_above_the_budget_is_refused(malformed: int, rows_in_all: int) -> None:
    message = refusal(report_of(malformed, rows_in_all - malformed))
    for part in (f"{malformed} of {rows_in_all} rows", "0.10%", "data.malformed_budget", "/kept/run.jsonl"):
        assert part in message


def test_a_budget_of_nothing_lets_nothing_pass() -> None:
    ingest.check_report(report_of(0, 1000), 0.0, "kept")
    assert "1 of 1000 rows" in refusal(report_of(1, 999), budget=0.0)


@pytest.mark.parametrize("empty", ["train", "eval", "test"])
def test_an_empty_split_is_named(empty: str) -> None:
    counts = [[split, 0, 5] for split in ("train", "eval", "test") if split != empty]
    message = refusal(ingest.make_report([summary(counts=counts)], CLASSES, "d1"))
    assert f"the {empty} split" in message
    assert ("data.eval_fraction" in message) == (empty == "eval")


def test_files_without_a_record_are_refused() -> None:
    assert "train split" in refusal(ingest.make_report([summary(), summary("test.csv")], CLASSES, "d1"))


UNBALANCED = {
    "at the start": '1","A goal","Scored late."\n',
    "behind the label": '"1,"A goal","Scored late."\n',
    "in the title": '"1","A "goal","Scored late."\n',
    "at the end": '"1","A goal","Scored late.\n',
    "before line breaks": '"1","A goal","Scored "late\nsaid all, again, loudly.\nThe end."\n',
}


@pytest.mark.parametrize("broken", UNBALANCED.values(), ids=UNBALANCED.keys())
def test_an_unbalanced_quote_in_row_10_of_1000_stays_within_the_default_budget(
    make_data: MakeData, broken: str
) -> None:
    path = make_data(train=rows(1000)) / "train.csv"
    lines = path.read_text().splitlines(keepends=True)
    lines[9] = broken
    path.write_text("".join(lines))
    found = read_file(path)
    report = ingest.make_report([found.summary, summary("test.csv", [["test", 0, 1]])], CLASSES, "d1")
    ingest.check_report(report, BUDGET, "kept")
    assert report["malformed"] == 1
    assert report["rows"] == 1001
    assert [entry["line"] for entry in found.malformed] == [10]


@dataclass
class Ingested:
    """What one execution of ExampleGen left behind."""

    root: Path
    examples: standard_artifacts.Examples
    error: BadInputError | None

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.root / "report" / "report.json").read_text())

    @property
    def quarantine(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / "report" / "quarantine.jsonl").read_text().splitlines()]

    @property
    def kept(self) -> Path:
        return self.root / "quarantine" / "run-7.jsonl"

    def split(self, name: str) -> list[tuple[str, int, str]]:
        (path,) = Path(artifact_utils.get_split_uri([self.examples], name)).iterdir()
        return sorted(parse(record) for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator())


@pytest.fixture
def run_example_gen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ingested]:
    """Runs the node's executor on a data directory, with the properties its component would record."""
    monkeypatch.setattr(sys, "argv", ["newsdesk"])

    def run(data: Path, eval_fraction: float = 0.2, budget: float = BUDGET, source: Source | None = None) -> Ingested:
        root = tmp_path / f"out-{data.name}"
        shutil.rmtree(root, ignore_errors=True)
        examples, report = standard_artifacts.Examples(), IngestReport()
        examples.uri, report.uri = str(root / "examples"), str(root / "report")
        for uri in (examples.uri, report.uri):
            os.makedirs(uri)
        node = component.ExampleGen(
            source or find_source(data),
            malformed_budget=budget,
            eval_fraction=eval_fraction,
            quarantine_dir=str(root / "quarantine"),
            code_digest="code",
        )
        context = base_beam_executor.BaseBeamExecutor.Context(
            beam_pipeline_args=beam_args(BeamConfig()), pipeline_run_id="run-7"
        )
        error = None
        try:
            component.Executor(context).Do({}, {"examples": [examples], "report": [report]}, node.exec_properties)
        except BadInputError as caught:
            error = caught
        return Ingested(root, examples, error)

    return run


def test_every_option_of_the_node_is_a_property_of_its_execution(make_data: MakeData, tmp_path: Path) -> None:
    source = find_source(make_data())
    node = component.ExampleGen(
        source,
        malformed_budget=0.001,
        eval_fraction=0.05,
        quarantine_dir=str(tmp_path / "quarantine"),
        code_digest="c1",
    )
    assert node.exec_properties == {
        "data_dir": str(source.directory),
        "train_file": "train.csv",
        "test_file": "test.csv",
        "classes": '["World", "Sports", "Business", "Sci/Tech"]',
        "input_digest": source.digest,
        "malformed_budget": 0.001,
        "eval_fraction": 0.05,
        "quarantine_dir": str(tmp_path / "quarantine"),
        "code_digest": "c1",
    }


def test_the_node_writes_three_splits_and_a_report(
    make_data: MakeData, run_example_gen: Callable[..., Ingested]
) -> None:
    train, test = rows(200), rows(40, "Test")
    data = make_data(train=train, test=test)
    found = run_example_gen(data)
    assert found.error is None
    assert artifact_utils.decode_split_names(found.examples.split_names) == ["train", "eval", "test"]
    assert found.examples.get_string_custom_property("payload_format") == "FORMAT_TF_EXAMPLE"
    splits = {name: found.split(name) for name in features.SPLITS}
    assert splits["test"] == sorted((f"{title} {text}", int(label) - 1, "short") for label, title, text in test)
    assert sorted(splits["train"] + splits["eval"]) == sorted(
        (f"{title} {text}", int(label) - 1, "short") for label, title, text in train
    )
    assert {text for text, _, _ in splits["eval"]} == {
        text for text in texts(train) if ingest.eval_or_train(text, 0.2) == "eval"
    }
    assert 20 < len(splits["eval"]) < 60
    counts = {name: Counter(CLASSES[label] for _, label, _ in splits[name]) for name in splits}
    assert found.report == {
        "rows": 240,
        "splits": counts,
        "malformed": 0,
        "unknown_labels": [],
        "digest": find_source(data).digest,
    }
    assert found.quarantine == []
    assert not found.kept.exists()
    assert sorted(path.name for path in (found.root / "report").iterdir()) == ["quarantine.jsonl", "report.json"]


@pytest.mark.parametrize("changed", ["train.csv", "test.csv"])
def test_rows_that_changed_after_their_digest_was_taken_are_refused(
    make_data: MakeData, run_example_gen: Callable[..., Ingested], changed: str
) -> None:
    data = make_data(train=rows(100), test=rows(20, "Test"))
    source, before = find_source(data), (data / changed).read_bytes()
    (data / changed).write_bytes(before.replace(b"Text", b"Test"))
    found = run_example_gen(data, source=source)
    assert str(found.error) == f"{data} changed while it was read: run again once nobody writes there"
    assert not found.kept.exists()
    (data / changed).write_bytes(before)
    assert run_example_gen(data, source=source).error is None


def test_the_node_reads_gzipped_files_like_plain_ones(
    make_data: MakeData, run_example_gen: Callable[..., Ingested]
) -> None:
    plain, packed = (make_data(train=rows(100), test=rows(20, "Test"), name=name) for name in ("plain", "packed"))
    for name in ("train.csv", "test.csv"):
        (packed / f"{name}.gz").write_bytes(gzip.compress((packed / name).read_bytes()))
        (packed / name).unlink()
    first, second = run_example_gen(plain), run_example_gen(packed)
    assert first.error is None
    assert second.error is None
    assert first.report == second.report
    for name in features.SPLITS:
        assert first.split(name) == second.split(name)


BAD = [b'"2","secret"\n', b'"2","secret","goal","scored"\n', b'"2","secret\xff","goal"\n', b'"2","sec\0ret","goal"\n']
REASONS = ["2 columns instead of 3", "4 columns instead of 3", "bytes that are not UTF-8", "NUL character"]


def test_the_node_continues_with_malformed_rows_within_the_budget(
    make_data: MakeData, run_example_gen: Callable[..., Ingested]
) -> None:
    data = make_data(train=rows(3976), test=rows(20, "Test"))
    with (data / "train.csv").open("ab") as file:
        file.writelines(BAD)
    found = run_example_gen(data)
    assert found.error is None
    assert found.report["rows"] == 4000
    assert found.report["malformed"] == 4
    assert {text for name in ("train", "eval") for text, _, _ in found.split(name)} == texts(rows(3976))
    assert found.quarantine == [
        {"file": "train.csv", "line": 3977 + n, "reason": reason, "sha256": hashlib.sha256(record).hexdigest()[:16]}
        for n, (record, reason) in enumerate(zip(BAD, REASONS, strict=True))
    ]
    kept = found.kept.read_text()
    assert kept == (found.root / "report" / "quarantine.jsonl").read_text()
    assert "secret" not in kept


def test_the_node_fails_on_one_percent_of_malformed_rows(
    make_data: MakeData, run_example_gen: Callable[..., Ingested]
) -> None:
    data = make_data(train=rows(376), test=rows(20, "Test"))
    with (data / "train.csv").open("ab") as file:
        file.writelines(BAD[:3])
    with (data / "test.csv").open("ab") as file:
        file.write(BAD[3])
    found = run_example_gen(data)
    assert found.error is not None
    for part in ("4 of 400 rows", "0.10%", "data.malformed_budget", str(found.kept)):
        assert part in str(found.error)
    kept = [json.loads(line) for line in found.kept.read_text().splitlines()]
    assert sorted((entry["file"], entry["line"], entry["reason"]) for entry in kept) == [
        ("test.csv", 21, REASONS[3]),
        *[("train.csv", 377 + number, REASONS[number]) for number in range(3)],
    ]
    assert found.report["malformed"] == 4


def test_the_node_fails_on_an_unknown_label_and_still_reports(
    make_data: MakeData, run_example_gen: Callable[..., Ingested]
) -> None:
    found = run_example_gen(make_data(train=[*rows(60), ("Sport", "A goal", "Scored.")], test=rows(20, "Test")))
    assert found.error is not None
    assert '"Sport" in 1 row (first at train.csv line 61)' in str(found.error)
    assert found.report["unknown_labels"] == [{"file": "train.csv", "value": "Sport", "count": 1, "line": 61}]
