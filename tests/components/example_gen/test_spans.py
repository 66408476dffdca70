"""Spans: which days are whole, which of them a run reads, and what ExampleGen is handed."""

import gzip
import io
import json
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from span_world import NOW, age, rows, write_csv, write_span

from components.errors import BadInputError
from components.example_gen.source import Source, find_source
from components.example_gen.spans import (
    Known,
    Span,
    Spans,
    choose,
    describe,
    find_spans,
    holds_spans,
    make_source,
    open_data,
)
from components.example_gen.window import Window

SETTLE = 60


def make_span(
    root: Path, day: int, marker: bool = True, minutes: float = 600, count: int = 8, start: int | None = None
) -> Path:
    first = day * 1000 if start is None else start
    directory = root / f"span-202603{day:02}"
    return write_span(directory, rows(count, first), rows(4, first + 500), marker, minutes)


def look(root: Path, **more: Any) -> Spans:
    return find_spans(root, SETTLE, NOW, **more)


def names(spans: Spans) -> list[str]:
    return [span.name for span in spans.whole]


def kinds(spans: Spans) -> dict[str, str]:
    return {item.name: item.kind for item in spans.left_out}


def test_whole_spans_are_found_oldest_first_and_other_names_are_no_spans(tmp_path: Path) -> None:
    for day in (3, 1, 2):
        make_span(tmp_path, day)
    (tmp_path / "notes").mkdir()
    (tmp_path / "span-20260304").touch()
    found = look(tmp_path)
    assert names(found) == ["span-20260301", "span-20260302", "span-20260303"]
    assert found.left_out == ()


def test_a_span_without_marker_is_whole_once_it_has_settled(tmp_path: Path) -> None:
    make_span(tmp_path, 1, marker=False, minutes=SETTLE)
    make_span(tmp_path, 2, marker=False, minutes=SETTLE - 1)
    found = look(tmp_path)
    assert names(found) == ["span-20260301"]
    assert kinds(found) == {"span-20260302": "half-written"}
    assert str(found.left_out[0]) == (
        "span-20260302 left out, half-written: no _SUCCESS yet, and its last change is 59 minutes old, of 60 "
        "(data.settle_minutes)"
    )


def test_a_marker_makes_a_young_span_whole_unless_a_file_is_younger_still(tmp_path: Path) -> None:
    make_span(tmp_path, 1, minutes=0)
    rewritten = make_span(tmp_path, 2, minutes=30)
    then = (NOW - timedelta(minutes=2)).timestamp()
    os.utime(rewritten / "test.csv", (then, then))
    found = look(tmp_path)
    assert names(found) == ["span-20260301"]
    assert "after its _SUCCESS" in str(found.left_out[0])


def test_a_span_from_the_future_has_not_settled(tmp_path: Path) -> None:
    make_span(tmp_path, 1, marker=False, minutes=-5)
    assert kinds(look(tmp_path)) == {"span-20260301": "half-written"}


def test_one_file_of_two_is_half_a_span_even_with_a_marker(tmp_path: Path) -> None:
    directory = make_span(tmp_path, 1)
    (directory / "test.csv").unlink()
    age(directory, 600)
    found = look(tmp_path)
    assert kinds(found) == {"span-20260301": "half-written"}
    assert found.left_out[0].reason == "it holds train.csv and no test.csv"


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_span_without_rows_is_empty(tmp_path: Path, content: bytes) -> None:
    directory = make_span(tmp_path, 1)
    (directory / "train.csv").write_bytes(content)
    packed = make_span(tmp_path, 2)
    (packed / "test.csv").unlink()
    (packed / "test.csv.gz").write_bytes(gzip.compress(content))
    bare = make_span(tmp_path, 3)
    for name in ("train.csv", "test.csv"):
        (bare / name).unlink()
    for place in (directory, packed, bare):
        age(place, 600)
    found = look(tmp_path)
    assert kinds(found) == dict.fromkeys(["span-20260301", "span-20260302", "span-20260303"], "empty")


def test_a_damaged_archive_costs_its_span_and_no_other(tmp_path: Path) -> None:
    make_span(tmp_path, 1)
    directory = make_span(tmp_path, 2)
    packed = gzip.compress((directory / "train.csv").read_bytes())
    (directory / "train.csv").unlink()
    (directory / "train.csv.gz").write_bytes(packed[:-9])
    age(directory, 600)
    found = look(tmp_path)
    assert names(found) == ["span-20260301"]
    assert kinds(found) == {"span-20260302": "damaged"}


