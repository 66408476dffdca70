"""Words of any script: as counts, the baseline and the length slices see them."""

import pytest
import tensorflow as tf

from components import features
from components.evaluation.linear import fit_linear
from components.gates.data.profile import count_words
from components.text.scripts import cut_words, length_bucket
from components.text.words import tokenize

WORDS = {
    "case": ("Wall ST. closes", ["wall", "st", "closes"]),
    "underscore": ("a_b c", ["a_b", "c"]),
    "accents": ("École ΑΘΗΝΑ Москва", ["école", "αθηνα", "москва"]),
    "combining accent": ("cafe\u0301 noir", ["cafe\u0301", "noir"]),
    "hindi": ("यह कितनी दूर है?", ["यह", "कितनी", "दूर", "है"]),
    "arabic with vowel marks": ("مُحَمَّد هنا", ["مُحَمَّد", "هنا"]),
    "chinese": ("北京 wins2", ["北", "京", "wins2"]),
    "japanese": ("タワー", ["タ", "ワ", "ー"]),
    "korean": ("서울 시장", ["서울", "시장"]),
    "thai, a mark with its letter": ("ที่นี่", ["ที่", "นี่"]),
    "lao": ("ລາວ", ["ລ", "າ", "ວ"]),
    "khmer, a mark with its letter": ("ខ្មែ", ["ខ្", "មែ"]),
    "burmese, a mark with its letter": ("မြန်", ["မြ", "န်"]),
    "nothing": ("... !", []),
}


@pytest.mark.parametrize(("text", "words"), WORDS.values(), ids=WORDS)
def test_words_of_a_script(text: str, words: list[str]) -> None:
    assert [word for word in cut_words([text])[0].as_py() if word] == words
    lengths, counts = count_words([text.encode()])
    assert lengths == [len(words)]
    assert counts == {word: words.count(word) for word in words}


@pytest.mark.parametrize("name", [name for name in WORDS if name != "underscore"])
def test_a_graph_cuts_words_as_they_are_counted(name: str) -> None:
    (tokens,) = tokenize(tf.constant([WORDS[name][0]]), 100).to_list()
    assert [token.decode() for token in tokens if token.decode() not in ".?!"] == WORDS[name][1]


def test_texts_without_words_and_no_texts_are_counted() -> None:
    assert count_words([]) == ([], {})
    assert count_words([b"", b"a \xff b", b"..."]) == ([0, 2, 0], {"a": 1, "b": 1})


@pytest.mark.parametrize(
    ("words", "bucket"), [(0, "short"), (29, "short"), (30, "medium"), (49, "medium"), (50, "long")]
)
@pytest.mark.parametrize("word", ["word ", "日", "\\wort "])
def test_a_length_is_counted_in_words(word: str, words: int, bucket: str) -> None:
    assert length_bucket(word * words) == bucket


def test_any_run_of_white_space_is_one_separator() -> None:
    assert length_bucket("a\t b\n\n" * 14 + " c \u00a0 ") == "short"
    assert length_bucket("a\t b\n\n" * 14 + " c \u00a0 d") == "medium"
    assert length_bucket("a\\b\\\\" * 14 + " c \\d\\") == "medium"


def test_every_length_is_in_one_of_the_slices() -> None:
    assert {length_bucket("a " * words) for words in range(100)} == set(features.LENGTH_BUCKETS)


def test_the_baseline_learns_a_script_without_spaces() -> None:
    texts = ["球队赢了比赛", "这支球队输了", "股票市场上涨", "今天股票下跌"]
    fitted = fit_linear(texts, tf.constant([0, 0, 1, 1]).numpy())
    # 球, 队, 赢... those that occur twice, and the pairs 球队 and 股票.
    assert fitted.features >= 6
    assert fitted.predict(["球队", "股票"]).tolist() == [0, 1]
