"""Token ids are those of the ``tokenizers`` library, eagerly, inside tf.data, through Transform and from its graph."""

import csv
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from components.errors import BadInputError
from components.text.vocabulary import CLS, PAD, SEP, UNK, check_casing, read_vocabulary
from components.text.wordpiece import WordPiece, normalize, split_words

SAMPLE = Path(__file__).parents[3] / "components" / "example_gen" / "sample"
SPECIAL = [PAD, UNK, CLS, SEP, "[MASK]"]
TINY = (*SPECIAL, "un", "##believ", "##able", "oil", "##s", ",", "'", "s", "bank")
ANY_LENGTH = 10_000

ODD = {
    "accents": "Café naïve Ångström ÉCOLE señor",
    "accents_apart": "Cafe\u0301 nai\u0308ve A\u030angstro\u0308m o\u0302\u0323",
    "turkish": "İstanbul Iğd\u0131r ISPARTA \u0131",
    "final_sigma": "ΟΔΟΣ ΣΑΣ Σ ΑΘΗΝΑΣ. οδός",
    "sharp_s": "Straße STRASSE ẞ",
    "ligatures_and_compatibility": "ﬁnance ½ ² ™ … № Ⅷ ㎏ \uff11\uff12 \uff21",
    "cyrillic": "Москва Ёлка йод Київ",
    "hebrew_with_points": "שָׁלוֹם עולם",
    "arabic_with_vowel_marks": "مُحَمَّد، بالعالم",
    "devanagari": "हिन्दी समाचार।",
    "hangul_composed": "서울 시장",
    "hangul_apart": "\u1109\u1165\u110b\u116e\u11af",
    "ideographs": "北京wins 東京タワー 㐀 \U00020000 豈 \U0002f800",
    "ideographs_left_out_by_the_reference": "a\U0002b820b c\U0002b920d",
    "thai": "ไทย ข่าว",
    "emoji": "win🎉 👨\u200d👩\u200d👧 👍🏽 🇩🇪 ❤\ufe0f",
    "zero_width": "zero\u200bwidth \ufeffjoin\u200d\u2060ed soft\u00adhyphen \u202bab\u202c",
    "white_space": "tab\tnew\r\nline\u00a0hard\u3000wide\u2028sep\u2029par\u1680\u202f",
    "control_characters": "a\x00b\x01c\x07d\x0be\x0cf\x1cg\x7fh\x85i",
    "private_use": "a\ue000b \uf8ff \U000f0000c",
    "replacement_character": "a\ufffdb \ufffd",
    "noncharacters": "a\ufffeb\uffffc\U0010ffffd",
    "punctuation": "Wait... (what?!) U.S.-led $5bn a_b ~`^|<>+= “q” \u2018r\u2019 \u2013 — • · ¿¡ «»",
    "symbols": "€5 ©2004 ®x °C → ∞ ☃ ¬",
    "hundred_characters": "x" * 100 + " " + "x" * 101,
    "hundred_characters_of_two_bytes": "é" * 100 + " " + "é" * 101 + " " + "э" * 100 + " " + "э" * 101,
    "hundred_characters_of_four_bytes": "\U00010400" * 100 + " " + "\U00010400" * 101,
    "hundred_characters_without_accents": "e\u0301" * 100 + " " + "e\u0301" * 101,
    "special_tokens": "[MASK] a [SEP] [CLS][PAD] [unused1] ##s [UNK]",
    "empty": "",
    "blank": " \t\u200b\u3000 ",
    "one_mark": "!",
}
RECLASSIFIED = "\u166d\u1734\u1885\u1886"
"""Assigned by Unicode 3.2, but moved to another class after version 8."""


def texts_of_sample() -> list[str]:
    """Returns the text of every row of the bundled sample."""
    texts = []
    for name in ("train.csv", "test.csv"):
        with (SAMPLE / name).open(encoding="utf-8", newline="") as file:
            texts += [f"{title} {description}" for _, title, description in csv.reader(file)]
    return texts


