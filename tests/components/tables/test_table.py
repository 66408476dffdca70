"""What is found out about a file: format, delimiter, header, quotes and which column is the text."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from components.errors import BadInputError
from components.tables.files import format_of, open_input
from components.tables.rows import Asked, Layout, Place, Row
from components.tables.table import describe, inspect, read_rows


def read(path: Path, content: str | bytes, **asked: Any) -> tuple[Layout, list[str]]:
    """Writes a file, and returns its layout and the texts of all records, of malformed ones the reason."""
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    source = str(format_of(str(path)))
    layout = inspect([str(path)], source, Asked(**asked))
    with open_input(str(path), layout.encoding) as file:
        records = [record for record, _ in read_rows(file, str(path), source, layout, Place())]
    return layout, [record.text if isinstance(record, Row) else record.reason for record in records]


@pytest.mark.parametrize("name", ["in.csv", "in.txt", "in.CSV.gz"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_the_delimiter_is_found(tmp_path: Path, name: str, delimiter: str) -> None:
    rows = [("id", "text"), ("1", '"rain, wind; hail | fog\tsnow"'), ("2", '"sun, and; more"'), ("3", "sun")]
    layout, texts = read(tmp_path / name, "".join(delimiter.join(row) + "\n" for row in rows))
    assert layout.delimiter == delimiter
    assert texts == ["rain, wind; hail | fog\tsnow", "sun, and; more", "sun"]


def test_another_delimiter_cuts_no_text_that_has_it_here_and_there(tmp_path: Path) -> None:
    layout, texts = read(tmp_path / "in.csv", "id;text\n1;rain, then sun\n2;sun\n3;one, two, three\n")
    assert (layout.delimiter, layout.columns) == (";", ("id", "text"))
    assert texts == ["rain, then sun", "sun", "one, two, three"]


def test_a_header_that_two_delimiters_cut_is_cut_as_its_records_are(tmp_path: Path) -> None:
    layout, texts = read(tmp_path / "in.csv", "id;what, in words\n1;It rains\n2;It snows\n")
    assert (layout.columns, texts) == (("id", "what, in words"), ["It rains", "It snows"])


def test_a_broken_record_does_not_change_the_delimiter(tmp_path: Path) -> None:
    layout, texts = read(tmp_path / "in.csv", 'id;text\n1;"rain\n2;sun\n3\n4;hail\n5;fog\n')
    assert layout.delimiter == ";"
    assert texts == ["broken quoting: unexpected end of data", "sun", "1 columns instead of 2", "hail", "fog"]


@pytest.mark.parametrize(("asked", "character"), [("~", "~"), ("pipe", "|"), ("TAB", "\t")])
def test_a_delimiter_that_is_asked_for_is_taken(tmp_path: Path, asked: str, character: str) -> None:
    layout, texts = read(tmp_path / "in.csv", f"a,b{character}text\n1,2{character}rain\n", delimiter=asked)
    assert (layout.columns, texts) == (("a,b", "text"), ["rain"])


@pytest.mark.parametrize("asked", ["", ";;", '"', "\n", "colon"])
def test_what_is_no_delimiter_is_refused(tmp_path: Path, asked: str) -> None:
    with pytest.raises(BadInputError, match=r"is no delimiter: type one character, or comma, tab"):
        read(tmp_path / "in.csv", "text\nrain\n", delimiter=asked)


@pytest.mark.parametrize(("name", "row"), [("in.tsv", "sun, fog"), ("in.txt", "sun, fog"), ("in.csv", "sun")])
def test_one_column_with_a_known_name_is_a_table(tmp_path: Path, name: str, row: str) -> None:
    assert read(tmp_path / name, f"Sentence\nrain\n{row}\n")[1] == ["rain", row]


def test_a_single_quote_among_tabs_is_a_character(tmp_path: Path) -> None:
    content = '1\tA 19" screen falls\n2\t"Rain" says the mayor\n3\t"Sun\n4\tno quote at all\n'
    layout, texts = read(tmp_path / "in.tsv", content)
    assert not layout.quoted
    assert texts == ['A 19" screen falls', '"Rain" says the mayor', '"Sun', "no quote at all"]


def test_sound_quotes_among_tabs_enclose(tmp_path: Path) -> None:
    layout, texts = read(tmp_path / "in.tsv", '1\t"Rain\tand ""sun"""\n2\t"over\ntwo lines"\n')
    assert (layout.quoted, texts) == (True, ['Rain\tand "sun"', "over\ntwo lines"])


@pytest.mark.parametrize("asked", [(), ("2",)])
def test_columns_without_a_header_are_numbers(tmp_path: Path, asked: tuple[str, ...]) -> None:
    layout, texts = read(tmp_path / "in.tsv", "weather\tIt will rain\nsport\tA late goal\n", text=asked)
    assert (layout.columns, layout.text, layout.header) == (("1", "2"), ("2",), False)
    assert texts == ["It will rain", "A late goal"]


