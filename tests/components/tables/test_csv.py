"""Delimited text: what is a header, what is a record, and what a broken one costs."""

import io

import pytest
from batch_world import malformed, read_all, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import BadInputError
from components.example_gen import reader
from components.tables.csv import read_csv
from components.tables.rows import Row


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


@pytest.mark.parametrize(
    "content",
    [
        r'"1","C:\temp","is \full\"',
        'Class,Title,Description\n"1","C:\\temp","is \\full\\"',
        'id,text\n"1","C:\\temp is \\full\\"',
    ],
)
def test_a_backslash_is_classified_as_it_is_typed(content: str) -> None:
    assert texts(f"{content}\n".encode()) == ["C:\\temp is \\full\\"]


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
        (b"a,b\n1,2\n", r"no column that is clearly the text among '1' \('a', '1'\), '2' \('b', '2'\): say "),
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