def oracle(pieces: tuple[str, ...], lower_case: bool, max_tokens: int = ANY_LENGTH) -> Callable[[str], list[int]]:
    """Returns the reference tokeniser of a vocabulary."""
    ids = {piece: number for number, piece in enumerate(pieces)}
    reference = Tokenizer(models.WordPiece(ids, unk_token=UNK, max_input_chars_per_word=100))
    reference.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
    reference.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    reference.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}", special_tokens=[(CLS, ids[CLS]), (SEP, ids[SEP])]
    )
    reference.enable_truncation(max_tokens)
    return lambda text: reference.encode(text).ids


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def vocabulary(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[str, ...], bool]:
    """Pieces trained on the sample and the odd texts, and whether text is lower-cased."""
    reference = Tokenizer(models.WordPiece(unk_token=UNK))
    reference.normalizer = normalizers.BertNormalizer(lowercase=request.param)
    reference.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=2500, special_tokens=SPECIAL, show_progress=False)
    reference.train_from_iterator([*texts_of_sample(), *ODD.values()], trainer)
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    ids = reference.get_vocab()
    path.write_text("".join(f"{piece}\n" for piece in sorted(ids, key=ids.__getitem__)), encoding="utf-8")
    pieces = read_vocabulary(path)
    check_casing(pieces, request.param, path)
    return pieces, request.param


@pytest.fixture(scope="module")
def ours(vocabulary: tuple[tuple[str, ...], bool]) -> WordPiece:
    """The tokeniser under test, without truncation."""
    return WordPiece(*vocabulary, max_tokens=ANY_LENGTH)


@pytest.fixture(scope="module")
def reference(vocabulary: tuple[tuple[str, ...], bool]) -> Callable[[str], list[int]]:
    """The oracle for ``ours``."""
    return oracle(*vocabulary)


def ids_of(tokenizer: WordPiece, *texts: str | bytes) -> list[list[int]]:
    """Returns the ids of texts, tokenised in one batch."""
    return tokenizer(tf.constant(texts, tf.string)).to_list()


TEXTS = ("Unbelievable, bank's oils", "", "oil bank?", "unbelievabl OIL")
IDS = [[2, 5, 6, 7, 10, 13, 11, 12, 8, 9, 3], [2, 3], [2, 8, 13, 1, 3], [2, 1, 8, 3]]


def test_ids_are_these() -> None:
    ids = WordPiece(TINY, True, ANY_LENGTH)(tf.constant(TEXTS))
    assert ids.dtype == tf.int64
    assert ids.shape.as_list() == [4, None]
    assert ids.to_list() == IDS


def test_ids_are_the_same_inside_a_dataset() -> None:
    tokenizer = WordPiece(TINY, True, ANY_LENGTH)
    batches = tf.data.Dataset.from_tensor_slices(list(TEXTS)).batch(3).map(lambda texts: tokenizer(texts))
    assert [row for batch in batches for row in batch.to_list()] == IDS


def test_an_empty_batch_has_no_rows() -> None:
    assert ids_of(WordPiece(TINY, True, 8)) == []


def test_every_row_of_the_sample_has_the_ids_of_the_reference(
    vocabulary: tuple[tuple[str, ...], bool], ours: WordPiece, reference: Callable[[str], list[int]]
) -> None:
    texts = texts_of_sample()
    assert len(texts) == 800
    expected = [reference(text) for text in texts]
    assert sum(row.count(vocabulary[0].index(UNK)) for row in expected) < len(texts)
    assert ids_of(ours, *texts) == expected


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_texts_have_the_ids_of_the_reference(
    ours: WordPiece, reference: Callable[[str], list[int]], text: str
) -> None:
    assert ids_of(ours, text) == [reference(text)]


@pytest.mark.parametrize("max_tokens", range(2, 14))
def test_truncation_keeps_the_first_pieces_and_the_end(max_tokens: int) -> None:
    expected = [[*row[: min(max_tokens, len(row)) - 1], 3] for row in IDS]
    assert ids_of(WordPiece(TINY, True, max_tokens), *TEXTS) == expected
    assert [oracle(TINY, True, max_tokens)(text) for text in TEXTS] == expected


def test_long_texts_are_truncated_as_the_reference_does(vocabulary: tuple[tuple[str, ...], bool]) -> None:
    texts = texts_of_sample()[:100]
    for max_tokens in (2, 3, 32, 64):
        tokenizer, expected = WordPiece(*vocabulary, max_tokens), oracle(*vocabulary, max_tokens)
        assert ids_of(tokenizer, *texts) == [expected(text) for text in texts]


