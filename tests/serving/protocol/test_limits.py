"""What one request may bring, and how little work it is to refuse the worst."""

from dataclasses import replace

import pytest
from protocol_calls import LIMITS, b64, parse, refusal
from work_done import bytes_of, lines_of


def test_body_up_to_a_mebibyte() -> None:
    body = b'{"instances": ["a"]}'
    padded = body + b" " * (LIMITS.body_bytes - len(body))
    assert parse(padded).inputs == [b"a"]
    assert refusal(lambda: parse(padded + b" "))[0] == 413


def test_up_to_256_instances() -> None:
    assert len(parse({"instances": ["a"] * 256}).inputs) == 256
    for body in ({"instances": ["a"] * 257}, {"inputs": ["a"] * 257}, {"inputs": {"text": ["a"] * 257}}):
        status, message = refusal(lambda body=body: parse(body))  # type: ignore[misc]
        assert status == 400
        assert message == "The request has 257 texts, 256 are allowed: send them in several requests"


@pytest.mark.parametrize("letter", ["a", "é", "🛢"])
def test_up_to_10_000_characters_however_many_bytes(letter: str) -> None:
    whole = letter * 10_000
    assert parse({"instances": [whole, b64(whole.encode())]}).inputs == [whole.encode()] * 2
    for longer in (whole + "b", b64(f"{whole}b".encode())):
        status, message = refusal(lambda longer=longer: parse({"instances": ["a", longer]}))  # type: ignore[misc]
        assert (status, message) == (400, "Text 1 has 10001 characters, 10000 are allowed: shorten it")


def test_bytes_that_are_not_utf8_are_passed_on_and_counted_as_they_are_read() -> None:
    assert parse({"instances": [b64(b"\xff" * 10_000)]}).inputs == [b"\xff" * 10_000]
    assert refusal(lambda: parse({"instances": [b64(b"\xff" * 10_001)]}))[0] == 400


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(("levels", "refused"), [(31, False), (32, True), (1_100, True), (100_000, True)])
def test_nesting_is_bounded(levels: int, refused: bool) -> None:
    # With the outermost object it is one level more.
    body = b'{"instances": ["a"], "more": ' + nested(levels) + b"}"
    if refused:
        message = "JSON Parse error: More than 32 arrays and objects within each other"
        assert refusal(lambda: parse(body)) == (400, message)
    else:
        assert parse(body).inputs == [b"a"]


def test_many_brackets_are_not_deep_ones() -> None:
    assert len(parse({"instances": [{"text": "[" * 100}] * 256}).inputs) == 256


@pytest.mark.parametrize("more", [b"[]", b"{}", b'{"a":[]}'])
def test_the_number_of_arrays_and_objects_is_bounded(more: bytes) -> None:
    per_item = more.count(b"[") + more.count(b"{")
    items = (LIMITS.containers - 3) // per_item
    for number, refused in ((items, False), (items + 1, True)):
        body = b'{"instances": ["a"], "more": [' + b",".join([more] * number) + b"]}"
        if refused:
            assert refusal(lambda body=body: parse(body)) == (  # type: ignore[misc]
                400,
                f"JSON Parse error: More than {LIMITS.containers} arrays and objects",
            )
        else:
            assert parse(body).inputs == [b"a"]


@pytest.mark.parametrize("instances", [1, 256, 4000])
def test_a_full_request_in_its_longest_form_is_within_that(instances: int) -> None:
    limits = replace(LIMITS, instances=instances, body_bytes=2**24)
    assert len(parse({"instances": [{"text": b64(b"[{")}] * instances}, limits).inputs) == instances


def full(start: bytes, unit: bytes) -> bytes:
    """Returns a body of 1 MiB that holds a unit as often as there is room."""
    return start + b",".join([unit] * (2**20 // (len(unit) + 1) - 30)) + b"]}"


@pytest.mark.parametrize(
    "body",
    [
        *(
            full(start, unit)
            for start in (b'{"instances":[', b'{"inputs":[')
            for unit in (b"[]", b"{}", b"[[]]", b'{"b64":""}', b'{"text":"a"}', b"[" * 30 + b"]" * 30)
        ),
        b"[" * 2**20,
        b'{"a":' * 200_000,
        b'{"instances":' + nested(100_000) + b"}",
    ],
    ids=lambda body: f"{body[:30]!r}",
)
def test_too_many_arrays_and_objects_are_not_made(body: bytes) -> None:
    def refuse() -> None:
        assert "arrays and objects" in refusal(lambda: parse(body))[1]

    # To walk through them in Python is a line for every few bytes.
    assert lines_of(refuse) < 2_000
    # Made, they would take 29 MiB and more.
    assert bytes_of(refuse) < 16 << 20


@pytest.mark.parametrize(
    "body",
    [
        *(full(start, unit) for start in (b'{"instances":[', b'{"inputs":[') for unit in (b'""', b'"["', b"1.5")),
        b'{"instances":["' + b"a" * 1_000_000 + b'"]}',
        b'{"instances":{"a":"' + b"\\n" * 500_000 + b'"}}',
        b'{"instances":[' + b'"a",' * 256 + b'"a"]}',
        b'{"inputs":[' + b"1," * 500_000 + b"1]}",
        b"[" + b"1," * 500_000 + b"1]",
        b'{"instances":["a"]}' + b" " * 2**20,
        b'{"instances":[{"b64":"' + b"A" * 1_000_000 + b'"}]}',
        b'{"instances":[{"b64":"' + b"=" * 1_000_000 + b'"}]}',
    ],
    ids=lambda body: f"{body[:30]!r}",
)
def test_refusing_the_worst_is_little_work(body: bytes) -> None:
    assert lines_of(lambda: refusal(lambda: parse(body))) < 2_000
    assert bytes_of(lambda: refusal(lambda: parse(body))) < 32 << 20
