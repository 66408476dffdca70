"""Arrays and objects of a body are counted before it is parsed, and brackets in strings are none of them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.protocol.json_body import measure, most_containers

tricky = st.text(alphabet='[]{}"\\aé\n', max_size=6)
documents = st.recursive(
    st.none() | st.integers() | tricky,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(tricky, inner, max_size=3),
    max_leaves=20,
)


def count(document: Any) -> tuple[int, int]:
    """Returns the same of a document that has been parsed."""
    if not isinstance(document, list | dict):
        return 0, 0
    inside = [count(child) for child in (document.values() if isinstance(document, dict) else document)]
    return 1 + sum(containers for containers, _ in inside), 1 + max((depth for _, depth in inside), default=0)


@settings(max_examples=500, deadline=None)
@given(documents, st.booleans(), st.sampled_from([None, 2]))
def test_what_is_measured_is_what_a_parser_finds(document: Any, ascii_only: bool, indent: int | None) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    found = measure(body)
    assert found == count(document)
    assert max(found) <= most_containers(body)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", (0, 0)),
        (b"[" * 1000, (1000, 1000)),
        (b"[]" * 1000, (1000, 1)),
        (b"]" * 1000 + b"[", (1, 0)),
        (b'"' + b"[" * 10, (0, 0)),
        (b'["\\\\", [], "\\"["]', (2, 2)),
        (b'"\\\\\\"["', (0, 0)),
        (b'""' * 200 + b"{", (1, 1)),
    ],
)  # fmt: skip
def test_what_is_no_json_is_measured_too(body: bytes, found: tuple[int, int]) -> None:
    assert measure(body) == found