@pytest.mark.parametrize("max_tokens", [1, 0, -1])
def test_no_room_for_the_two_that_every_row_has_is_refused(max_tokens: int) -> None:
    with pytest.raises(BadInputError, match=rf"max_tokens is {max_tokens}, but .* set it to 2 or more"):
        WordPiece(TINY, True, max_tokens)


def test_special_tokens_in_a_text_are_words(vocabulary: tuple[tuple[str, ...], bool], ours: WordPiece) -> None:
    special = {vocabulary[0].index(piece) for piece in SPECIAL}
    (row,) = ids_of(ours, "[SEP] [CLS] [PAD] [MASK]")
    assert special.isdisjoint(row[1:-1])


def test_a_hundred_thousand_characters_are_tokenised(ours: WordPiece, reference: Callable[[str], list[int]]) -> None:
    texts = ["profit up, " * 9091, "a" * 100_000, "北" * 9_000, "e" + "\u0301" * 100_000]
    assert ids_of(ours, *texts) == [reference(text) for text in texts]


# Of the two planes of private use a few are enough; the surrogates are not characters.
CODES = [*range(0xD800), *range(0xE000, 0x40000), *range(0x40000, sys.maxunicode + 1, 997)]
KNOWN = [
    char
    for char in map(chr, CODES)
    if unicodedata.ucd_3_2_0.category(char) not in ("Cn", "Co") and char not in RECLASSIFIED
]
WORDS = sorted({word for text in (*texts_of_sample()[:50], *ODD.values()) for word in text.split()})
CHARACTERS = st.one_of(*map(st.sampled_from, (sorted(set("".join(ODD.values()))), KNOWN, " aS")))
ANY_TEXT = st.lists(st.one_of(st.sampled_from(WORDS), st.text(CHARACTERS, max_size=12)), max_size=8).flatmap(
    lambda words: st.sampled_from([" ", "", "\n", "\u00a0"]).map(lambda separator: separator.join(words))
)


@settings(max_examples=100, deadline=None)
@given(st.lists(ANY_TEXT, max_size=8))
def test_any_text_has_the_ids_of_the_reference(
    ours: WordPiece, reference: Callable[[str], list[int]], texts: list[str]
) -> None:
    assert ids_of(ours, *texts) == [reference(text) for text in texts]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), ANY_TEXT.map(lambda text: text.encode()[1:-1])), max_size=8))
def test_bytes_that_are_not_utf8_are_dropped(
    ours: WordPiece, reference: Callable[[str], list[int]], texts: list[bytes]
) -> None:
    expected = [reference(text.decode(errors="ignore")) for text in texts]
    assert ids_of(ours, *texts) == expected


@pytest.mark.parametrize("lower_case", [True, False])
@pytest.mark.parametrize("strip_accents", [None, True, False])
@pytest.mark.parametrize("ideographs", [True, False])
def test_every_setting_normalises_as_the_reference_does(
    lower_case: bool, strip_accents: bool | None, ideographs: bool
) -> None:
    texts = [*ODD.values(), *KNOWN[::5]]
    ours = split_words(normalize(tf.constant(texts), lower_case, strip_accents, ideographs)).to_list()
    normalizer = normalizers.BertNormalizer(
        lowercase=lower_case, strip_accents=strip_accents, handle_chinese_chars=ideographs
    )
    splitter = pre_tokenizers.BertPreTokenizer()
    for text, words in zip(texts, ours, strict=True):
        expected = [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]
        assert [word.decode() for word in words] == expected


def test_characters_apart_from_new_ones_are_normalised_as_the_reference_does(
    vocabulary: tuple[tuple[str, ...], bool],
) -> None:
    lower_case = vocabulary[1]
    texts = [f"a{chr(code)}b" for code in CODES]
    words = split_words(normalize(tf.constant(texts), lower_case)).to_list()
    normalizer, splitter = normalizers.BertNormalizer(lowercase=lower_case), pre_tokenizers.BertPreTokenizer()
    expected = ([word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))] for text in texts)
    different = {
        text[1] for text, row, want in zip(texts, words, expected, strict=True) if [w.decode() for w in row] != want
    }
    assert len(different) < 1000
    assert different.isdisjoint(KNOWN)
