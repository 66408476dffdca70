"""Arrays and objects of a body are counted before it is parsed, and brackets in strings are none of them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.protocol.json_body import Nesting, measure, most_containers

tricky = st.text(alphabet='[]{}"\\aé\n', max_size=6)
documents = st.recursive(
    st.none() | st.integers() | tricky,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(tricky, inner, max_size=3),
    max_leaves=20,
)


def count(document: Any) -> Nesting:
    """Returns the same of a document that has been parsed."""
    if not isinstance(document, list | dict):
        return Nesting(0, 0)
    inside = [count(child) for child in (document.values() if isinstance(document, dict) else document)]
    return Nesting(1 + sum(each.containers for each in inside), 1 + max((each.depth for each in inside), default=0))


@settings(max_examples=500, deadline=None)
@given(documents, st.booleans(), st.sampled_from([None, 2]))
def test_what_is_measured_is_what_a_parser_finds(document: Any, ascii_only: bool, indent: int | None) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    found = measure(body)
    assert found == count(document)
    assert max(found.containers, found.depth) <= most_containers(body)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", Nesting(0, 0)),
        (b"[" * 1000, Nesting(1000, 1000)),
        (b"[]" * 1000, Nesting(1000, 1)),
        (b"]" * 1000 + b"[", Nesting(1, 0)),
        (b'"' + b"[" * 10, Nesting(0, 0)),
        (b'["\\\\", [], "\\"["]', Nesting(2, 2)),
        (b'"\\\\\\"["', Nesting(0, 0)),
        (b'""' * 200 + b"{", Nesting(1, 1)),
    ],
)  # fmt: skip
def test_what_is_no_json_is_measured_too(body: bytes, found: Nesting) -> None:
    assert measure(body) == found