def test_the_later_of_two_equal_spans_is_left_out_however_it_is_packed(tmp_path: Path) -> None:
    make_span(tmp_path, 1, start=0)
    twin = make_span(tmp_path, 2, start=0)
    (twin / "train.csv.gz").write_bytes(gzip.compress((twin / "train.csv").read_bytes()))
    (twin / "train.csv").unlink()
    age(twin, 600)
    found = look(tmp_path)
    assert kinds(found) == {"span-20260302": "duplicated"}
    assert found.left_out[0].reason == "it holds the same as span-20260301"


@pytest.mark.parametrize("name", ["span-20260230", "span-2026031", "span-20260301-late", "span-", "span-٢٠٢٦٠٣٠١"])
def test_a_name_that_is_no_day_is_told(tmp_path: Path, name: str) -> None:
    make_span(tmp_path, 1).rename(tmp_path / name)
    assert kinds(look(tmp_path)) == {name: "misnamed"}


def test_late_and_changed_spans_are_left_out_until_they_are_taken(tmp_path: Path) -> None:
    for day in (1, 2, 3, 4):
        make_span(tmp_path, day)
    seen = {span.name: span.digest for span in look(tmp_path).whole}
    del seen["span-20260302"], seen["span-20260304"]
    seen["span-20260303"] = "another"
    known = Known("span-20260303", seen)
    found = look(tmp_path, known=known)
    assert names(found) == ["span-20260301", "span-20260304"]
    assert kinds(found) == {"span-20260302": "late", "span-20260303": "changed"}
    assert names(look(tmp_path, known=known, take_late=True)) == [f"span-2026030{day}" for day in (1, 2, 3, 4)]


def test_a_class_file_inside_a_span_is_refused_and_one_beside_them_is_read(tmp_path: Path) -> None:
    directory = make_span(tmp_path, 1)
    (tmp_path / "classes.txt").write_text("A\nB\nC\nD\n")
    assert open_data(tmp_path, "all", SETTLE, NOW).classes == ("A", "B", "C", "D")
    (directory / "classes.txt").write_text("A\nB\nC\nD\n")
    with pytest.raises(BadInputError, match="put one beside the spans"):
        look(tmp_path)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("all", [1, 2, 3, 9]),
        ("last 1", [9]),
        (" last 2 ", [3, 9]),
        ("last 99", [1, 2, 3, 9]),
        ("20260302..20260308", [2, 3]),
        ("2026-03-01..span-20260302", [1, 2]),
        ("20260309..20260309", [9]),
    ],
)
def test_a_window_chooses(tmp_path: Path, text: str, days: list[int]) -> None:
    for day in (1, 2, 3, 9):
        make_span(tmp_path, day)
    chosen = choose(look(tmp_path), Window.parse(text))
    assert [span.name for span in chosen] == [f"span-202603{day:02}" for day in days]


@pytest.mark.parametrize(
    "text",
    ["", "last", "last 0", "last -1", "last two", "20260302", "20260302..", "..", "20260230..20260301", "newest"],
)
def test_a_window_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(BadInputError) as error:
        Window.parse(text)
    assert "\n" not in str(error.value)


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(BadInputError, match="end before they begin"):
        Window.parse("20260302..20260301")


@given(st.dates(), st.dates())
def test_a_window_is_what_it_is_written_as(one: Any, other: Any) -> None:
    first, last = sorted((one, other))
    window = Window.parse(f"{first.isoformat()}..{last.isoformat()}")
    assert Window.parse(str(window)) == window
    assert f"span-{first.isoformat().replace('-', '')}" == window.first


def test_an_empty_window_says_what_was_left_out(tmp_path: Path) -> None:
    make_span(tmp_path, 1, marker=False, minutes=1)
    with pytest.raises(BadInputError) as error:
        open_data(tmp_path, "last 3", SETTLE, NOW)
    assert "window last 3" in str(error.value)
    assert "span-20260301 left out, half-written" in str(error.value)


