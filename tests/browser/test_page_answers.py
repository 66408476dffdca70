"""The page for people in headless Chromium: what is asked, answered, shown and kept."""

import json
from collections.abc import Callable

import pytest
from page_tab import HEADLINE, HOSTILE, Page
from page_world import CARD, WORD_LIMIT

from serving.errors import Code, RequestError

pytestmark = pytest.mark.browser


def test_the_page_is_silent_and_asks_its_own_server_only(page: Page) -> None:
    page.ask(HEADLINE)
    assert page.tab.complaints == []
    assert page.tab.requests
    assert all(url.startswith(page.url) for url in page.tab.requests)
    assert page.tab.run("getComputedStyle(document.querySelector('.card')).borderRadius") == "14px", "no style sheet"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("document.body.append(Object.assign(document.createElement('script'), {textContent: 'x'}))", "TrustedScript"),
        ("document.getElementById('text').innerHTML = '<b>x</b>'", "TrustedHTML"),
        (
            "document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.1:9/x'}))",
            "img-src",
        ),
        ("document.body.setAttribute('style', 'color: red')", "style"),
    ],
)
def test_what_the_page_never_does_is_stopped_by_its_policy(page: Page, script: str, said: str) -> None:
    page.tab.run(f"try {{ {script} }} catch (error) {{ console.error(String(error)) }}")
    page.tab.run("new Promise(done => setTimeout(done, 100))")
    assert any(said in complaint for complaint in page.tab.complaints), page.tab.complaints


def test_a_headline_gets_its_class_every_probability_and_the_words_that_mattered(page: Page) -> None:
    page.ask(HEADLINE)
    assert page.text("#label") == "Sports"
    names, shares = page.all("#classes .name"), page.all("#classes .n")
    assert sorted(names) == ["Business", "Sci/Tech", "Sports", "World"]
    assert names[:2] == ["Sports", "World"]
    assert page.text("#sure") == shares[0]
    assert sum(float(share.removesuffix(" %")) for share in shares) == pytest.approx(100, abs=0.3)
    assert page.text("#text") == HEADLINE
    assert page.all("#text mark.for") == ["Striker", "goal"]
    assert page.all("#text mark.against") == ["border", "treaty"]
    strengths = page.tab.run(
        "[...document.querySelectorAll('#text mark')].map(i => +i.style.getPropertyValue('--share'))"
    )
    assert strengths[0] == max(strengths) == 1
    page.tab.run("document.getElementById('weights').open = true")
    rows = page.all("#weight-rows tr")
    assert len(rows) == 10
    assert rows[0].split() == ["Striker", "+3.00"]
    assert any("\u2212" in row and "treaty" in row for row in rows)
    assert page.text("#who") == "ag_news, version 1, champion"
    assert page.all("#figures dt")[0] == "Accuracy"
    assert page.all("#figures dd") == ["92.1 %", "0.921", "0.236", "1.9 %"]
    assert "newsdesk's bundled sample" in page.text("#figures-note")


def test_bars_are_as_long_as_their_probability(page: Page) -> None:
    page.ask(HEADLINE)
    page.until("!document.getAnimations().some(item => item.playState === 'running')")
    widths = page.tab.run(
        "[...document.querySelectorAll('#classes .bar')].map(i => parseFloat(getComputedStyle(i, '::before').width)"
        " / i.clientWidth)"
    )
    shares = [float(share.removesuffix(" %")) / 100 for share in page.all("#classes .n")]
    assert widths[:2] == pytest.approx(shares[:2], abs=0.01)


def test_a_rounded_probability_is_not_called_certain(page: Page) -> None:
    page.ask("goal " * 20)
    assert page.text("#sure") == "> 99.9 %"
    assert page.all("#classes .n")[1:] == ["< 0.1 %"] * 3


def test_words_are_marked_where_they_stand_beside_astral_characters(page: Page) -> None:
    page.ask("\U0001f680\U0001f680 goal \U0001f3c6 striker")
    assert page.all("#text mark") == ["goal", "striker"]


def test_no_mark_and_no_legend_where_nothing_matters(page: Page) -> None:
    page.ask("Nothing here is known")
    assert page.all("#text mark") == []
    assert page.text("#words-note").startswith("No single word matters")
    assert not page.shown("key-for")
    assert not page.shown("key-against")


