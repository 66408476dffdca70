"""The page for people in headless Chromium: by keyboard, read aloud, in the dark, on a phone."""

from collections.abc import Callable

import pytest
from page_tab import FAINT, HEADLINE, STICKS_OUT, Page

from serving.errors import Code, RequestError

pytestmark = pytest.mark.browser


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
