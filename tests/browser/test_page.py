"""The page for people in headless Chromium: by keyboard, on a phone, in the dark, refused, and with hostile text."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Tab, open_chromium
from page_world import CARD, MemoryRepository, TokenDoor, make_app, make_version, serve

from serving.errors import Code, RequestError
from serving.explain import WORD_LIMIT

pytestmark = pytest.mark.browser

HEADLINE = "Striker scores a late goal, days after the border treaty"
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> goal"
SECONDS = 20.0
# WCAG's contrast of what is read, with what is translucent behind it blended in, on a canvas that knows every colour.
FAINT = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const paint = colours => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  };
  const found = [];
  for (const item of document.querySelectorAll('body *')) {
    if (![...item.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    if (!item.checkVisibility()) continue;
    const behind = [];
    for (let at = item; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    const ink = paint([...behind, getComputedStyle(item).color]), paper = paint(behind);
    const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (contrast < 4.5) found.push([item.textContent.slice(0, 40), Math.round(contrast * 100) / 100]);
  }
  return found;
})()"""
STICKS_OUT = """[...document.querySelectorAll('body *')].filter(item => {
  const box = item.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(item => item.outerHTML.slice(0, 120))"""


class Address(str):
    """An address that a tab opens as it does a file."""

    def as_uri(self) -> str:
        return str(self)


