"""Batch inference: what is read, what is written, and what a killed run leaves to the next one."""

import csv
import gc
import gzip
import io
import json
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from components.errors import BadInputError
from components.example_gen import reader
from components.manifest import hash_files, make_manifest
from pipeline.beam_options import IN_MEMORY
from serving.batch import classify as batch
from serving.batch.csv import inspect_csv, read_csv
from serving.batch.files import find_files
from serving.batch.output import Output, choose_output
from serving.batch.quarantine import plan_with_quarantine
from serving.batch.rows import Layout, Malformed, Place, Row
from serving.models import Answers

CLASSES = ["World", "Sports", "Business", "Sci/Tech"]
NAMES = ("label", "probability")


class ByLength:
    """Stands in for a model: a text's class is its length in bytes modulo four."""

    made = 0
    alive: ClassVar[weakref.WeakSet["ByLength"]] = weakref.WeakSet()

    def __init__(self, directory: Path):
        type(self).made += 1
        self.alive.add(self)
        self.classes = CLASSES

    def answer(self, texts: Sequence[bytes]) -> Answers:
        label_ids = np.array([len(text) % 4 for text in texts], np.int64)
        probabilities = np.full((len(texts), 4), 0.1, np.float32)
        probabilities[np.arange(len(texts)), label_ids] = 0.7
        return Answers([CLASSES[number] for number in label_ids], label_ids, probabilities)


def label_of(text: str) -> str:
    return CLASSES[len(text.encode()) % 4]


@pytest.fixture(autouse=True)
def fake_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "LoadedModel", ByLength)
    monkeypatch.setattr(ByLength, "made", 0)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A pushed version whose manifest is true."""
    directory = tmp_path / "models" / "1"
    directory.mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"graph")
    files = hash_files(directory)
    (directory / "MANIFEST.json").write_text(make_manifest(1, files, {}))
    return directory


Classify = Callable[..., tuple[batch.Summary, Output]]


@pytest.fixture
def classify(tmp_path: Path, version: Path) -> Classify:
    """Runs all of it: ``classify("in.csv", "out.csv", shard_rows=2)``, both below the test's directory."""

    def call(
        source: str,
        target: str,
        text: Sequence[str] = (),
        names: tuple[str, str] = NAMES,
        shard_rows: int = 10_000,
        budget: float = 0.5,
        format_: str | None = None,
    ) -> tuple[batch.Summary, Output]:
        files = find_files(str(tmp_path / source))
        suffix = {".csv": "csv", "json": "jsonl", "quet": "parquet"}[
            files[0].removesuffix(".gz").replace("jsonl", "json")[-4:]
        ]
        output = choose_output(str(tmp_path / target) + "/" * target.endswith("/"), suffix, format_)
        output.check_input(files)
        output.check()
        plan = plan_with_quarantine(files, text, names, output, shard_rows, budget)
        return batch.classify(plan, names, output, version, list(IN_MEMORY)), output

    return call


def read_all(content: bytes, asked: Sequence[str] = ()) -> tuple[Layout, list[tuple[Row | Malformed, Place]]]:
    layout = inspect_csv(io.BytesIO(content), "in.csv", asked)
    return layout, list(read_csv(io.BytesIO(content), "in.csv", layout, Place()))


def texts(content: bytes, asked: Sequence[str] = ()) -> list[str]:
    return [record.text for record, _ in read_all(content, asked)[1] if isinstance(record, Row)]


def malformed(content: bytes) -> list[tuple[int, str]]:
    return [(record.line, record.reason) for record, _ in read_all(content)[1] if isinstance(record, Malformed)]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tree(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("id,text", ["b"]),
        ("id,TEXT", ["b"]),
        ('\ufeff"text",id', ["a"]),
        ("description,title", ["b a"]),
        ("Title,Description", ["a b"]),
        ("text,Text", ["a"]),
        (" text ,id", ["a"]),
    ],
)
def test_the_text_is_found_by_the_names_of_columns(header: str, expected: list[str]) -> None:
    assert texts(f"{header}\na,b\n".encode()) == expected


def test_text_columns_that_are_asked_for_are_joined_in_their_order() -> None:
    content = b"text,b,c\none, two ,three\n"
    assert texts(content, ["c", "b"]) == ["three two"]
    with pytest.raises(BadInputError, match="no column 'd': it has 'text', 'b', 'c'"):
        read_all(content, ["d"])