@pytest.mark.parametrize(
    ("content", "asked", "columns"),
    [
        ("frage,art\nWann?,a\n", ("frage",), ("frage", "art")),
        ("0,1\nWann denn,a\n", ("0",), ("0", "1")),
        ("Label,etwas\na,Wann ist es\nb,Wo ist es\n", (), ("Label", "etwas")),
    ],
)
def test_a_header_is_known_by_its_names(
    tmp_path: Path, content: str, asked: tuple[str, ...], columns: tuple[str, ...]
) -> None:
    layout, texts = read(tmp_path / "in.csv", content, text=asked)
    assert (layout.columns, layout.header, len(texts)) == (columns, True, content.count("\n") - 1)


def test_a_value_that_is_called_like_a_column_makes_no_header(tmp_path: Path) -> None:
    content = "".join(f"How far is it to {place} ?,question\n" for place in ("Rome", "Oslo", "Bern"))
    layout, texts = read(tmp_path / "in.csv", content)
    assert (layout.text, layout.header, len(texts)) == (("1",), False, 3)


@pytest.mark.parametrize(
    "name", ["sentence", "Review", "MESSAGE", "body", "tweet", "question", "utterance", "Headline"]
)
def test_a_usual_name_is_the_text(tmp_path: Path, name: str) -> None:
    layout, texts = read(tmp_path / "in.csv", f"note,{name}\nmuch longer words than those,rain\n")
    assert (layout.text, texts) == ((name,), ["rain"])


def test_without_a_usual_name_the_longest_words_are_the_text(tmp_path: Path) -> None:
    rows = [("id", "code", "same", "word", "what"), *((f"{n}", f"{n} 000 000 000 000 000", "all the very same words",
            "Donaudampfschifffahrt" + "x" * n, f"rain {n}") for n in range(5))]  # fmt: skip
    layout, texts = read(tmp_path / "in.csv", "".join(",".join(row) + "\n" for row in rows))
    assert (layout.text, texts[:2]) == (("what",), ["rain 0", "rain 1"])
    assert read(tmp_path / "in.tsv", "3\t明日は雨です\n4\t今日は晴れ\n")[0].text == ("2",)


def test_json_and_parquet_have_their_text_found_as_well(tmp_path: Path) -> None:
    content = '\ufeff{}\n{"n": 1, "was": "It rains"}\nno JSON\n{"n": 2, "was": "It snows"}\n'
    layout, texts = read(tmp_path / "in.ndjson.gz", content)
    assert (layout.text, texts[1], texts[3]) == (("was",), "It rains", "It snows")
    parquet.write_table(pa.table({"n": [1, 2], "was": ["It rains", "It snows"]}), tmp_path / "in.parquet")
    assert read(tmp_path / "in.parquet", (tmp_path / "in.parquet").read_bytes())[1] == ["It rains", "It snows"]


@pytest.mark.parametrize(
    ("name", "content", "asked", "words"),
    [
        ("in.csv", "review,id,Body\nrain rain rain rain rain,1,sun\n", {}, "several columns that may be the text, of "
         r"'review' \('rain rain rain rain '\), 'id' \('1'\), 'Body' \('sun'\): say with --text-column"),
        ("in.txt", "rain today\nsun tomorrow\n", {}, r"clearly the text among '1' \('rain today', 'sun tomorrow'\)"),
        ("in.csv", "id,n\n1,2\n", {}, "no column that is clearly the text"),
        ("in.csv", "id,text\n1,a\n", {"text": ("txt",)}, "no column 'txt': it has .*; did you mean 'text'"),
        ("in.csv", "", {}, "is empty"),
        ("in.json", '\ufeff[{"text": "a"}]', {}, "JSON array"),
        ("in.jsonl", '{"text": "a"}', {"delimiter": ","}, "is jsonl: drop --delimiter"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_in_one_sentence(
    tmp_path: Path, name: str, content: str, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInputError, match=words):
        read(tmp_path / name, content, **asked)


def test_files_that_differ_in_their_quotes_are_one_table_and_others_are_not(tmp_path: Path) -> None:
    for name, content in {
        "a.tsv": "1\tIt rains\n",
        "b.tsv": '2\t"Sun" they say\n',
        "c.tsv": "1\t2\t3 4 five\n",
    }.items():
        (tmp_path / name).write_text(content)
    assert not inspect([str(tmp_path / name) for name in ("a.tsv", "b.tsv")], "csv", Asked()).quoted
    with pytest.raises(BadInputError, match=r"c\.tsv has other columns than .* delimiter tab, without a header"):
        inspect([str(tmp_path / name) for name in ("a.tsv", "c.tsv")], "csv", Asked())


def test_what_was_found_is_told(tmp_path: Path) -> None:
    layout, _ = read(tmp_path / "in.csv", '"3","Shares rise","Banks lead"\n')
    assert describe("csv", layout) == "csv, UTF-8, delimiter comma, without a header, text in 'title' and 'description'"
