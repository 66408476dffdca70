"""Tests of reading the AG News layout, whole and broken."""

import csv
import hashlib
import io
import itertools
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.example_gen.reader import Malformed, Row, read_records
from components.example_gen.source import open_lines

GOOD = '"1","Treaty","Signed today."\n'
GOOD_TEXT = "Treaty Signed today."


def read(text: str) -> list[Row | Malformed]:
    return list(read_records(io.StringIO(text, newline="")))


def read_bytes(path: Path, content: bytes) -> list[Row | Malformed]:
    path.write_bytes(content)
    with open_lines(str(path)) as lines:
        return list(read_records(lines))


def numbered(number: int) -> str:
    return f'"{number % 4 + 1}","Title {number}","He said ""yes"" to item {number}."\n'


def numbered_row(number: int, line: int) -> Row:
    return Row(str(number % 4 + 1), f'Title {number} He said "yes" to item {number}.', line)


def digest(record: str | bytes) -> str:
    return hashlib.sha256(record if isinstance(record, bytes) else record.encode()).hexdigest()[:16]


def test_plain_rows_are_read_in_order_with_their_lines() -> None:
    assert read('"1","A treaty","Signed."\n2,A goal,Scored.\n"4",Chip,"Small, fast."\n') == [
        Row("1", "A treaty Signed.", 1),
        Row("2", "A goal Scored.", 2),
        Row("4", "Chip Small, fast.", 3),
    ]


def test_a_last_row_without_a_line_end_is_read() -> None:
    assert read('"1","A treaty","Signed."\n"2","A goal","Scored."')[1:] == [Row("2", "A goal Scored.", 2)]


def test_space_around_title_and_description_is_stripped() -> None:
    assert read('"1","  A treaty ","  Signed. "\n') == [Row("1", "A treaty Signed.", 1)]


@pytest.mark.parametrize(("title", "description"), [("Only this", ""), ("", "Only this"), (" ", " Only this ")])
def test_title_or_description_alone_is_text(title: str, description: str) -> None:
    assert read(f'"1","{title}","{description}"\n') == [Row("1", "Only this", 1)]


def test_quoted_line_breaks_belong_to_the_record() -> None:
    assert read('"1","A\ntreaty","Signed\n\nby all."\n') == [Row("1", "A\ntreaty Signed\n\nby all.", 1)]


def test_doubled_quotes_are_quotes() -> None:
    assert read('"1","A ""treaty""","""Signed"""\n') == [Row("1", 'A "treaty" "Signed"', 1)]


def test_a_backslash_is_left_to_the_graph_as_in_a_request() -> None:
    assert read('"1","A\\treaty","Signed\\\\by all\\"\n') == [Row("1", "A\\treaty Signed\\\\by all\\", 1)]


@pytest.mark.parametrize(
    "header",
    [
        '"label","title","description"\n',
        "Class Index,Title,Description\n",
        '"label"," TITLE ","Text"\r\n',
        '\n\n"label","headline","content"\n',
    ],
)
def test_a_header_is_skipped_and_costs_no_row(header: str) -> None:
    body = "".join(numbered(number) for number in range(20))
    without, with_header = read(body), read(header + body)
    shift = header.count("\n")
    assert without == [numbered_row(number, number + 1) for number in range(20)]
    assert with_header == [numbered_row(number, number + 1 + shift) for number in range(20)]


def test_a_header_further_down_is_a_record() -> None:
    records = read(GOOD + '"label","title","description"\n')
    assert records[1] == Row("label", "title description", 2)


def test_a_first_row_with_a_class_number_is_no_header() -> None:
    assert read('"1","Title","Text"\n' + GOOD) == [Row("1", "Title Text", 1), Row("1", GOOD_TEXT, 2)]


def test_blank_lines_are_no_records_but_count_as_lines() -> None:
    assert read(f"\n{GOOD}\n\r\n{GOOD}\n") == [Row("1", GOOD_TEXT, 2), Row("1", GOOD_TEXT, 5)]


@pytest.mark.parametrize("text", ["", "\n", "\n\r\n\n", '"label","title","description"\n'])
def test_nothing_but_blank_lines_or_a_header_yields_nothing(text: str) -> None:
    assert read(text) == []


def test_carriage_return_line_feed_ends_a_line() -> None:
    assert read('"1","A","one\r\ntwo"\r\n"2","B","three"\r\n') == [Row("1", "A one\r\ntwo", 1), Row("2", "B three", 3)]


