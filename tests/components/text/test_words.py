"""Cleaning and tokenisation, against exact tokens."""

import json
import os
import subprocess
import sys

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.text.words import clean_keeping_case, tokenize


def tokens_of(text: str | bytes, max_tokens: int = 1000, cleaned: bool = True) -> list[str]:
    """Returns the tokens of one text."""
    (tokens,) = tokenize(tf.constant([text]), max_tokens, cleaned).to_list()
    return [token.decode() for token in tokens]


ENTITIES = {
    "apostrophe_without_ampersand": ("Iraq #39;s oil", ["iraq", "s", "oil"]),
    "apostrophe_with_ampersand": ("Iraq&#39;s oil", ["iraq", "s", "oil"]),
    "apostrophe_with_leading_zero": ("Iraq&#039;s oil", ["iraq", "s", "oil"]),
    "apostrophe_windows_1252": ("Iraq #146;s oil", ["iraq", "s", "oil"]),
    "apostrophe_by_name": ("Iraq&apos;s oil&rsquo;s", ["iraq", "s", "oil", "s"]),
    "apostrophe_behind_escaped_ampersand": ("Iraq&amp;#39;s oil", ["iraq", "s", "oil"]),
    "apostrophe_alone": (" #39;s", ["s"]),
    "apostrophe_of_plural": ("rights #39; groups", ["rights", "'", "groups"]),
    "quote_without_ampersand": (" quot;Hello quot; he said", ['"', "hello", '"', "he", "said"]),
    "quote_with_ampersand": ("&quot;Hello&quot; he said", ['"', "hello", '"', "he", "said"]),
    "quote_behind_escaped_ampersand": ("&amp;quot;Hi&amp;quot;", ['"', "hi", '"']),
    "quote_alone": (" quot;", ['"']),
    "tag": ("&lt;b&gt;x&lt;/b&gt;", ["x"]),
    "tag_upper_case": ("&LT;B&GT;x&LT;/B&GT;", ["x"]),
    "tag_parts_words": ("one&lt;br/&gt;two", ["one", "two"]),
    "tag_behind_escaped_ampersands": ("&amp;lt;b&amp;gt;x", ["x"]),
    "tag_with_attribute": ('a &lt;A HREF="http://x.org/y"&gt;link&lt;/A&gt; b', ["a", "link", "b"]),
    "tag_unescaped": ('<a href="u">link</a> here', ["link", "here"]),
    "ampersand": ("AT&amp;T", ["at", "&", "t"]),
    "ampersand_without_ampersand": ("AT amp;T", ["at", "&", "t"]),
    "ampersand_escaped_twice": ("&amp;amp;", ["&"]),
    "ampersand_plain": ("AT&T", ["at", "&", "t"]),
    "dollar": (" #36;5", ["5"]),
    "dash": ("he said #151; no", ["he", "said", "no"]),
    "hexadecimal": ("one&#x2014;two", ["one", "two"]),
    "space": ("one&nbsp;two nbsp;three", ["one", "two", "three"]),
    "name_unknown": ("&copy; 2004", ["2004"]),
    "no_entity_inside_a_word": ("camp; melt; site", ["camp", ";", "melt", ";", "site"]),
    "no_entity_of_one_letter": ("R&D; more", ["r", "&", "d", ";", "more"]),
}

