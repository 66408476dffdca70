"""What every format carries over as it was, and what becomes of it in another one."""

import csv
import gc
import gzip
import json
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from batch_world import ByLength, Classify, label_of, rows_of, tree
from pyarrow import parquet

from components.errors import BadInputError


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


@pytest.mark.parametrize(
    ("target", "delimiter"), [("out.tsv", "\t"), ("out.txt.gz", "\t"), ("out.csv", ","), ("out/", ",")]
)
def test_fields_come_back_as_they_were_between_other_delimiters(
    tmp_path: Path, classify: Classify, target: str, delimiter: str
) -> None:
    (tmp_path / "in.txt").write_bytes("id;text\r\n1;Größe, 5\t\r\n2;Café\r\n3;Straße\r\n".encode("cp1252"))
    classify("in.txt", target, shard_rows=1)
    paths = sorted(tmp_path.glob("out/part*")) or [tmp_path / target]
    opened = gzip.open if target.endswith(".gz") else open
    found = []
    for path in paths:
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, delimiter=delimiter)
            found += rows
    assert header == ["id", "text", "label", "probability"]
    assert [row[:2] for row in found] == [["1", "Größe, 5\t"], ["2", "Café"], ["3", "Straße"]]
    assert [row[2] for row in found] == [label_of(row[1].strip()) for row in found]


def test_columns_without_a_header_are_numbers_in_the_output(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.tsv").write_text('A 19" screen falls\t7\nA late goal\t3\n')
    classify("in.tsv", "out.jsonl", text=("1",), shard_rows=1)
    classify("in.tsv", "out.csv", shard_rows=1)
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["1"], row["2"]) for row in found] == [('A 19" screen falls', "7"), ("A late goal", "3")]
    assert [(row["1"], row["2"]) for row in rows_of(tmp_path / "out.csv")] == [(row["1"], row["2"]) for row in found]


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
            "exactly": pa.array([1_767_225_600_000_000_001 + n for n in range(7)], pa.timestamp("ns")),
            "large": pa.array([2**32 - 1 - n for n in range(7)], pa.uint32()),
            "since": pa.array(range(7), pa.duration("ns")),
            "price": pa.array([Decimal(n) / 4 for n in range(7)], pa.decimal128(5, 2)),
            "pairs": pa.array([[("k", n)] for n in range(7)], pa.map_(pa.string(), pa.int64())),
            "raw": pa.array([bytes([n]) for n in range(7)]),
            "tags": pa.array([[{"k": n}] for n in range(7)]),
        }
    )
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=4, version="2.6")
    summary, output = classify("in.parquet", "out.parquet", shard_rows=2)
    found = parquet.read_table(tmp_path / "out.parquet")
    kept = table.filter(pa.array([True, True, False, True, False, True, True]))
    assert found.drop(["label", "probability"]).to_pylist() == kept.to_pylist()
    assert found.drop(["label", "probability"]).schema.equals(table.schema)
    assert found.column("label").to_pylist() == [label_of(text) for text in kept.column("text").to_pylist()]
    assert (found.schema.field("label").type, found.schema.field("probability").type) == (pa.string(), pa.float32())
    assert (summary.rows, summary.shards) == (5, 3)
    assert [json.loads(line)["line"] for line in Path(output.quarantine).read_text().splitlines()] == [3, 5]


def test_the_oldest_kind_of_timestamp_keeps_its_nanoseconds(tmp_path: Path, classify: Classify) -> None:
    moments = pa.array([1_767_225_600_000_000_001], pa.timestamp("ns"))
    table = pa.table({"text": ["a"], "at": moments})
    parquet.write_table(table, tmp_path / "in.parquet", use_deprecated_int96_timestamps=True)
    assert parquet.ParquetFile(tmp_path / "in.parquet").schema.column(1).physical_type == "INT96"
    classify("in.parquet", "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet").column("at").combine_chunks().equals(moments)
    assert parquet.ParquetFile(tmp_path / "out.parquet").schema.column(1).physical_type == "INT64"


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
    code = "import sys; from components.tables.parquet import open_parquet; open_parquet(sys.argv[1], '')"
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