def test_a_byte_order_mark_is_no_part_of_the_first_label(tmp_path: Path) -> None:
    plain = '"1","Traité","Signé."\n2,B,C\n'.encode()
    expected = [Row("1", "Traité Signé.", 1), Row("2", "B C", 2)]
    assert read_bytes(tmp_path / "a.csv", b"\xef\xbb\xbf" + plain) == expected
    assert read_bytes(tmp_path / "b.csv", b"\xef\xbb\xbf" + b"label,title,description\n" + plain)[0].line == 2
    assert read_bytes(tmp_path / "c.csv", plain) == expected


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('"2","secret goal"\n', "2 columns"),
        ('"2","secret","goal","scored"\n', "4 columns"),
        ('"2","secret goal","\0scored"\n', "NUL"),
        ('"2","secret\0goal","scored"\n', "NUL"),
        ('"2\0","secret goal","scored"\n', "NUL"),
        ('"2","",""\n', "no text"),
        ('"2","secret "goal"","scored"\n', "broken quoting"),
    ],
)
def test_a_malformed_record_is_named_by_line_reason_and_digest(record: str, reason: str) -> None:
    first, second, bad, last = read(f'"1","A","one\ntwo"\n\n{GOOD}{record}{GOOD}')
    assert (first, second, last) == (Row("1", "A one\ntwo", 1), Row("1", GOOD_TEXT, 4), Row("1", GOOD_TEXT, 6))
    assert isinstance(bad, Malformed)
    assert bad.line == 5
    assert reason in bad.reason
    assert bad.digest == digest(record)
    assert "secret" not in repr(bad)


@pytest.mark.parametrize("column", [0, 1, 2])
def test_an_undecodable_byte_spoils_one_record(tmp_path: Path, column: int) -> None:
    fields = [b"2", b"secret goal", b"scored\nlate"]
    fields[column] += b"\xe9"
    record = b'"' + b'","'.join(fields) + b'"\n'
    before, bad, after = read_bytes(tmp_path / "train.csv", GOOD.encode() + record + GOOD.encode())
    assert (before, after) == (Row("1", GOOD_TEXT, 1), Row("1", GOOD_TEXT, 4))
    assert bad == Malformed(2, "bytes that are not UTF-8", digest(record))


def test_a_field_beyond_a_million_characters_spoils_one_record() -> None:
    before, bad, after = read(f'{GOOD}"2","A","{"x" * 1_000_001}"\n{GOOD}')
    assert (before, after) == (Row("1", GOOD_TEXT, 1), Row("1", GOOD_TEXT, 3))
    assert isinstance(bad, Malformed)
    assert bad.line == 2