WORDS = {
    "backslash_is_a_line_break": ("line one\\line two\\", ["line", "one", "line", "two"]),
    "backslash_of_a_path": (r"C:\temp \\host", ["c", ":", "temp", "host"]),
    "case": ("Wall ST. closes", ["wall", "st", ".", "closes"]),
    "case_outside_ascii": ("ÉCOLE ΑΘΗΝΑ Москва", ["école", "αθηνα", "москва"]),
    "digits": ("1999 3rd", ["1999", "3rd"]),
    "digits_with_punctuation": ("up 3.5% to 100,000", ["up", "3", ".", "5", "%", "to", "100", ",", "000"]),
    "punctuation": ("Wait... (what?!)", ["wait", ".", ".", ".", "(", "what", "?", "!", ")"]),
    "hyphen": ("U.S.-led", ["u", ".", "s", ".", "-", "led"]),
    "underscore": ("a_b", ["a", "_", "b"]),
    "dollar": ("$5bn", ["$", "5bn"]),
    "clitics": (
        "It's we're I'll don't he'd I'm they've",
        ["it", "s", "we", "re", "i", "ll", "don", "t", "he", "d", "i", "m", "they", "ve"],
    ),
    "clitic_upper_case": ("IT'S", ["it", "s"]),
    "apostrophe_is_not_a_clitic": (
        "O'Brien the dogs' 'so' y'all",
        ["o", "'", "brien", "the", "dogs", "'", "'", "so", "'", "y", "'", "all"],
    ),
    "curly_single_quotes": ("\u2018quoted\u2019 it\u2019s", ["'", "quoted", "'", "it", "s"]),
    "curly_double_quotes": ("\u201cdouble\u201d", ["\u201c", "double", "\u201d"]),
    "comparison_keeps_its_words": ("a < b > c", ["a", "<", "b", ">", "c"]),
    "less_than_keeps_its_words": ("1 < 2, x<y", ["1", "<", "2", ",", "x", "<", "y"]),
    "emoji": ("win \U0001f389 big\U0001f600", ["win", "\U0001f389", "big", "\U0001f600"]),
    "emoji_joined": ("\U0001f468\u200d\U0001f469 x", ["\U0001f468", "\U0001f469", "x"]),
    "chinese": ("北京 wins2", ["北", "京", "wins2"]),
    "japanese": ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
    "thai": ("ไทย", ["ไ", "ท", "ย"]),
    "korean": ("서울 시장", ["서울", "시장"]),
    "hebrew": ("שלום עולם", ["שלום", "עולם"]),
    "arabic": ("مرحبا، بالعالم", ["مرحبا", "،", "بالعالم"]),
    "arabic_with_vowel_marks": ("مُحَمَّد", ["مُحَمَّد"]),
    "direction_marks": ("\u202b\u05e9\u05dc\u202c", ["\u05e9\u05dc"]),
    "combining_accent": ("cafe\u0301 noir", ["cafe\u0301", "noir"]),
    "zero_width": ("zero\u200bwidth \ufeffjoin\u200d\u2060ed soft\u00adhyphen", ["zerowidth", "joined", "softhyphen"]),
    "white_space": ("tab\tnew\r\nline\u00a0hard\u3000wide\u2028sep", ["tab", "new", "line", "hard", "wide", "sep"]),
    "control_characters": ("\x00nul\x01bell\x07", ["nul", "bell"]),
    "empty": ("", []),
    "blank": (" \t\u200b\u3000 ", []),
}


@pytest.mark.parametrize(("text", "tokens"), ENTITIES.values(), ids=ENTITIES)
def test_entity_debris_is_resolved(text: str, tokens: list[str]) -> None:
    assert tokens_of(text) == tokens


@pytest.mark.parametrize(("text", "tokens"), WORDS.values(), ids=WORDS)
def test_text_is_split_into_words_and_marks(text: str, tokens: list[str]) -> None:
    assert tokens_of(text) == tokens


DEBRIS = {
    "apostrophe_without_ampersand": ("Iraq #39;s oil", ["iraq", "#", "39", ";", "s", "oil"]),
    "quote_without_ampersand": (" quot;Hi", ["quot", ";", "hi"]),
    "tag": ("&lt;b&gt;x", ["&", "lt", ";", "b", "&", "gt", ";", "x"]),
    "tag_unescaped": ("<b>x", ["<", "b", ">", "x"]),
}


@pytest.mark.parametrize(("text", "tokens"), DEBRIS.values(), ids=DEBRIS)
def test_debris_falls_into_words_and_marks_where_text_is_not_cleaned(text: str, tokens: list[str]) -> None:
    assert tokens_of(text, cleaned=False) == tokens


@pytest.mark.parametrize(("text", "tokens"), WORDS.values(), ids=WORDS)
def test_cleaned_or_not_the_rest_is_split_alike(text: str, tokens: list[str]) -> None:
    assert tokens_of(text, cleaned=False) == tokens


@pytest.mark.parametrize("text", [b"bad \xff\xfe bytes \xc3", b"\x80", b"caf\xc3\xa9 \xed\xa0\x80 x"])
def test_invalid_utf8_becomes_valid_and_keeps_the_words_around_it(text: bytes) -> None:
    expected = text.decode("utf-8", errors="ignore").split()
    assert [token for token in tokens_of(text) if "\ufffd" not in token] == expected