@pytest.mark.parametrize("header", ["", '"Class Index","Title","Description"\n'])
def test_the_ag_news_layout_is_read_as_ingest_reads_it(header: str) -> None:
    lines = [
        '"3","Shares rise","Banks lead, the ""bulls"" say"\n',
        '"2","A goal\\","in Zürich \\ late"\n',
        "4,plain, spaces \n",
        '"1","over\ntwo lines","of text"\n',
        '"1","","only a description"\n',
        '"1"," "," "\n',
        '"1","two"\n',
        '"1","a\0b","c"\n',
    ]
    content = (header + "".join(lines)).encode()
    layout, found = read_all(content)
    ours = [record.text if isinstance(record, Row) else (record.line, record.reason) for record, _ in found]
    theirs = [
        record.text if isinstance(record, reader.Row) else (record.line, record.reason)
        for record in reader.read_records(io.StringIO(content.decode(), newline=""))
    ]
    assert ours == theirs
    assert layout.columns == (
        ("Class Index", "Title", "Description") if header else ("class_index", "title", "description")
    )


def test_a_broken_quote_costs_one_record() -> None:
    lines = [f'{number},"text {number}, quoted"\n' for number in range(1000)]
    lines[10] = '10,"text 10\n'
    content = ("id,text\n" + "".join(lines)).encode()
    assert texts(content) == [f"text {number}, quoted" for number in range(1000) if number != 10]
    assert [line for line, _ in malformed(content)] == [12]


def test_an_open_quote_does_not_swallow_the_rest() -> None:
    content = ('id,text\n1,"open\n' + "".join(f"{number},plain\n" for number in range(5000))).encode()
    assert len(texts(content)) == 5000
    first, second = malformed(content + b"no columns\n")
    assert first == (2, "broken quoting: no end within 1,000 lines")
    assert second[0] == 5003


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1\n", "1 columns instead of 2"),
        (b"1,b,c\n", "3 columns instead of 2"),
        (b"1,\n", "no text"),
        (b'1," "\n', "no text"),
        (b"1,a\x00b\n", "NUL character"),
        (b"\x00,ab\n", "NUL character"),
        (b"1,caf\xe9\n", "bytes that are not UTF-8"),
        (b"\xe9,cafe\n", "bytes that are not UTF-8"),
        (b'1,two"\n', "broken quoting: a quote is missing"),
        (b'1,"a"b\n', "broken quoting: ',' expected after '\"'"),
    ],
)
def test_a_malformed_record_is_told_and_left_out(line: bytes, reason: str) -> None:
    content = b"id,text\n0,before\n\n" + line + b"2,after\n"
    assert malformed(content) == [(4, reason)]
    assert texts(content) == ["before", "after"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"a,b\n1,2\n", "neither a column 'text' nor 'title' and 'description', it has 'a', 'b'"),
        (b"text,text\n", "twice"),
        (b"text,\n", "without a name"),
        (b'"text\n', "header"),
        (b"text,caf\xe9\n", "header"),
        ("text,id\n".encode("utf-16"), "header"),
        ("text,id\n".encode("utf-16-le"), "UTF-8"),
        (b"text," + b"x" * (5 << 20), "longer than"),
    ],
)
def test_a_file_that_is_none_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        read_all(content)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(['"', ",", "\n", "a", "1,b\n", '2,"c"\n', '3,"d\ne"\n', "\\", " ", "\0"]), max_size=30))
def test_reading_may_begin_behind_any_record(pieces: list[str]) -> None:
    content = ("id,text\n" + "".join(pieces)).encode()
    layout, found = read_all(content)
    for number, (_, place) in enumerate(found):
        assert list(read_csv(io.BytesIO(content), "in.csv", layout, place)) == found[number + 1 :]
    places = [place.offset for _, place in found]
    assert places == sorted(set(places))


def test_csv_keeps_every_column_and_every_row_in_order(tmp_path: Path, classify: Classify) -> None:
    rows = [["id", "text", "note"]] + [[f"{n:03}", f"text, {'x' * n}", 'a "note"\nof two lines'] for n in range(25)]
    with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    summary, _ = classify("in.csv", "out.csv", shard_rows=4)
    found = rows_of(tmp_path / "out.csv")
    assert [[row["id"], row["text"], row["note"]] for row in found] == rows[1:]
    assert [row["label"] for row in found] == [label_of(row[1].strip()) for row in rows[1:]]
    assert {row["probability"] for row in found} == {"0.7"}
    assert list(found[0]) == ["id", "text", "note", "label", "probability"]
    assert (summary.rows, summary.shards, summary.resumed, sum(summary.labels.values())) == (25, 7, 0, 25)
    assert ByLength.made == 1
    gc.collect()
    assert not ByLength.alive