class Page:
    """The page in a tab, with the server and the versions behind it."""

    def __init__(self, tab: Tab, url: str, repository: MemoryRepository, door: TokenDoor):
        self.tab, self.url, self.repository, self.door = tab, url, repository, door

    def open(self, width: int = 1280, height: int = 900, **media: str) -> None:
        self.tab.open(Address(self.url), width, height, **media)  # type: ignore[arg-type]
        self.until("!document.getElementById('model').hidden || document.getElementById('problem').textContent")

    def until(self, script: str) -> None:
        """Waits until an expression holds."""
        deadline = time.monotonic() + SECONDS
        while not self.tab.run(f"Boolean({script})"):
            assert time.monotonic() < deadline, f"{script} did not come to hold within {SECONDS:.0f} s"
            time.sleep(0.02)

    def type(self, text: str) -> None:
        self.tab.run("document.getElementById('headline').focus(); document.getElementById('headline').select()")
        self.tab.call("Input.insertText", text=text)

    def ask(self, text: str) -> None:
        """Types a text, presses Enter and waits for what comes of it."""
        self.type(text)
        self.tab.press("Enter")
        self.rest()

    def rest(self) -> None:
        self.until("document.getElementById('classify').textContent === 'Classify'")

    def text(self, where: str) -> str:
        """Returns what can be seen of an element; narrow spaces as plain ones."""
        return self.tab.run(f"document.querySelector({where!r})?.innerText ?? ''").replace("\u202f", " ").strip()

    def all(self, where: str) -> list[str]:
        found = self.tab.run(f"[...document.querySelectorAll({where!r})].map(item => item.innerText)")
        return [text.replace("\u202f", " ").strip() for text in found]

    @property
    def asked(self) -> int:
        """How often the server was asked; its files may come late."""
        return sum(url.endswith("/explain") for url in self.tab.requests)

    def shown(self, name: str) -> bool:
        return self.tab.run(f"document.getElementById({name!r}).checkVisibility()")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with open_chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def make_page(tab: Tab, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Serves ``make_page(*labels of each version, **settings)`` until the test ends."""
    servers: list[Any] = []

    def make(*versions: str, card: str = CARD, **settings: Any) -> Page:
        repository = MemoryRepository(
            *(make_version(tmp_path, number, *label.split(), card=card) for number, label in enumerate(versions, 1))
        )
        door = TokenDoor(make_app(repository, **settings))
        servers.append(serve(door))
        return Page(tab, servers[-1].__enter__(), repository, door)

    yield make
    tab.call("Page.navigate", url="about:blank")
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def page(make_page: Callable[..., Page]) -> Page:
    made = make_page("champion")
    made.open()
    return made


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
    page = make_page("champion", explain_on=False)
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


def test_everything_is_done_without_a_mouse(page: Page) -> None:
    page.tab.press("Tab")
    assert page.tab.run("document.activeElement.id") == "headline"
    page.tab.call("Input.insertText", text=HEADLINE)
    page.tab.press("Tab")
    assert page.tab.run("document.activeElement.id") == "classify"
    page.tab.press("Enter")
    page.rest()
    assert page.text("#label") == "Sports"
    seen = []
    for _ in range(6):
        page.tab.press("Tab")
        name, outline = page.tab.run(
            "[document.activeElement.id || document.activeElement.tagName,"
            " parseFloat(getComputedStyle(document.activeElement).outlineWidth)]"
        )
        seen.append(name)
        assert outline >= 2, name
        if name == "SUMMARY":
            page.tab.press("Enter")
            assert page.tab.run("document.getElementById('weights').open")
        if name == "A":
            break
    assert seen == ["SUMMARY", "DIV", "clear", "BUTTON", "A"]


def test_shift_and_enter_start_a_line(page: Page) -> None:
    page.type("goal")
    for kind in ("keyDown", "keyUp"):
        more = {"text": "\r"} if kind == "keyDown" else {}
        page.tab.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            windowsVirtualKeyCode=13,
            modifiers=8,
            **more,
        )
    assert page.tab.run("document.getElementById('headline').value") == "goal\n"
    assert not page.shown("answer")


def test_an_example_is_one_key_away(page: Page) -> None:
    page.tab.run("document.querySelector('#examples button').focus()")
    page.tab.press("Enter")
    page.until("document.getElementById('answer').checkVisibility()")
    assert page.text("#label") == "Sports"
    assert not page.shown("start")


def test_what_is_read_aloud_has_names_and_answers_are_announced(page: Page) -> None:
    page.ask(HEADLINE)
    page.tab.run("document.getElementById('weights').open = true")
    nodes = page.tab.call("Accessibility.getFullAXTree")["nodes"]
    named = [(item["role"]["value"], item.get("name", {}).get("value", "")) for item in nodes if not item["ignored"]]
    roles = [role for role, _ in named]
    for role in ("banner", "main", "contentinfo", "textbox", "alert", "status"):
        assert roles.count(role) == 1, role
    for role in ("textbox", "button", "link", "region", "heading"):
        assert all(name.strip() for found, name in named if found == role), role
    assert ("textbox", "Headline") in named
    said = page.tab.run("document.getElementById('announcement').textContent").replace("\u202f", " ")
    assert said.startswith("Sports, ")
    assert said.endswith("Strongest for it: Striker, goal.")
    assert page.tab.run("document.activeElement.id") == "headline"


@pytest.mark.parametrize(
    ("refusal", "title", "said"),
    [
        (RequestError(Code.RESOURCE_EXHAUSTED, "full", 1.5), "The server is busy", "Try again in 2 seconds."),
        (RequestError(Code.RESOURCE_EXHAUSTED, "full"), "The server is busy", "Try again in a moment."),
        (RequestError(Code.INVALID_ARGUMENT, "no such label."), "The server refuses this", "says: no such label."),
        (RequestError(Code.NOT_FOUND, "gone"), "That model is not loaded any more", "gone. Choose again."),
        (RequestError(Code.UNAVAILABLE, "loading", 1), "The server is not ready", "Try again in 1 second."),
        (RequestError(Code.DEADLINE_EXCEEDED, "late"), "It took too long", "late."),
        (RequestError(Code.INTERNAL, "odd"), "The server failed", "Your text is not at fault"),
        (RequestError(Code.PERMISSION_DENIED, "not this Host"), "The server refuses this", "not this Host."),
        (RequestError(Code.TOO_LARGE, "long"), "The text is too long", "at most 10,000 characters"),
    ],
)
def test_a_refusal_is_told_plainly(page: Page, refusal: RequestError, title: str, said: str) -> None:
    page.repository.refusal = refusal
    page.ask(HEADLINE)
    assert page.text("#problem h2") == title
    assert said in page.text("#problem p")
    assert ".." not in page.text("#problem p")
    assert page.tab.run("document.getElementById('headline').value") == HEADLINE
    page.repository.refusal = None
    page.ask(HEADLINE)
    assert page.text("#problem") == ""
    assert page.text("#label") == "Sports"


def test_a_text_above_the_limit_is_counted_and_refused(make_page: Callable[..., Page]) -> None:
    page = make_page("champion", text_characters=20)
    page.open()
    page.type("goal")
    assert not page.shown("length")
    page.type("a goal of thirty characters...")
    assert page.text("#length") == "30 characters: this server reads at most 20."
    page.tab.press("Enter")
    page.until("document.getElementById('problem').textContent")
    assert "30 characters: 20 are allowed" in page.text("#problem")


def test_nothing_typed_is_nothing_asked(page: Page) -> None:
    before = page.asked
    page.ask("  ")
    assert page.text("#problem h2") == "There is no headline yet"
    assert page.asked == before


def test_a_server_with_no_model_says_so_and_answers_once_there_is_one(
    make_page: Callable[..., Page], tmp_path: Path
) -> None:
    page = make_page()
    page.tab.open(Address(page.url))  # type: ignore[arg-type]
    page.ask(HEADLINE)
    assert page.text("#problem h2") == "No model serves yet"
    page.repository._versions.append(make_version(tmp_path / "late", 1, "champion"))
    page.ask(HEADLINE)
    assert page.text("#label") == "Sports"


def test_a_token_is_asked_for_used_and_kept_out_of_storage(make_page: Callable[..., Page]) -> None:
    page = make_page("champion")
    page.door.token = "open sesame"
    page.open()
    assert page.text("#problem h2") == "This server asks for a token"
    assert page.tab.run("document.activeElement.id") == "token"
    assert page.tab.run("document.activeElement.type") == "password"
    page.tab.call("Input.insertText", text="wrong")
    page.tab.press("Enter")
    page.until("document.querySelector('#problem h2')?.textContent === 'The token was not accepted'")
    page.tab.call("Input.insertText", text="open sesame")
    page.tab.press("Enter")
    page.until("!document.getElementById('model').hidden")
    assert not page.shown("token-form")
    page.ask(HEADLINE)
    assert page.text("#label") == "Sports"
    assert page.tab.run("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert "sesame" not in page.tab.run("document.documentElement.outerHTML + document.getElementById('token').value")


def test_a_server_that_is_gone_is_told_and_the_text_stays(make_page: Callable[..., Page], tab: Tab) -> None:
    page = make_page("champion")
    page.open()
    tab.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    try:
        page.ask(HEADLINE)
    finally:
        tab.call(
            "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
    assert page.text("#problem h2") == "The server cannot be reached"
    assert page.tab.run("document.getElementById('headline').value") == HEADLINE


def test_light_and_dark_differ_and_both_can_be_read(page: Page) -> None:
    papers = []
    for scheme in ("light", "dark"):
        page.repository.refusal = None
        page.open(scheme=scheme)
        assert page.tab.run(FAINT) == [], f"{scheme}, empty"
        page.ask(HEADLINE)
        page.tab.run("document.getElementById('weights').open = true")
        page.repository.refusal = RequestError(Code.RESOURCE_EXHAUSTED, "full")
        page.ask(HEADLINE)
        assert page.shown("weights")
        assert page.tab.run(FAINT) == [], scheme
        papers.append(page.tab.run("getComputedStyle(document.body).backgroundColor"))
    assert papers == ["rgb(246, 246, 244)", "rgb(19, 21, 25)"]


def test_faint_text_is_seen(page: Page) -> None:
    page.tab.run("document.querySelector('h1').style.color = '#999'")
    assert [text for text, _ in page.tab.run(FAINT)] == ["What is this headline about?"]


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_nothing_sticks_out_of_the_window(make_page: Callable[..., Page], width: int) -> None:
    page = make_page("champion", "challenger")
    page.open(width, 844)
    assert page.tab.run(STICKS_OUT) == []
    page.ask(HEADLINE + " " + "unbroken" * 60)
    page.tab.run("document.getElementById('weights').open = true")
    page.repository.refusal = RequestError(Code.INVALID_ARGUMENT, "unbroken" * 60)
    page.ask("goal")
    assert page.tab.run("document.documentElement.scrollWidth") <= width
    assert page.tab.run(STICKS_OUT) == []


def test_what_is_touched_is_large_enough(page: Page) -> None:
    page.open(390, 844)
    page.ask(HEADLINE)
    heights = page.tab.run(
        "[...document.querySelectorAll('button, select, textarea')].filter(i => i.checkVisibility())"
        ".map(i => i.getBoundingClientRect().height)"
    )
    assert len(heights) >= 4
    assert min(heights) >= 44


@pytest.mark.parametrize(("wish", "moves"), [("reduce", False), ("no-preference", True)])
def test_nothing_moves_for_those_who_ask_for_that(page: Page, wish: str, moves: bool) -> None:
    page.tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": wish}])
    page.ask(HEADLINE)
    assert page.tab.run("getComputedStyle(document.querySelector('#classes .bar'), '::before').animationName") == (
        "grow" if moves else "none"
    )
    assert (page.tab.run("getComputedStyle(document.getElementById('classify')).transitionDuration") != "0s") is moves


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