def test_the_source_of_spans_names_every_file_and_its_digest_is_of_the_content(tmp_path: Path) -> None:
    for day in (1, 2):
        make_span(tmp_path / "one", day, start=day)
        make_span(tmp_path / "two", day + 5, start=day)
    packed = tmp_path / "two" / "span-20260306"
    (packed / "train.csv.gz").write_bytes(gzip.compress((packed / "train.csv").read_bytes()))
    (packed / "train.csv").unlink()
    age(packed, 600)
    one, two = (open_data(tmp_path / name, "all", SETTLE, NOW) for name in ("one", "two"))
    assert one.spans == ("span-20260301", "span-20260302")
    assert two.files == (
        ("span-20260306/train.csv.gz", "span-20260306/test.csv"),
        ("span-20260307/train.csv", "span-20260307/test.csv"),
    )
    assert (two.train, two.test) == two.files[-1]
    assert one.digest == two.digest
    assert open_data(tmp_path / "one", "last 1", SETTLE, NOW).digest != one.digest


def test_one_span_has_the_digest_of_its_own_directory(tmp_path: Path) -> None:
    span = make_span(tmp_path, 1)
    assert open_data(tmp_path, "all", SETTLE, NOW).digest == find_source(span).digest


def test_a_directory_without_spans_is_what_it_was(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", rows(8))
    write_csv(tmp_path / "test.csv", rows(4))
    assert open_data(tmp_path, "all", SETTLE, NOW) == find_source(tmp_path)
    assert find_source(tmp_path).spans == ()
    assert describe(find_source(tmp_path)) == []
    with pytest.raises(BadInputError, match="holds no span-YYYYMMDD directory"):
        open_data(tmp_path, "last 2", SETTLE, NOW)


def test_files_beside_spans_are_refused(tmp_path: Path) -> None:
    make_span(tmp_path, 1)
    (tmp_path / "train.csv.gz").touch()
    with pytest.raises(BadInputError, match=r"spans and train.csv too"):
        holds_spans(tmp_path)


def test_the_screen_shows_what_is_read_and_what_is_not(tmp_path: Path) -> None:
    make_span(tmp_path, 1)
    make_span(tmp_path, 2)
    make_span(tmp_path, 3, count=0)
    source = open_data(tmp_path, "all", SETTLE, NOW)
    assert describe(source) == [
        "spans span-20260301 to span-20260302, 2 in all",
        "span-20260303 left out, empty: its train.csv has no row",
    ]


def test_a_directory_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="nowhere cannot be read"):
        look(tmp_path / "nowhere")