def test_one_file_and_a_directory_hold_the_same(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\n" + "".join(f"row {n}\n" for n in range(10)))
    classify("in.csv", "out.csv", shard_rows=3)
    classify("in.csv", "parts/", shard_rows=3)
    assert tree(tmp_path) >= {"out.csv", "out.csv.done.json", "parts/_SUCCESS"}
    assert not [name for name in tree(tmp_path) if "_tmp" in name or "shards" in name or "_begun" in name]
    parts = sorted((tmp_path / "parts").glob("part-*.csv"))
    assert [part.name for part in parts] == [f"part-{n:05}-of-00004.csv" for n in range(4)]
    assert [row for part in parts for row in rows_of(part)] == rows_of(tmp_path / "out.csv")


def test_several_files_and_gzip_are_read_and_written(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "b.csv").write_text("text\nthree\n")
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write("text\none\ntwo two\n")
    classify("[ab].csv*", "out.jsonl.gz", shard_rows=1)
    with gzip.open(tmp_path / "out.jsonl.gz", "rt") as file:
        assert [json.loads(line)["text"] for line in file] == ["one", "two two", "three"]


def test_a_name_that_looks_like_a_pattern_is_a_name_if_there_is_such_a_file(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in[1].csv").write_text("text\none\n")
    (tmp_path / "in1.csv").write_text("text\nother\n")
    classify("in[1].csv", "out.csv")
    assert [row["text"] for row in rows_of(tmp_path / "out.csv")] == ["one"]


def test_json_lines_are_kept_to_the_letter(tmp_path: Path, classify: Classify) -> None:
    lines = [
        '{"text": "one", "n": 123456789012345678901234567890, "f": 1.10}',
        '  { "text" : "tw\\u00f6", "deep": [{"a": null}] }  ',
        '{"text":"ten","n":1.0}',
    ]
    (tmp_path / "in.jsonl").write_text("\ufeff" + "\n\n".join(lines) + "\n")
    classify("in.jsonl", "out.jsonl", shard_rows=2)
    found = (tmp_path / "out.jsonl").read_text().splitlines()
    assert found == [
        '{"text": "one", "n": 123456789012345678901234567890, "f": 1.10,"label":"Sci/Tech","probability":0.7}',
        '{ "text" : "tw\\u00f6", "deep": [{"a": null}],"label":"World","probability":0.7}',
        '{"text":"ten","n":1.0,"label":"Sci/Tech","probability":0.7}',
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "no JSON: "),
        ("[1]", "no JSON object"),
        ('"text"', "no JSON object"),
        ('{"text": NaN}', "no JSON: NaN"),
        ('{"text": 5}', "the text is not a string"),
        ('{"text": null}', "no text"),
        ('{"other": "x"}', "no text"),
        ('{"text": "a\\u0000b"}', "NUL character"),
        ('{"text": "\\ud800"}', "a lone surrogate"),
        ('{"text": "a", "b": ["\\udfff"]}', "a lone surrogate"),
        ("[" * 100_000, "no JSON: nested too deep"),
        (b'{"text": "caf\xe9"}', "bytes that are not UTF-8"),
    ],
)
def test_a_line_that_is_no_object_is_left_out(
    tmp_path: Path, classify: Classify, line: str | bytes, reason: str
) -> None:
    bad = line if isinstance(line, bytes) else line.encode()
    (tmp_path / "in.jsonl").write_bytes(b'{"text": "one"}\n' + bad + b'\n{"text": "two"}\n')
    summary, output = classify("in.jsonl", "out.jsonl")
    assert summary.rows == 2
    (entry,) = map(json.loads, Path(output.quarantine).read_text().splitlines())
    assert entry["reason"].startswith(reason)
    assert (entry["file"], entry["line"], len(entry["sha256"])) == (str(tmp_path / "in.jsonl"), 2, 16)


