"""Input that cannot be used is refused, and what is malformed is listed."""

import gzip
from pathlib import Path

import pytest
from batch_world import ByLength, Classify, rows_of, tree

from components.errors import BadInputError


@pytest.mark.parametrize(
    ("name", "content"), [("in.csv", "text,label\na,b\n"), ("in.jsonl", '{"text": "a"}\n{"text": "b", "label": 1}\n')]
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
        ("in.doc", "no name of a known format"),
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
        "in.doc": b"",
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