def test_a_long_text_says_how_much_of_it_was_weighed(page: Page) -> None:
    page.ask("goal " + "word " * 70)
    assert f"The first {WORD_LIMIT} of 71 words were weighed." in page.text("#words-note")


def test_a_server_that_does_not_weigh_words_says_so(make_page: Callable[..., Page]) -> None:
    page = make_page("champion", most_words=0)
    page.open()
    page.ask(HEADLINE)
    assert page.text("#label") == "Sports"
    assert page.shown("words-off")
    assert not page.shown("words-part")


def test_text_stays_text_wherever_it_is_shown(make_page: Callable[..., Page]) -> None:
    page = make_page("champion", card=CARD.replace("newsdesk's bundled sample", json.dumps(HOSTILE)))
    page.open()
    for _ in range(2):
        page.ask(HOSTILE)
    assert page.text("#text") == HOSTILE
    assert page.text(".title").startswith("<script>")
    assert HOSTILE in page.text("#figures-note")
    page.repository.refusal = RequestError(Code.INVALID_ARGUMENT, HOSTILE)
    page.ask("goal")
    assert HOSTILE in page.text("#problem")
    assert page.tab.run("document.title") == "newsdesk: what is this headline about?"
    assert page.tab.run("document.querySelectorAll('main script, main img').length") == 0
    assert [said for said in page.tab.complaints if "400" not in said] == []


def test_versions_can_be_chosen_where_there_are_several(make_page: Callable[..., Page]) -> None:
    page = make_page("champion", "challenger", "")
    page.open()
    assert page.all("#version option") == [
        "ag_news, version 1, champion",
        "ag_news, version 3",
        "ag_news, version 2, challenger",
    ]
    page.ask(HEADLINE)
    for index, version in ((1, "version 3"), (2, "version 2, challenger"), (0, "version 1, champion")):
        page.tab.run(
            f"document.getElementById('version').selectedIndex = {index};"
            "document.getElementById('version').dispatchEvent(new Event('change'))"
        )
        page.rest()
        assert page.text("#asked-of") == f"Answer of ag_news, {version}"
    asked = [len(version.loaded.asked) for version in page.repository.versions()]
    assert asked == [4, 2, 2]


def test_one_version_leaves_nothing_to_choose(page: Page) -> None:
    assert not page.shown("choice")


def test_what_was_tried_is_kept_in_the_page_and_can_be_cleared(page: Page) -> None:
    page.ask("Striker scores")
    page.ask("Shares slide")
    page.ask("Striker scores")
    assert [text.split("\n")[0] for text in page.all("#tried button")] == ["Striker scores", "Shares slide"]
    before = page.asked
    page.tab.run("document.querySelectorAll('#tried button')[1].click()")
    assert page.text("#label") == "Business"
    assert page.tab.run("document.getElementById('headline').value") == "Shares slide"
    assert page.tab.run("document.querySelector('#tried [aria-current]').innerText").startswith("Shares slide")
    assert page.tab.run("document.activeElement.innerText").startswith("Shares slide")
    assert page.asked == before
    page.tab.run("document.getElementById('clear').click()")
    assert not page.shown("history")
    assert not page.shown("answer")
    assert page.shown("start")
    assert "slide" not in page.tab.run("document.querySelector('main').textContent.replace('shares slide after', '')")
    assert page.tab.run("document.activeElement.id") == "headline"
    assert page.tab.run("[localStorage.length, sessionStorage.length, document.cookie, location.search]") == [
        0,
        0,
        "",
        "",
    ]
    page.ask("Treaty signed")
    assert [text.split("\n")[0] for text in page.all("#tried button")] == ["Treaty signed"]


def test_many_classes_are_all_there(make_page: Callable[..., Page]) -> None:
    page = make_page("champion")
    names = [f"Class {number}" for number in range(20)]
    page.repository.versions()[0].loaded.classes = names
    page.open()
    page.ask(HEADLINE)
    assert len(page.all("#classes li")) == 8
    assert page.text("#more-title") == "12 more classes"
    page.tab.run("document.getElementById('more').open = true")
    assert sorted(page.all("#classes .name, #more-classes .name")) == sorted(names)