def test_parquet_keeps_types(tmp_path: Path, classify: Classify) -> None:
    table = pa.table(
        {
            "id": pa.array(range(7), pa.uint8()),
            "text": pa.array(["a", "bb", None, "ccc", "", "dddd", "e"]).dictionary_encode(),
            "when": pa.array([date(2026, 1, 1 + n) for n in range(7)]),
            "raw": pa.array([bytes([n]) for n in range(7)]),
            "tags": pa.array([[{"k": n}] for n in range(7)]),
        }
    )
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=4)
    summary, output = classify("in.parquet", "out.parquet", shard_rows=2)
    found = parquet.read_table(tmp_path / "out.parquet")
    kept = table.filter(pa.array([True, True, False, True, False, True, True]))
    assert found.drop(["label", "probability"]).to_pylist() == kept.to_pylist()
    assert found.schema.remove(6).remove(5).equals(table.schema)
    assert found.column("label").to_pylist() == [label_of(text) for text in kept.column("text").to_pylist()]
    assert (found.schema.field("label").type, found.schema.field("probability").type) == (pa.string(), pa.float32())
    assert (summary.rows, summary.shards) == (5, 3)
    assert [json.loads(line)["line"] for line in Path(output.quarantine).read_text().splitlines()] == [3, 5]


def test_what_is_no_parquet_is_refused(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.parquet").write_bytes(b"PAR1 no such thing PAR1")
    with pytest.raises(BadInputError, match="no sound Parquet"):
        classify("in.parquet", "out.parquet")
    parquet.write_table(pa.table({"text": [1, 2]}), tmp_path / "in.parquet")
    with pytest.raises(BadInputError, match=r"'text' .* holds int64, not strings"):
        classify("in.parquet", "out.parquet")
    parquet.write_table(pa.table({"text": ["a"], "raw": [b"b"]}), tmp_path / "in.parquet")
    with pytest.raises(BadInputError, match=r"'raw' .* holds binary, which csv cannot carry"):
        classify("in.parquet", "out.csv")
    assert tree(tmp_path) == {"in.parquet", "models/1/saved_model.pb", "models/1/MANIFEST.json"}


def test_code_in_parquet_is_not_run(tmp_path: Path, classify: Classify) -> None:
    canary = tmp_path / "canary"
    pickled = f"cos\nmkdir\n(S'{canary}'\ntR.".encode()
    kind = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickled}
    schema = pa.schema([pa.field("text", pa.string()), pa.field("x", pa.null(), metadata=kind)])
    table = pa.Table.from_arrays([pa.array(["one"]), pa.nulls(1)], schema=schema)
    parquet.write_table(table, tmp_path / "in.parquet")
    if hasattr(pa, "PyExtensionType"):
        with pytest.raises(BadInputError, match="Python extension type"):
            classify("in.parquet", "out.parquet")
    else:
        classify("in.parquet", "out.parquet")
    # Beam, which guards against it too, is not in this process.
    code = "import sys; from serving.batch.parquet import open_parquet; open_parquet(sys.argv[1], '')"
    subprocess.run([sys.executable, "-c", code, tmp_path / "in.parquet"], check=False, capture_output=True, timeout=60)
    assert not canary.exists()


def test_csv_becomes_parquet_and_json(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("id,text\n007,a goal\n008,Zürich\n")
    classify("in.csv", "out.parquet", shard_rows=1)
    classify("in.csv", "out.jsonl", shard_rows=1)
    from_json = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert from_json == [
        {"id": "007", "text": "a goal", "label": "Business", "probability": 0.7},
        {"id": "008", "text": "Zürich", "label": "Sci/Tech", "probability": 0.7},
    ]
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column("id").to_pylist() == ["007", "008"]
    assert table.column("label").to_pylist() == ["Business", "Sci/Tech"]


def test_json_becomes_csv_and_parquet_by_the_kinds_of_its_values(tmp_path: Path, classify: Classify) -> None:
    big = 10**30
    objects: list[dict[str, Any]] = [
        {"text": "one", "n": 1, "f": 1, "mixed": 1, "yes": True, "big": big, "deep": {"a": [None]}, "none": None},
        {"text": "two", "f": 0.5, "mixed": "ä", "late": "x"},
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(item) for item in objects))
    classify("in.jsonl", "out.csv", shard_rows=1)
    classify("in.jsonl", "out.parquet", shard_rows=1)
    columns = ["text", "n", "f", "mixed", "yes", "big", "deep", "none", "late", "label", "probability"]
    found = rows_of(tmp_path / "out.csv")
    assert [list(row.values()) for row in found] == [
        ["one", "1", "1", "1", "true", str(big), '{"a":[null]}', "", "", "Sci/Tech", "0.7"],
        ["two", "", "0.5", "ä", "", "", "", "", "x", "Sci/Tech", "0.7"],
    ]
    assert list(found[0]) == columns
    table = parquet.read_table(tmp_path / "out.parquet")
    assert [str(kind) for kind in table.schema.types] == [
        *("string", "int64", "double", "string", "bool", "string", "string", "string", "string", "string", "float")
    ]
    assert table.drop(["label", "probability"]).to_pylist() == [
        {"text": "one", "n": 1, "f": 1.0, "mixed": "1", "yes": True, "big": str(big), "deep": '{"a":[null]}'}
        | {"none": None, "late": None},
        {"text": "two", "n": None, "f": 0.5, "mixed": '"ä"', "yes": None, "big": None, "deep": None}
        | {"none": None, "late": "x"},
    ]