@pytest.mark.parametrize(
    ("text", "count"),
    [("profit up, " * 9091, 9091 * 3), ("a" * 100_000, 1), ("<a" * 50_000, 100_000), ("京" * 100_000, 100_000)],
    ids=["words", "one_word", "unclosed_tags", "chinese"],
)
def test_a_hundred_thousand_characters_are_tokenised_in_full(text: str, count: int) -> None:
    assert len(text) >= 100_000
    assert len(tokens_of(text, max_tokens=200_000)) == count


def test_only_the_first_max_tokens_are_kept() -> None:
    text = "One two, three it's"
    assert tokens_of(text, 7) == ["one", "two", ",", "three", "it", "s"]
    assert tokens_of(text, 6) == ["one", "two", ",", "three", "it", "s"]
    assert tokens_of(text, 5) == ["one", "two", ",", "three", "it"]
    assert tokens_of(text, 1) == ["one"]


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    texts = ["Iraq #39;s oil", "", "&lt;b", "b&gt; x", "北京"]
    batch = tokenize(tf.constant(texts), 10)
    assert batch.shape.as_list() == [5, None]
    assert [[token.decode() for token in row] for row in batch.to_list()] == [tokens_of(text) for text in texts]


def test_an_empty_batch_has_no_rows() -> None:
    assert tokenize(tf.constant([], tf.string), 10).to_list() == []


def test_clean_keeps_the_shape_and_strips() -> None:
    texts = tf.constant([["  A\\B "], ["&lt;p&gt; C #39;s  D &lt;/p&gt;"]])
    assert clean_keeping_case(texts).numpy().tolist() == [[b"A B"], [b"C's D"]]
    assert clean_keeping_case(tf.constant(" X ")).numpy() == b"X"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_tokens_of_any_text_are_lower_case_and_hold_no_white_space(text: str) -> None:
    tokens = tokens_of(text)
    assert all(token and token.split() == [token] for token in tokens)
    assert not any("A" <= char <= "Z" or char == "\\" for token in tokens for char in token)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("abcdefgh", min_size=1, max_size=6), max_size=8))
def test_plain_words_survive_unchanged(words: list[str]) -> None:
    assert tokens_of(" ".join(words)) == words


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_give_tokens_in_valid_utf8(text: bytes) -> None:
    assert all(tokens_of(text))


# Prints the texts that TensorFlow lower-cases in the locale's own way, and those that we do not fold as Python does.
FOLDED_ELSEWHERE = """
import json, sys, unicodedata
import tensorflow as tf
from components.text.words import fold_case

known = (char for char in map(chr, range(sys.maxunicode)) if unicodedata.ucd_3_2_0.category(char) != "Cn")
cased = [char for char in known if char.lower() != char]
texts = [text for char in cased for text in (char, f"{char}\\u0300", f"{char}\\u0307", f"ab{char}", f"{char} a")]
def wrong(lowered):
    return [text for text, low in zip(texts, lowered.numpy(), strict=True) if low.decode() != text.lower()]
print(json.dumps([wrong(tf.strings.lower(texts, encoding="utf-8")), wrong(fold_case(tf.constant(texts)))]))
"""


@pytest.mark.stack
@pytest.mark.parametrize(
    ("variable", "locale", "lowered_otherwise"),
    [("LC_ALL", "C.UTF-8", ""), ("LANG", "tr_TR.UTF-8", "I\u0130"), ("LC_ALL", "lt", "\u00cc\u00cd\u0128")],
)
def test_case_is_folded_alike_in_every_locale(variable: str, locale: str, lowered_otherwise: str) -> None:
    others = {name: value for name, value in os.environ.items() if name != "LANG" and not name.startswith("LC_")}
    command = [sys.executable, "-W", "ignore", "-c", FOLDED_ELSEWHERE]
    done = subprocess.run(command, env=others | {variable: locale}, capture_output=True, text=True, check=True)
    wrong_by_icu, wrong = json.loads(done.stdout)
    assert [text for text in wrong_by_icu if len(text) == 1] == list(lowered_otherwise)
    assert wrong == []
