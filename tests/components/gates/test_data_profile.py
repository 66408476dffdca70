"""A profile counts what it says, survives its file and nothing else, and its measures have known values."""

import json
import math
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.gates.data import profile as data_profile
from components.gates.data.profile import (
    LENGTH_EDGES,
    MOST_WORDS,
    Profile,
    comparable_shares,
    count_words,
    expected_oov_rate,
    from_json,
    js_divergence,
    make_profile,
    median_bin,
    oov_rate,
    to_json,
)

COUNTS = st.lists(st.integers(0, 1_000), min_size=4, max_size=4).filter(any)
SPARSE = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1)


def profile_of(*texts: str) -> Profile:
    """Returns the profile of train texts, all of one class."""
    lengths, words = count_words(text.encode() for text in texts)
    return make_profile({"train": len(texts)}, {"train": [len(texts), 0]}, lengths, words)


def draw(rows: int, seed: int, words: int = 3_000, length: int = 40) -> Profile:
    """Returns the profile of rows whose words follow Zipf's law, as those of a language do."""
    ranks = random.Random(seed).choices(range(words), [1 / rank for rank in range(1, words + 1)], k=rows * length)
    counts = Counter(f"w{rank}" for rank in ranks)
    return make_profile({"train": rows}, {"train": [rows]}, [length] * rows, counts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat, the CAT.", ["the", "cat", "the", "cat"]),
        ("it's 3.5% of x_1", ["it", "s", "3", "5", "of", "x_1"]),
        ("Ärzte ŒUVRE Straße", ["ärzte", "œuvre", "straße"]),
        ("東京 2020 です", ["東", "京", "2020", "で", "す"]),
        ("... !?", []),
        ("", []),
    ],
)
def test_words_are_lower_cased_runs_of_word_characters(text: str, words: list[str]) -> None:
    assert count_words([text.encode()]) == ([len(words)], Counter(words))


def test_words_are_counted_over_all_texts() -> None:
    assert count_words([b"a b", b"", b"B c b"]) == ([2, 0, 3], Counter(a=1, b=3, c=1))


def test_bytes_that_are_no_text_separate_words() -> None:
    assert count_words([b"ab\xffcd"]) == ([2], Counter(ab=1, cd=1))


@settings(max_examples=100, deadline=None)
@given(st.text("ab'-_ 19", max_size=30))
def test_both_patterns_find_the_same_in_ascii(text: str) -> None:
    lengths, words = count_words([text.encode(), f"{text} é".encode()])
    assert lengths[1] == lengths[0] + 1
    assert words["é"] == 1
    assert all(count % 2 == 0 for word, count in words.items() if word != "é")


def test_a_profile_counts_rows_classes_lengths_and_words() -> None:
    lengths, words = count_words([b"a b a", b"a", b" ".join([b"b"] * 9)])
    profile = make_profile({"train": 3, "test": 2}, {"train": [1, 2], "test": [2, 0]}, lengths, words)
    bins = dict(zip(LENGTH_EDGES, profile.lengths, strict=True))
    assert profile.rows == {"train": 3, "test": 2}
    assert profile.classes == {"train": (1, 2), "test": (2, 0)}
    assert {edge: count for edge, count in bins.items() if count} == {1: 1, 3: 1, 8: 1}
    assert (profile.tokens, profile.words) == (13, {"b": 10, "a": 3})


@pytest.mark.parametrize(("words", "edge"), [(0, 0), (9, 8), (10, 10), (1023, 896), (1024, 1024), (90_000, 1024)])
def test_a_length_falls_into_the_bin_that_begins_at_or_below_it(words: int, edge: int) -> None:
    assert make_profile({}, {}, [words], {}).lengths.index(1) == LENGTH_EDGES.index(edge)


def test_a_profile_keeps_the_commonest_words_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_profile, "MOST_WORDS", 3)
    for order in ("dcbacba e", "abcdabce"):
        profile = make_profile({}, {}, [5], Counter(order.replace(" ", "")))
        assert list(profile.words.items()) == [("a", 2), ("b", 2), ("c", 2)]
        assert profile.tokens == 8


def test_words_of_one_count_are_kept_all_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"a": 3, "b": 2, "c": 2, "d": 1}
    for most, kept in ((4, "abcd"), (3, "abc"), (2, "a"), (1, "a"), (0, "")):
        monkeypatch.setattr(data_profile, "MOST_WORDS", most)
        assert "".join(make_profile({}, {}, [8], counts).words) == kept


