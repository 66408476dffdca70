"""The page for people in headless Chromium: refusals, tokens, and servers that are not there."""

from collections.abc import Callable
from pathlib import Path

import pytest
from chromium import Tab
from page_tab import HEADLINE, Address, Page
from page_world import make_version

from serving.errors import Code, RequestError

pytestmark = pytest.mark.browser


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