@pytest.fixture
def object_store(tmp_path: Path) -> Iterator[Path]:
    """A file system of Beam's own kind, ``tiny://``, that knows times unless a file is called otherwise."""
    from apache_beam.io.filesystem import FileMetadata, FileSystem, MatchResult

    class TinyFileSystem(FileSystem):
        @classmethod
        def scheme(cls) -> str:
            return "tiny"

        def match(self, patterns: list[str], limits: Any = None) -> list[Any]:
            (pattern,) = patterns
            found = sorted(tmp_path.glob(pattern.removeprefix("tiny://")))
            metadata = [
                FileMetadata(
                    f"tiny://{path.relative_to(tmp_path)}",
                    path.stat().st_size,
                    None if (tmp_path / "timeless").exists() else path.stat().st_mtime,
                )
                for path in found
            ]
            return [MatchResult(pattern, metadata)]

        def open(self, path: str, *_: Any, **__: Any) -> Any:
            return io.BytesIO((tmp_path / path.removeprefix("tiny://")).read_bytes())

        def exists(self, path: str) -> bool:
            return (tmp_path / path.removeprefix("tiny://")).exists()

        def refuse(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

        join = split = mkdirs = has_dirs = _list = create = copy = rename = size = last_updated = refuse
        checksum = metadata = delete = refuse

    TinyFileSystem.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    yield tmp_path
    TinyFileSystem.scheme = classmethod(lambda cls: "gone")  # type: ignore[method-assign, assignment]


def test_spans_on_an_object_store_are_read_like_those_on_a_disk(object_store: Path) -> None:
    make_span(object_store / "feed", 1)
    make_span(object_store / "feed", 2, marker=False, minutes=5)
    (object_store / "feed" / "classes.txt").write_text("A\nB\nC\nD\n")
    source = open_data("tiny://feed", "all", SETTLE, NOW)
    assert source.directory == "tiny://feed"
    assert source.spans == ("span-20260301",)
    assert source.classes == ("A", "B", "C", "D")
    assert source.digest == open_data(object_store / "feed", "all", SETTLE, NOW).digest
    assert "half-written" in source.left_out[0]


def test_a_file_system_without_times_needs_markers(object_store: Path) -> None:
    (object_store / "timeless").touch()
    make_span(object_store / "feed", 1)
    make_span(object_store / "feed", 2, marker=False)
    found = find_spans("tiny://feed", SETTLE, NOW)
    assert names(found) == ["span-20260301"]
    assert "does not tell when" in found.left_out[0].reason


def make_node(source: Source, quarantine: str = "quarantine") -> Any:
    from components.example_gen.component import ExampleGen

    return ExampleGen(source, malformed_budget=0.5, eval_fraction=0.25, quarantine_dir=quarantine, code_digest="code")


def read_node(source: Source, root: Path) -> dict[str, Any]:
    """Runs the executor of the node that a source makes; returns its report and its rows by split."""
    import tensorflow as tf
    from tfx.dsl.components.base import base_beam_executor
    from tfx.types import artifact_utils, standard_artifacts

    from components import features
    from components.artifacts import IngestReport
    from components.example_gen.component import Executor
    from pipeline.config.beam import BeamConfig, beam_args

    node = make_node(source, str(root / "quarantine"))
    examples, report = standard_artifacts.Examples(), IngestReport()
    examples.uri, report.uri = str(root / "examples"), str(root / "report")
    Path(report.uri).mkdir(parents=True)
    context = base_beam_executor.BaseBeamExecutor.Context(
        beam_pipeline_args=beam_args(BeamConfig()), pipeline_run_id="run-7"
    )
    Executor(context).Do({}, {"examples": [examples], "report": [report]}, node.exec_properties)
    texts: dict[str, list[str]] = {}
    for split in features.SPLITS:
        (file,) = Path(artifact_utils.get_split_uri([examples], split)).iterdir()
        compression = "GZIP" if file.suffix == ".gz" else ""
        records = tf.data.TFRecordDataset([str(file)], compression_type=compression).as_numpy_iterator()
        texts[split] = [
            tf.train.Example.FromString(record).features.feature["text"].bytes_list.value[0].decode()
            for record in records
        ]
    return {"report": json.loads((Path(report.uri) / "report.json").read_text()), "texts": texts}


def test_example_gen_reads_all_chosen_spans_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["newsdesk"])
    for day in (1, 2, 3):
        make_span(tmp_path / "feed", day, count=40)
    source = open_data(tmp_path / "feed", "last 2", SETTLE, NOW)
    done = read_node(source, tmp_path / "node")
    assert done["report"]["spans"] == ["span-20260302", "span-20260303"]
    learned = done["texts"]["train"] + done["texts"]["eval"]
    wanted = {f"{title} {text}" for day in (2, 3) for _, title, text in rows(40, day * 1000)}
    assert set(learned) == wanted
    assert len(learned) == 80
    assert set(done["texts"]["test"]) == {f"{a} {b}" for day in (2, 3) for _, a, b in rows(4, day * 1000 + 500)}


def test_a_node_without_spans_has_the_properties_it_had_before(tmp_path: Path) -> None:
    span = make_span(tmp_path, 1)
    plain = make_node(find_source(span)).exec_properties
    assert "spans" not in {name for name, value in plain.items() if value is not None}
    held = make_node(open_data(tmp_path, "all", SETTLE, NOW)).exec_properties
    assert json.loads(held["spans"]) == {"span-20260301": ["span-20260301/train.csv", "span-20260301/test.csv"]}


def test_what_is_left_out_does_not_change_the_node(tmp_path: Path) -> None:
    make_span(tmp_path, 1)
    before = make_node(open_data(tmp_path, "all", SETTLE, NOW)).exec_properties
    make_span(tmp_path, 2, count=0)
    after = make_node(open_data(tmp_path, "all", SETTLE, NOW)).exec_properties
    assert before == after


def test_a_source_is_made_of_spans_in_their_order() -> None:
    spans = Spans("/feed", (), ())
    made = [Span(f"span-2026030{day}", "train.csv", "test.csv", (bytes([day]), b"t")) for day in (1, 2)]
    assert make_source(spans, made).digest != make_source(spans, made[::-1]).digest