def test_a_profile_survives_its_file() -> None:
    profile = profile_of("The cat sat", 'Währung 東京 "q"', "")
    assert from_json(to_json(profile)) == profile
    assert from_json(to_json(profile).encode()) == profile


def test_a_full_profile_is_small() -> None:
    profile = make_profile(
        {"train": 1},
        {"train": [1]},
        [3],
        {f"word{number}": 999 - number // MOST_WORDS for number in range(3 * MOST_WORDS)},
    )
    assert len(profile.words) == MOST_WORDS
    assert len(to_json(profile)) < 400_000


DAMAGE = {
    "cut": lambda text: text[:-9],
    "empty": lambda text: "",
    "another kind": lambda text: "[]",
    "not UTF-8": lambda text: text.encode() + b"\xff",
}
WRONG = {
    "another format": {"format": "newsdesk profile 9"},
    "a key too many": {"extra": 1},
    "negative": {"tokens": -1},
    "a fraction": {"tokens": 3.5},
    "a number as text": {"tokens": "3"},
    "beyond a float": {"tokens": 10**400},
    "no number": {"rows": {"train": None}},
    "a bin too few": {"lengths": [0] * (len(LENGTH_EDGES) - 1)},
    "a word that never occurs": {"words": {"a": 0}},
    "more words than words": {"words": {"a": 99}},
    "other splits": {"classes": {"test": [1]}},
    "other classes in test": {"rows": {"train": 2, "test": 1}, "classes": {"train": [1, 1], "test": [1]}},
    "lengths of other rows": {"rows": {"train": 3}},
    "no train": {"rows": {}, "classes": {}, "lengths": [0] * len(LENGTH_EDGES)},
    "no row of a class": {"classes": {"train": [0, 0]}},
    "too many words": {"tokens": 10**6, "words": {f"w{number}": 1 for number in range(MOST_WORDS + 1)}},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_profile_is_one_error(damage: str) -> None:
    with pytest.raises(ValueError, match=r"^not a profile of data: [^\n]+$") as caught:
        from_json(DAMAGE[damage](to_json(profile_of("a b", "c"))))
    assert type(caught.value) is ValueError


@pytest.mark.parametrize("wrong", WRONG)
def test_a_profile_that_cannot_be_is_one_error(wrong: str) -> None:
    values = json.loads(to_json(profile_of("a b", "c")))
    assert from_json(json.dumps(values)).tokens == 3
    with pytest.raises(ValueError, match=r"^not a profile of data: [^\n]+$") as caught:
        from_json(json.dumps(values | WRONG[wrong]))
    assert type(caught.value) is ValueError


def test_a_profile_without_a_key_is_one_error() -> None:
    values = json.loads(to_json(profile_of("a b", "c")))
    for key in values.keys() - {"format"}:
        with pytest.raises(ValueError, match=f"^not a profile of data: {key}: Field required$"):
            from_json(json.dumps({name: value for name, value in values.items() if name != key}))


@pytest.mark.parametrize(
    ("first", "second", "bits"),
    [
        ([1, 0], [0, 1], 1),
        ([1, 1], [5, 5], 0),
        ([1, 0], [1, 1], 1.5 - 0.75 * math.log2(3)),
        ([3, 1], [1, 3], 0.75 * math.log2(3) - 1),
        ({"a": 1}, {"b": 7}, 1),
        ({"a": 2, "b": 2}, {"b": 1, "a": 1}, 0),
        ({"a": 2}, {"a": 1, "b": 1}, 1.5 - 0.75 * math.log2(3)),
        ({"a": 3, "b": 1, "c": 0}, {"a": 1, "b": 3}, 0.75 * math.log2(3) - 1),
    ],
)
def test_divergence_has_known_values(first: list | dict, second: list | dict, bits: float) -> None:
    assert js_divergence(first, second) == pytest.approx(bits, abs=1e-15)


@settings(max_examples=100, deadline=None)
@given(COUNTS, COUNTS)
def test_divergence_of_arrays_is_symmetric_and_between_0_and_1(first: list[int], second: list[int]) -> None:
    bits = js_divergence(first, second)
    assert 0 <= bits <= 1
    assert js_divergence(np.array(second), np.array(first)) == bits
    assert (bits > 1e-12) == any(a * sum(second) != b * sum(first) for a, b in zip(first, second, strict=True))


@settings(max_examples=100, deadline=None)
@given(SPARSE, SPARSE)
def test_divergence_of_counts_by_key_is_that_of_their_arrays(first: dict[str, int], second: dict[str, int]) -> None:
    bits = js_divergence(first, second)
    assert js_divergence(second, first) == bits
    assert js_divergence(*([counts.get(key, 0) for key in "abcdef"] for counts in (first, second))) == pytest.approx(
        bits, abs=1e-12
    )
    assert (bits > 1 - 1e-12) == (not first.keys() & second.keys())


@pytest.mark.parametrize(("first", "second"), [([0, 0], [1, 1]), ([1], []), ([1, 2], [1, 2, 3]), ({}, {"a": 1})])
def test_what_has_no_distribution_has_no_divergence(first: list | dict, second: list | dict) -> None:
    with pytest.raises(ValueError, match="have no divergence"):
        js_divergence(first, second)


def test_rare_words_are_compared_as_one() -> None:
    first = replace(profile_of("x"), tokens=100, words={"a": 60, "b": 12, "c": 5})
    second = replace(profile_of("x"), tokens=1_000, words={"a": 600, "b": 60, "d": 400})
    now, then = comparable_shares(first, second)
    # Of the hundred words of the smaller, ten or more are expected of a (60), d (20) only: b has 9, c 2.5.
    assert now == pytest.approx({"a": 0.6, "d": 0, "": 0.4})
    assert then == pytest.approx({"a": 0.6, "d": 0.4, "": 0})
    assert comparable_shares(second, first) == (then, now)


def test_samples_of_one_source_hardly_diverge_although_small() -> None:
    large, small, other = draw(4_000, 1), draw(200, 2), draw(200, 3, words=300)
    plain = js_divergence(small.words, large.words)
    assert plain > 0.05
    assert js_divergence(*comparable_shares(small, large)) < 0.01
    assert js_divergence(*comparable_shares(other, large)) > 0.05


def test_data_without_words_have_no_vocabulary() -> None:
    with pytest.raises(ValueError, match="without a word"):
        comparable_shares(profile_of("..."), profile_of("a b"))


def test_out_of_vocabulary_rate_counts_occurrences() -> None:
    assert oov_rate({"a": 3, "b": 1}, {"a"}) == 0.25
    assert oov_rate({"a": 3, "b": 1}, {"a", "b", "c"}) == 0
    assert oov_rate({"a": 3}, {}) == 1
    assert oov_rate({}, {"a"}) == 0


def test_expected_rate_is_that_of_words_seen_once() -> None:
    profile = profile_of("a a a b b c d")
    assert expected_oov_rate(profile) == pytest.approx(2 / 7)
    assert expected_oov_rate(replace(profile, words={"a": 3, "b": 2})) == pytest.approx(4 / 7)
    assert expected_oov_rate(replace(profile, words={})) == 1
    assert expected_oov_rate(profile_of("a a b b")) == 0
    assert expected_oov_rate(profile_of("a b")) == 1
    assert expected_oov_rate(profile_of("...")) == 0


@pytest.mark.parametrize("rows", [100, 1_000, 10_000])
def test_expected_rate_is_what_fresh_data_have(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = draw(1_000, 5, words=20_000, length=10)
    # So few that the larger samples have words that are not kept.
    monkeypatch.setattr(data_profile, "MOST_WORDS", 2_000)
    known = draw(rows, 4, words=20_000, length=10)
    assert (sum(known.words.values()) < known.tokens) == (rows > 100)
    rate = oov_rate(fresh.words, known.words)
    assert rate > 0.2
    assert expected_oov_rate(known) == pytest.approx(rate, abs=0.02)


@pytest.mark.parametrize(
    ("lengths", "shown"),
    [([3, 3, 4], "3"), ([41] * 5 + [90] * 4, "40 to 47"), ([2_000], "1024 and more"), ([0, 0, 9], "0")],
)
def test_the_median_is_named_by_its_bin(lengths: list[int], shown: str) -> None:
    assert median_bin(make_profile({}, {}, lengths, {}).lengths) == shown