def test_parquet_becomes_text(tmp_path: Path, classify: Classify) -> None:
    table = pa.table(
        {
            "text": ["one", "two"],
            "when": [date(2026, 1, 2), None],
            "price": [Decimal("1.10"), Decimal("2.00")],
            "share": [0.5, float("nan")],
            "tags": [["a", "b"], None],
        }
    )
    parquet.write_table(table, tmp_path / "in.parquet")
    classify("in.parquet", "out.csv")
    classify("in.parquet", "out.jsonl")
    assert [list(row.values())[:-2] for row in rows_of(tmp_path / "out.csv")] == [
        ["one", "2026-01-02", "1.10", "0.5", '["a","b"]'],
        ["two", "", "2.00", "NaN", ""],
    ]
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        {"text": "one", "when": "2026-01-02", "price": "1.10", "share": 0.5, "tags": ["a", "b"]}
        | {"label": "Sci/Tech", "probability": 0.7},
        {"text": "two", "when": None, "price": "2.00", "share": None, "tags": None}
        | {"label": "Sci/Tech", "probability": 0.7},
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [("in.csv", "text,label\na,b\n"), ("in.jsonl", '{"text": "a"}\n{"text": "b", "label": 1}\n')],
)
def test_a_column_that_is_called_like_a_new_one_is_refused(
    tmp_path: Path, classify: Classify, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInputError, match=r"already has a column 'label': .* --prefix predicted_"):
        classify(name, "out/")
    assert not (tmp_path / "out").exists()
    classify(name, "out.csv", names=("predicted_label", "predicted_probability"))
    assert list(rows_of(tmp_path / "out.csv")[0]) == ["text", "label", "predicted_label", "predicted_probability"]


def test_files_with_other_columns_are_run_apart(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "a.csv").write_text("text\none\n")
    (tmp_path / "b.csv").write_text("text,id\ntwo,2\n")
    with pytest.raises(BadInputError, match="other columns"):
        classify("*.csv", "out/")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing.csv", "there is no file"),
        ("*.nothing", "there is no file"),
        ("in.txt", "no name of a known format"),
        ("in.parquet.gz", "no name of a known format"),
        ("in.*l*", "several formats"),
        ("cut.csv.gz", "not a complete gzip"),
        ("array.json", "JSON array"),
        ("empty.jsonl", "no JSON object"),
        ("header.csv", "no row to classify"),
    ],
)
def test_input_that_cannot_be_used_is_refused(tmp_path: Path, classify: Classify, source: str, words: str) -> None:
    for name, content in {
        "in.txt": b"",
        "in.parquet.gz": b"",
        "in.jsonl": b'{"text": "a"}\n',
        "in.xlsx.csv": b"text\na\n",
        "cut.csv.gz": gzip.compress(b"text\n" + b"a longer line\n" * 9000)[:-20],
        "array.json": b'[{"text": "a"}]',
        "empty.jsonl": b"\n",
        "header.csv": b"text\n",
    }.items():
        (tmp_path / name).write_bytes(content)
    before = tree(tmp_path)
    with pytest.raises(BadInputError, match=words):
        classify(source, "out/")
    assert tree(tmp_path) == before


