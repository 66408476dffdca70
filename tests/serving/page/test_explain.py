"""What a word weighs, and the test figures of a card."""

import math
from pathlib import Path

import numpy as np
import pytest
import run_facts
from page_world import CARD, EVIDENCE, WORD_LIMIT, WordModel

from components.errors import BadInputError
from components.file_names import CARD_FILE
from components.report.model_card import render_model_card
from serving.errors import Code, RequestError
from serving.page.explain import explain, find_words, log_odds
from serving.page.figures import read_figures

SPORTS = 1


@pytest.fixture
def model(tmp_path: Path) -> WordModel:
    return WordModel(tmp_path)


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in find_words(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Striker scores", ["Striker", "scores"]),
        ("  Rates rise,\n\tagain!  ", ["Rates", "rise", "again"]),
        ("«Tor»「得点」¿Qué?", ["Tor»「得点」¿Qué"]),
        ('"Late" goal (twice) wins it...', ["Late", "goal", "twice", "wins", "it"]),
        ("rock-solid U.S. banks' 5% rate-cut", ["rock-solid", "U.S", "banks", "5", "rate-cut"]),
        ("goal - and … goal", ["goal", "and", "goal"]),
        ("東京 株価 🚀 rises", ["東京", "株価", "🚀", "rises"]),
        ("<b>goal</b>", ["<b>goal</b>"]),
        ("", []),
        (" .,; - ", []),
    ],
)
def test_words_stand_between_white_space_without_their_punctuation(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_a_word_weighs_what_the_log_odds_lose_without_it(model: WordModel) -> None:
    text = "Striker scores late goal, treaty or not"
    found = {word.text: word.weight for word in explain(model, text, SPORTS, WORD_LIMIT)}
    assert list(found) == ["Striker", "scores", "late", "goal", "treaty", "or", "not"]

    def odds(*known: str) -> float:
        sums = np.zeros(4)
        for word in known:
            label_id, weight = EVIDENCE[word]
            sums[label_id] += weight
        return sums[SPORTS] - math.log(sum(math.exp(value) for value in np.delete(sums, SPORTS)))

    whole = odds("striker", "goal", "treaty")
    assert found["Striker"] == pytest.approx(whole - odds("goal", "treaty"), abs=1e-5)
    assert found["goal"] == pytest.approx(whole - odds("striker", "treaty"), abs=1e-5)
    assert found["treaty"] == pytest.approx(whole - odds("striker", "goal"), abs=1e-5)
    assert found["Striker"] > found["goal"] > 0 > found["treaty"]
    assert found["scores"] == pytest.approx(0, abs=1e-6)


def test_another_class_is_explained_on_request(model: WordModel) -> None:
    found = {word.text: word.weight for word in explain(model, "striker treaty", label_id=0, most_words=WORD_LIMIT)}
    assert found["striker"] < 0 < found["treaty"]


def test_every_occurrence_is_left_out_by_itself(model: WordModel) -> None:
    text = "goal, goal"
    found = explain(model, text, SPORTS, WORD_LIMIT)
    assert [(word.start, word.end) for word in found] == [(0, 4), (6, 10)]
    assert model.asked == [[b"goal, goal", b", goal", b"goal, "]]


def test_positions_count_code_points(model: WordModel) -> None:
    text = "🚀🚀 goal 👩‍🚀 goal"
    for word in explain(model, text, SPORTS, WORD_LIMIT):
        assert text[word.start : word.end] == word.text
    assert explain(model, text, SPORTS, WORD_LIMIT)[-1].start == 12


def test_a_long_text_is_bounded(model: WordModel) -> None:
    text = " ".join(["word"] * (WORD_LIMIT + 5))
    assert len(explain(model, text, SPORTS, WORD_LIMIT)) == WORD_LIMIT
    assert sum(len(batch) for batch in model.asked) == WORD_LIMIT + 1


def test_a_word_weighs_the_same_whichever_pass_it_is_in(model: WordModel) -> None:
    found = explain(model, "goal " + "word " * 38 + "goal", SPORTS, WORD_LIMIT)
    assert [len(batch) for batch in model.asked] == [16, 16, 9]
    assert [word.start for word in found] == list(range(0, 200, 5))
    assert found[0].weight == pytest.approx(found[-1].weight)
    assert found[0].weight > 1
    assert [word.weight for word in found[1:-1]] == [pytest.approx(0, abs=1e-6)] * 38


def test_what_nobody_waits_for_ends_before_the_next_pass(model: WordModel) -> None:
    def check() -> None:
        if len(model.asked) == 2:
            raise RequestError(Code.DEADLINE_EXCEEDED, "late")

    with pytest.raises(RequestError, match="late"):
        explain(model, "goal " * 40, SPORTS, WORD_LIMIT, check)
    assert len(model.asked) == 2


def test_a_text_without_words_asks_nothing(model: WordModel) -> None:
    assert explain(model, " ... ", SPORTS, WORD_LIMIT) == []
    assert model.asked == []


def test_a_sure_answer_has_finite_log_odds() -> None:
    assert log_odds(np.array([0.25, 0.75], np.float32), 1) == pytest.approx(math.log(3))
    # float32 rounds the first to 1, and yet the rest tells how sure it is.
    sure = np.array([1.0, 1e-9, 1e-9], np.float32)
    assert log_odds(sure, 0) == pytest.approx(-math.log(2e-9))
    assert log_odds(sure, 1) == pytest.approx(math.log(1e-9), abs=1e-6)
    for row in ([1.0, 0.0], [0.0, 1.0], [1.0]):
        assert math.isfinite(log_odds(np.array(row, np.float32), 0))


def test_figures_are_read_from_the_front_matter(tmp_path: Path) -> None:
    (tmp_path / "MODEL_CARD.md").write_text(CARD, encoding="utf-8")
    figures = read_figures(tmp_path)
    assert (figures.dataset.name, figures.dataset.split) == ("newsdesk's bundled sample", "test")
    assert [(metric.type, metric.value) for metric in figures.metrics] == [
        ("accuracy", 0.921316),
        ("f1", 0.921154),
        ("log_loss", 0.236324),
        ("expected_calibration_error", 0.018929),
    ]
    assert figures.metrics[1].name == "Macro-F1"


def test_figures_are_those_that_the_card_of_a_push_has(tmp_path: Path) -> None:
    facts = run_facts.make_facts(400)
    assert facts.evaluation is not None
    (tmp_path / CARD_FILE).write_text(render_model_card(facts), encoding="utf-8")
    measured = {item.name: item.value.value for item in facts.evaluation.headlines}
    found = {metric.type: metric.value for metric in read_figures(tmp_path).metrics}
    assert found["accuracy"] == pytest.approx(measured["accuracy"], abs=1e-6)
    assert len(found) == 4


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (None, "has no MODEL_CARD.md"),
        ("# ag_news\n", "does not say how good"),
        ("text\n" + CARD, "does not say how good"),
        (CARD.replace("\n---\n", "\n"), "does not say how good"),
        ("---\nlicense: mit\n---\n", "does not say how good"),
        ("---\nmodel-index: []\n---\n", "does not say how good"),
        (CARD.replace("0.921316", ".nan"), "does not say how good"),
        (CARD.replace("0.921316", "high"), "does not say how good"),
        (CARD.replace("license: apache-2.0", "license: [apache"), "does not say how good"),
        (CARD.replace("apache-2.0", "!!python/object/apply:os.getpid []"), "does not say how good"),
        ("---\n" + "[" * 600 + "\n---\n", "does not say how good"),
    ],
)
def test_a_card_without_figures_is_told(tmp_path: Path, card: str | None, said: str) -> None:
    directory = tmp_path / "7"
    directory.mkdir()
    if card is not None:
        (directory / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    with pytest.raises(BadInputError, match=said) as raised:
        read_figures(directory)
    assert "version 7" in str(raised.value)