def test_a_quote_that_nobody_closes_holds_no_more_than_a_thousand_lines_in_memory() -> None:
    """Lines are let go as they are passed, however far behind the next record begins."""
    lines = 200_000
    tracemalloc.start()
    broken, *rest = read_records(
        itertools.chain(['"2","open\n'], (f"line {number}\n" for number in range(lines)), [GOOD])
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(broken, Malformed)
    assert "no end within 1,000 lines" in broken.reason
    assert rest == [Row("1", GOOD_TEXT, lines + 2)]
    assert peak < 1_000_000


def test_the_digest_differs_between_records() -> None:
    first, second, third = read('"1","A"\n"1","B"\n"1","A"\n')
    assert isinstance(first, Malformed)
    assert isinstance(second, Malformed)
    assert isinstance(third, Malformed)
    assert first.digest == third.digest != second.digest


BROKEN = {
    "no opening quote of the label": '1","A goal","Scored late."\n',
    "no closing quote of the label": '"1,"A goal","Scored late."\n',
    "doubled opening quote": '""1","A goal","Scored late."\n',
    "lone quote in the title": '"1","A "goal","Scored late."\n',
    "no closing quote of the title": '"1","A goal,"Scored late."\n',
    "no opening quote of the description": '"1","A goal",Scored late."\n',
    "lone quote in the description": '"1","A goal","Scored "late."\n',
    "no closing quote of the description": '"1","A goal","Scored late.\n',
    "doubled closing quote": '"1","A goal","Scored late.""\n',
    "only an opening quote": '"\n',
    "quoted line breaks, no closing quote": '"1","A goal","Scored\nlate,\n\nsaid all, twice, loudly.\n',
    "quoted line breaks, lone quote before them": '"1","A goal","Scored "late\nsaid all, again, loudly.\nThe end."\n',
    "quoted line breaks, lone quote behind them": '"1","A goal","Scored\nlate, "said all\nThe end, twice, loudly."\n',
    "quoted line breaks, lone quote in the title": '"1","A "goal","Scored\nlate,\nsaid all."\n',
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("position", [1, 10, 1000])
def test_an_unbalanced_quote_costs_at_most_its_own_record(broken: str, position: int) -> None:
    records = [numbered(number) for number in range(1, 1001)]
    records[position - 1] = broken
    shift = broken.count("\n") - 1
    found = read("".join(records))
    others = [record for record in found if isinstance(record, Row) and record.text.startswith("Title ")]
    assert others == [numbered_row(n, n + shift * (n > position)) for n in range(1, 1001) if n != position]
    own = [record for record in found if record not in others]
    assert own
    assert own[0].line == position


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("behind", [GOOD, "2,A goal,Scored.\n", ""], ids=["quoted", "unquoted", "last"])
def test_a_record_with_a_broken_quote_leaves_no_row_with_an_invented_label(broken: str, behind: str) -> None:
    labels = [record.label for record in read(GOOD + broken + behind) if isinstance(record, Row)]
    assert set(labels) <= {"1", "2"}


@pytest.mark.parametrize("name", [name for name in BROKEN if "line breaks" in name])
def test_a_broken_record_of_several_lines_is_counted_once(name: str) -> None:
    broken = BROKEN[name]
    before, bad, after = read(GOOD + broken + GOOD)
    assert (before, after) == (Row("1", GOOD_TEXT, 1), Row("1", GOOD_TEXT, 2 + broken.count("\n")))
    assert isinstance(bad, Malformed)
    assert bad.line == 2


def test_two_broken_records_in_a_row_cost_two_records() -> None:
    broken = BROKEN["no closing quote of the description"]
    before, first, second, after = read(GOOD + broken + broken + GOOD)
    assert (before, after) == (Row("1", GOOD_TEXT, 1), Row("1", GOOD_TEXT, 4))
    assert [(type(record), record.line) for record in (first, second)] == [(Malformed, 2), (Malformed, 3)]


def test_a_quote_open_to_the_end_of_an_unquoted_file_costs_one_record() -> None:
    lines = [f"{number % 4 + 1},Title {number},Text\n" for number in range(2000)]
    lines[9] = '2,Title 9,"Text\n'
    rows = [record for record in read("".join(lines)) if isinstance(record, Row)]
    assert [row.line for row in rows] == [number + 1 for number in range(2000) if number != 9]


def test_lines_are_right_behind_records_of_several_lines() -> None:
    text = '"1","A","one\ntwo\nthree"\n\n"1","B"\n"1","C","un"balanced\nover two."\n"1","D\nE","F"\n"1","G","H"\n'
    lines = [(type(record), record.line) for record in read(text)]
    assert lines[:3] == [(Row, 1), (Malformed, 5), (Malformed, 6)]
    assert lines[-2:] == [(Row, 8), (Row, 10)]


_CHARACTERS = st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\r")
_FIELD = st.text(st.one_of(st.sampled_from('",\n \u0085\u2028a1'), _CHARACTERS), max_size=30)
_FIELDS = st.tuples(_FIELD, _FIELD, _FIELD).filter(lambda fields: bool((fields[1] + fields[2]).strip()))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(_FIELDS, max_size=8), line_end=st.sampled_from(["\n", "\r\n"]))
def test_what_csv_writes_is_read_back_exactly(rows: list[tuple[str, str, str]], line_end: str) -> None:
    written = [("1", "First", "so that no row is taken for a header"), *rows]
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator=line_end)
    expected, line = [], 1
    for label, title, description in written:
        expected.append(Row(label, f"{title.strip()} {description.strip()}".strip(), line))
        line += 1 + (label + title + description).count("\n")
        writer.writerow((label, title, description))
    assert read(file.getvalue()) == expected


_GARBAGE = st.lists(st.text(st.one_of(st.sampled_from('",\n\r\0 1a\\'), _CHARACTERS), max_size=30), max_size=6)


@settings(max_examples=100, deadline=None)
@given(pieces=st.lists(_GARBAGE, min_size=1, max_size=4))
def test_garbage_never_raises_and_never_costs_the_next_good_record(pieces: list[list[str]]) -> None:
    text, good = "", []
    for number, garbage in enumerate(pieces):
        text += "".join(f"{line}\n" for line in garbage)
        good.append(Row("3", f"Marker {number} kept whole", sum(1 for _ in io.StringIO(text, newline="")) + 1))
        text += f'"3","Marker {number}","kept whole"\n'
    found = read(text)
    assert [record for record in found if isinstance(record, Row) and record.text.startswith("Marker ")] == good


@settings(max_examples=100, deadline=None)
@given(garbage=st.binary(max_size=80))
def test_garbage_bytes_never_raise_and_never_cost_the_next_good_record(garbage: bytes) -> None:
    lines = io.TextIOWrapper(
        io.BytesIO(garbage + b"\n" + GOOD.encode()), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )
    last = list(read_records(lines))[-1]
    assert isinstance(last, Row)
    assert (last.label, last.text) == ("1", GOOD_TEXT)