def test_too_many_malformed_records_stop_a_run_before_it_computes(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("id,text\n1,a\n2,b\n3\n")
    with pytest.raises(BadInputError, match=r"1 of 3 records are malformed, more than the budget of 25\.00%") as raised:
        classify("in.csv", "out.csv", budget=0.25)
    assert str(tmp_path / "out.csv.quarantine.jsonl") in str(raised.value)
    assert tree(tmp_path) == {
        *("in.csv", "models/1/saved_model.pb", "models/1/MANIFEST.json", "out.csv.quarantine.jsonl")
    }
    assert ByLength.made == 0
    classify("in.csv", "out.csv", budget=0.34)
    assert len(rows_of(tmp_path / "out.csv")) == 2


def test_the_list_of_malformed_records_is_that_of_the_last_run(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("id,text\n1,a\n2\n")
    _, output = classify("in.csv", "out.csv")
    assert Path(output.quarantine).exists()
    (tmp_path / "in.csv").write_text("id,text\n1,a\n2,b\n")
    classify("in.csv", "out.csv")
    assert not Path(output.quarantine).exists()
    assert len(rows_of(tmp_path / "out.csv")) == 2


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the shards that were computed."""
    numbers: list[int] = []
    real = batch.classify_shard

    def note(shard: batch.Shard, job: batch.Job, model: batch.Model) -> dict[str, Any]:
        numbers.append(shard.number)
        return real(shard, job, model)

    monkeypatch.setattr(batch, "classify_shard", note)
    return numbers


def interrupt(monkeypatch: pytest.MonkeyPatch, step: str, after: int) -> None:
    """Makes ``Output.<step>`` fail at its call number ``after``."""
    real, calls = getattr(Output, step), [0]

    def fail(self: Output, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] > after:
            raise RuntimeError("killed")
        return real(self, *arguments)

    monkeypatch.setattr(Output, step, fail)


@pytest.mark.parametrize("target", ["out.csv", "out/"])
@pytest.mark.parametrize(("step", "after", "left"), [("mark", 2, [2, 3]), ("mark", 0, [0, 1, 2, 3]), ("finish", 0, [])])
def test_a_run_after_a_killed_one_computes_what_is_missing(
    tmp_path: Path, classify: Classify, computed: list[int], target: str, step: str, after: int, left: list[int]
) -> None:
    (tmp_path / "in.csv").write_text("text\n" + "".join(f"row {n}\n" for n in range(10)))
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, step, after)
        with pytest.raises(RuntimeError, match="killed"):
            classify("in.csv", target, shard_rows=3)
    assert not (tmp_path / "out.csv").exists()
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    computed.clear()
    summary, _ = classify("in.csv", target, shard_rows=3)
    assert sorted(computed) == left
    assert summary.resumed == 4 - len(left)
    whole = [tmp_path / "out.csv"] if target == "out.csv" else sorted((tmp_path / "out").glob("part*"))
    assert [row["text"] for path in whole for row in rows_of(path)] == [f"row {n}" for n in range(10)]
    computed.clear()
    summary, _ = classify("in.csv", target, shard_rows=3)
    assert (computed, summary.resumed, summary.rows) == ([], 4, 10)


def test_a_run_that_is_killed_before_its_last_marker_is_known_for_ours(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, "_write", 2)  # That of the beginning, that of the shard, and then not that of the end.
        with pytest.raises(RuntimeError, match="killed"):
            classify("in.csv", "out.csv")
    assert (tmp_path / "out.csv").exists()
    classify("in.csv", "out.csv")
    assert len(rows_of(tmp_path / "out.csv")) == 1


def test_what_a_killed_run_left_half_written_is_gone(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, "finish", 0)
        with pytest.raises(RuntimeError, match="killed"):
            classify("in.csv", "out/")
    (tmp_path / "out" / "_tmp" / ".tmp-1").write_text("half")
    classify("in.csv", "out/")
    assert tree(tmp_path / "out") == {*("_SUCCESS", "_done/part-00000-of-00001.json", "part-00000-of-00001.csv")}


@pytest.mark.parametrize("change", ["input", "model", "names", "shard", "truncated", "marker"])
def test_a_shard_of_something_else_is_not_taken(
    tmp_path: Path, version: Path, classify: Classify, computed: list[int], change: str
) -> None:
    (tmp_path / "in.csv").write_text("text\n" + "".join(f"row {n}\n" for n in range(6)))
    classify("in.csv", "out/", shard_rows=2)
    computed.clear()
    options: dict[str, Any] = {"shard_rows": 2}
    expected = [0, 1, 2]
    if change == "input":
        (tmp_path / "in.csv").write_text("text\n" + "".join(f"new {n}\n" for n in range(6)))
    elif change == "model":
        (version / "saved_model.pb").write_bytes(b"another graph")
        (version / "MANIFEST.json").write_text(make_manifest(1, hash_files_without_manifest(version), {}))
    elif change == "names":
        options["names"] = ("predicted_label", "predicted_probability")
    elif change == "shard":
        options["shard_rows"], expected = 5, [0, 1]
    elif change == "truncated":
        path = tmp_path / "out" / "part-00001-of-00003.csv"
        path.write_bytes(path.read_bytes()[:-1])
        expected = [1]
    else:
        (tmp_path / "out" / "_SUCCESS").unlink()
        (tmp_path / "out" / "_done" / "part-00002-of-00003.json").write_text("[")
        expected = [2]
    classify("in.csv", "out/", **options)
    assert sorted(computed) == expected
    parts = sorted((tmp_path / "out").glob("part*"))
    assert len(parts) == len(expected if change == "shard" else [0, 1, 2])
    word = "new" if change == "input" else "row"
    assert [row["text"] for part in parts for row in rows_of(part)] == [f"{word} {n}" for n in range(6)]


def hash_files_without_manifest(directory: Path) -> dict[str, str]:
    return {name: value for name, value in hash_files(directory).items() if name != "MANIFEST.json"}


@pytest.mark.parametrize("target", ["out.csv", "out/"])
def test_what_no_batch_run_wrote_is_not_touched(tmp_path: Path, classify: Classify, target: str) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    (tmp_path / "out").mkdir()
    for name in ("out.csv", "out/mine.csv"):
        (tmp_path / name).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(BadInputError, match="no batch run wrote it"):
        classify("in.csv", target)
    assert tree(tmp_path) == before
    assert (tmp_path / "out.csv").read_text() == "mine"


def test_an_empty_directory_is_used(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    (tmp_path / "out").mkdir()
    classify("in.csv", "out")
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_output_that_is_input_is_refused(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    classify("in.csv", "out.csv")
    with pytest.raises(BadInputError, match="input and output"):
        classify("*.csv", "out.csv")
    with pytest.raises(BadInputError, match="input and output"):
        classify("in.csv", "in.csv")


@pytest.mark.parametrize(
    ("target", "format_", "words"),
    [
        ("out.txt", None, "no known format"),
        ("out.parquet.gz", None, "no known format"),
        ("out.csv", "jsonl", "csv by its name, not jsonl"),
        ("out[1].csv", None, "in its name"),
    ],
)
def test_an_output_that_cannot_be_is_refused(
    tmp_path: Path, classify: Classify, target: str, format_: str | None, words: str
) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    with pytest.raises(BadInputError, match=words):
        classify("in.csv", target, format_=format_)


def test_a_directory_may_have_a_point_and_another_format(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    classify("in.csv", "v1.2/", format_="jsonl")
    assert (tmp_path / "v1.2" / "part-00000-of-00001.jsonl").exists()


def test_a_model_that_is_not_what_was_pushed_is_refused(tmp_path: Path, version: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    (version / "saved_model.pb").write_bytes(b"changed")
    with pytest.raises(BadInputError, match=r"saved_model.pb has changed"):
        classify("in.csv", "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert ByLength.made == 0


def test_input_that_changes_meanwhile_is_noticed(tmp_path: Path, version: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("text\none\ntwo\n")
    output = choose_output(str(tmp_path / "out.csv"), "csv", None)
    plan = plan_with_quarantine([str(path)], (), NAMES, output, 10, 0.5)
    path.write_text("text\none\n")
    with pytest.raises(RuntimeError, match="has changed since"):
        batch.classify(plan, NAMES, output, version, list(IN_MEMORY))
    assert not (tmp_path / "out.csv").exists()


def test_a_worker_that_sees_another_model_stops(tmp_path: Path, version: Path) -> None:
    output = choose_output(str(tmp_path / "out.csv"), "csv", None)
    job = batch.Job("csv", Layout(("text",), ("text",)), NAMES, output, 1, str(version), "digest of another")
    with pytest.raises(RuntimeError, match="not the model that this run began with"):
        batch._ClassifyShard(job)._load()
    good = batch._ClassifyShard(replace(job, model_digest=batch.model_digest(version)))
    good.setup()
    good.setup()
    assert ByLength.made == 1
