"""The report in headless Chromium: silent, alone, readable on a phone, in the dark, on paper and without a mouse."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import run_facts
from chromium import Tab, open_chromium

from components.report.page import render_page

pytestmark = pytest.mark.browser

RUNS = {
    "pushed": run_facts.make_facts,
    "rejected": run_facts.make_rejected,
    "stopped-early": run_facts.make_stopped_early,
    "hostile": lambda: run_facts.make_facts(hostile=True),
}
# Whatever is cut off or scrolls within itself may be wider than the window.
STICKS_OUT = """[...document.querySelectorAll('body *')].filter(item => {
  if (item.closest('.scroll table, nav ul, svg, .skip')) return false;
  const box = item.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(item => item.outerHTML.slice(0, 120))"""
# WCAG's contrast of every element that has a text of its own, against what lies behind it.
FAINT = """(() => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = item => {
    for (let at = item; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const item of document.querySelectorAll('body *')) {
    if (![...item.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    if (!item.checkVisibility()) continue;
    const style = getComputedStyle(item);
    const ink = light(parse(item.closest('svg') ? style.fill : style.color)), paper = light(behind(item));
    const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (contrast < 4.5) found.push([item.textContent.slice(0, 40), Math.round(contrast * 100) / 100]);
  }
  return found;
})()"""

# Words of up to twelve letters that stand on two lines, in tables and tiles.
BROKEN_WORDS = """(() => {
  const found = [], range = document.createRange();
  for (const item of document.querySelectorAll('th, td:not(.path), caption, .tiles span, h2, h3, summary, .pill')) {
    if (!item.checkVisibility()) continue;
    for (const node of item.childNodes) {
      if (node.nodeType !== 3) continue;
      for (const word of node.data.matchAll(/[A-Za-z]{2,12}(?![A-Za-z])/g)) {
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map(box => box.top)).size > 1) found.push(word[0]);
      }
    }
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with open_chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, make in RUNS.items():
        directory = tmp_path_factory.mktemp(name)
        made[name] = directory / "index.html"
        made[name].write_text(render_page(make(), directory), encoding="utf-8")
    return made


@pytest.fixture(params=RUNS)
def page(request: pytest.FixtureRequest, pages: dict[str, Path]) -> Path:
    return pages[request.param]


def test_the_page_is_silent_and_alone(tab: Tab, page: Path) -> None:
    tab.open(page)
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith("data:")] == [page.as_uri()]
    assert tab.run("document.title").startswith("ag_news: ")
    assert tab.run("getComputedStyle(document.querySelector('nav')).position") == "sticky", "no style sheet"


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        ("<script>document.title = 'owned'</script>", "script"),
        ("<p onclick='1' id='x'>x</p><img src='https://example.org/x.png'>", "img"),
        ("<p style='color: red'>x</p>", "style"),
        ("<style>body { color: red }</style>", "style"),
        ("<iframe src='about:srcdoc'></iframe><link rel='stylesheet' href='file:///x.css'>", "style"),
    ],
)
def test_what_should_never_be_there_is_stopped_by_the_policy(
    tab: Tab, pages: dict[str, Path], planted: str, complaint: str
) -> None:
    """And seen by these tests."""
    page = pages["stopped-early"].with_name("planted.html")
    page.write_text(pages["stopped-early"].read_text(encoding="utf-8").replace("<main", f"{planted}<main"), "utf-8")
    tab.open(page)
    assert any("Content Security Policy" in said and complaint in said for said in tab.complaints), tab.complaints
    assert tab.run("document.title") != "owned"
    assert tab.run("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"


@pytest.mark.parametrize("width", [320, 360, 768, 1280, 1920])
def test_nothing_sticks_out_of_the_window(tab: Tab, page: Path, width: int) -> None:
    tab.open(page, width, 800)
    tab.run("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run(STICKS_OUT) == []


@pytest.mark.parametrize(("width", "media"), [(320, ""), (360, ""), (1280, ""), (680, "print"), (720, "print")])
def test_words_stay_whole(tab: Tab, pages: dict[str, Path], width: int, media: str) -> None:
    tab.open(pages["pushed"], width, 800, media=media)
    tab.run("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert tab.run(BROKEN_WORDS) == []


def test_wide_tables_scroll_within_themselves(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["pushed"], 360, 800)
    scrolled = tab.run(
        """[...document.querySelectorAll('.scroll')].filter(item => item.checkVisibility())
        .map(item => { item.scrollLeft = 40; return [item.scrollWidth > item.clientWidth, item.scrollLeft > 0]; })"""
    )
    assert [True, True] in scrolled
    assert [True, False] not in scrolled


def test_light_and_dark_differ_and_both_can_be_read(tab: Tab, page: Path) -> None:
    papers = []
    for scheme in ("light", "dark"):
        tab.open(page, scheme=scheme)
        tab.run("document.querySelectorAll('details').forEach(item => item.open = true)")
        papers.append(tab.run("getComputedStyle(document.body).backgroundColor"))
        assert tab.run(FAINT) == [], scheme
    assert papers == ["rgb(246, 246, 244)", "rgb(19, 21, 25)"]


def test_faint_text_is_seen(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["stopped-early"])
    tab.run("document.querySelector('h1').style.color = '#999'")
    assert [text for text, _ in tab.run(FAINT)] == ["Rejected by DataGate"]


def test_charts_change_with_the_scheme(tab: Tab, pages: dict[str, Path]) -> None:
    inks = []
    for scheme in ("light", "dark"):
        tab.open(pages["pushed"], scheme=scheme)
        inks.append(tab.run("[...document.querySelectorAll('svg text')].map(item => getComputedStyle(item).fill)"))
    assert len(inks[0]) > 50
    assert all(light != dark for light, dark in zip(*inks, strict=True))


def test_on_paper_everything_is_unfolded_and_white(tab: Tab, page: Path, tmp_path: Path) -> None:
    tab.open(page, 720, 900, media="print", scheme="dark")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert tab.run(FAINT) == []
    folded = tab.run(
        """[...document.querySelectorAll('details')].filter(item => !item.open).map(item =>
        item.offsetHeight > item.firstElementChild.offsetHeight + 10 && item.lastElementChild.checkVisibility())"""
    )
    assert folded
    assert all(folded)
    assert tab.run("document.documentElement.scrollWidth") <= 720
    assert tab.pdf(tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_the_keyboard_reaches_everything(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["pushed"])
    tab.press("Tab")
    skip = "document.activeElement.className === 'skip' && document.activeElement.getBoundingClientRect().left >= 0"
    assert tab.run(skip)
    tab.press("Enter")
    assert tab.run("document.activeElement.id") == "main"
    wanted = tab.run(
        "[...document.querySelectorAll('main a, main summary, main .scroll')].filter(i => i.checkVisibility()).length"
    )
    seen = 0
    for _ in range(wanted):
        tab.press("Tab")
        outline = tab.run(
            "[document.activeElement.matches('main a, main summary, main .scroll'),"
            " parseFloat(getComputedStyle(document.activeElement).outlineWidth)]"
        )
        assert outline[0]
        assert outline[1] >= 2
        seen += 1
    assert seen > 20


def test_a_fold_opens_with_enter(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["pushed"])
    tab.run("document.querySelector('#settings summary').focus()")
    tab.press("Enter")
    assert tab.run("document.querySelector('#settings details').open")


def test_what_is_read_aloud_has_names(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["pushed"])
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    named = [(item["role"]["value"], item.get("name", {}).get("value", "")) for item in nodes if not item["ignored"]]
    roles = [role for role, _ in named]
    for role in ("banner", "navigation", "main", "contentinfo"):
        assert roles.count(role) == 1
    for role in ("img", "image", "region", "table", "link", "heading"):
        assert all(name.strip() for found, name in named if found == role)
    assert sum(role in ("img", "image") for role in roles) == 9
