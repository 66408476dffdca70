"""The page as a browser reads it: what it says, in which order, and that no text of a row can be more than text."""

import base64
import hashlib
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import run_facts
from work_done import lines_of

from components.gates.verdict import Verdict
from components.report.facts import RunFacts
from components.report.page import render_page

PLACE = Path("/home/someone/workspace/reports/20260314-092653-5f3a")
SECTIONS = [
    "metrics", "champion", "classes", "confusion", "calibration", "training", "mistakes", "data", "serving", "cost",
    "settings", "versions", "places",
]  # fmt: skip
VOID = {"meta", "link", "br", "img", "input"}
RUNS = {
    "pushed": run_facts.make_facts,
    "rejected": run_facts.make_rejected,
    "stopped early": run_facts.make_stopped_early,
    "hostile": lambda: run_facts.make_facts(400, hostile=True),
}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    inside: list["Element | str"] = field(default_factory=list)

    def all(self, tag: str = "") -> list["Element"]:
        found = [item for item in self.inside if isinstance(item, Element)]
        below = [deeper for item in found for deeper in [item, *item.all()]]
        return [item for item in below if not tag or item.tag == tag]

    def text(self) -> str:
        return "".join(item if isinstance(item, str) else item.text() for item in self.inside)

    def words(self) -> str:
        return " ".join(self.text().split())

    def with_id(self, name: str) -> "Element":
        (found,) = (item for item in self.all() if item.attributes.get("id") == name)
        return found


class Parser(HTMLParser):
    """Reads a page strictly: every element is closed by its own end."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        made = Element(tag, dict(attrs))
        self._open[-1].inside.append(made)
        if tag not in VOID:
            self._open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].inside.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self._open[-1].inside.append(data)


def read(facts: RunFacts, directory: Path = PLACE) -> Element:
    parser = Parser()
    parser.feed(render_page(facts, directory))
    parser.close()
    return parser.root


@pytest.fixture(scope="module")
def pages() -> dict[str, Element]:
    return {name: read(make()) for name, make in RUNS.items()}


@pytest.fixture(params=RUNS)
def page(request: pytest.FixtureRequest, pages: dict[str, Element]) -> Element:
    return pages[request.param]


def test_the_page_needs_nothing_but_itself(page: Element) -> None:
    for item in page.all():
        assert item.tag not in ("script", "img", "iframe", "object", "embed", "base", "form", "image")
        for name, value in item.attributes.items():
            assert not name.startswith("on")
            assert name not in ("style", "src", "srcset", "action", "background")
            if name == "href":
                assert value
                assert value.startswith(("#", "data:,", "../", "file:///"))
    (style,) = page.all("style")
    assert "url(" not in style.text()
    assert "@import" not in style.text()


def test_the_policy_allows_the_style_sheet_and_nothing_else(page: Element) -> None:
    (policy,) = (item for item in page.all("meta") if item.attributes.get("http-equiv") == "Content-Security-Policy")
    (style,) = page.all("style")
    digest = base64.b64encode(hashlib.sha256(style.text().encode()).digest()).decode()
    parts = dict(part.strip().split(" ", 1) for part in policy.attributes["content"].split(";"))
    assert parts == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert page.all("head")[0].all().index(policy) < page.all("head")[0].all().index(style)


def test_a_hostile_text_stays_text(pages: dict[str, Element]) -> None:
    page = pages["hostile"]
    shown = page.text()
    for section in ("champion", "classes", "mistakes", "data", "settings", "versions"):
        assert run_facts.HOSTILE in page.with_id(section).text()
    assert run_facts.HOSTILE in page.all("header")[0].text()
    assert "49" not in {item.words() for item in page.with_id("mistakes").all("td")}
    assert "{{ 7*7 }}" in shown


def test_the_outcome_and_its_reasons_come_first(pages: dict[str, Element]) -> None:
    facts = run_facts.make_rejected()
    page = pages["rejected"]
    (title,) = page.all("h1")
    assert title.words() == "Rejected by ModelGate"
    header, body = page.all("header")[0], page.all("body")[0]
    first = [item for item in body.inside if isinstance(item, Element)][1]
    assert first is header
    assert [item.text() for item in header.all("li")][:2] == facts.reasons
    assert pages["pushed"].all("h1")[0].words() == "Pushed as version 7"
    assert pages["stopped early"].all("h1")[0].words() == "Rejected by DataGate"


def test_a_run_that_did_not_begin_has_a_report() -> None:
    early = replace(
        run_facts.make_stopped_early(), status="failed", nodes=[], gates=[], champion=None,
        data=replace(run_facts.make_facts().data, rows=0, splits={}, lengths=[]),
    )  # fmt: skip
    page = read(early)
    assert page.all("h1")[0].words() == "Failed before the first node"
    for section in set(SECTIONS) - {"settings", "versions", "places"}:
        assert "Nothing to show: the run ended before" in page.with_id(section).words()
    assert page.all("svg") == []


def test_a_challenger_is_called_one() -> None:
    page = read(replace(run_facts.make_facts(400), pushed_as="challenger"))
    assert page.all("h1")[0].words() == "Pushed as version 7, a challenger"


def test_warnings_are_told_at_the_top(pages: dict[str, Element]) -> None:
    said = [item.text() for item in pages["pushed"].all("header")[0].all("li")]
    assert said == ["1.8 % of the rows of train repeat another, above the limit of 1.0 %"]


def test_sections_are_in_order_and_the_navigation_leads_to_all(page: Element) -> None:
    main = page.all("main")[0]
    assert [item.attributes["id"] for item in main.all("section")] == SECTIONS
    assert [item.attributes["href"] for item in page.all("nav")[0].all("a")] == [f"#{name}" for name in SECTIONS]


def test_the_page_can_be_walked_without_a_mouse(page: Element) -> None:
    ids = [item.attributes["id"] for item in page.all() if "id" in item.attributes]
    assert len(ids) == len(set(ids))
    body = page.all("body")[0]
    skip = body.all()[0]
    assert (skip.tag, skip.attributes["href"]) == ("a", "#main")
    for tag in ("header", "nav", "main", "footer"):
        assert len(page.all(tag)) == 1
    for item in page.all():
        for name in ("aria-labelledby", "for"):
            assert item.attributes.get(name) is None or item.attributes[name] in ids
        if item.tag == "a" and item.attributes["href"].startswith("#"):
            assert item.attributes["href"][1:] in ids
        if "scroll" in (item.attributes.get("class") or "").split():
            assert (item.attributes["tabindex"], item.attributes["role"]) == ("0", "region")
            assert item.attributes["aria-label"]
    for item in page.all("details"):
        assert item.all()[0].tag == "summary"


def test_headings_do_not_skip_a_level(page: Element) -> None:
    levels = [int(item.tag[1]) for item in page.all() if item.tag in ("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_tables_are_tables_and_pictures_have_words(page: Element) -> None:
    for table in page.all("table"):
        assert table.all("caption")[0].words()
        widths = {len([cell for cell in row.inside if isinstance(cell, Element)]) for row in table.all("tr")}
        assert len(widths) == 1
        for head in table.all("th"):
            assert head.attributes["scope"] in ("row", "col")
    for picture in page.all("svg"):
        assert picture.attributes["role"] == "img"
        assert picture.attributes["aria-label"]


def test_every_chart_is_there(pages: dict[str, Element]) -> None:
    found = {name: pages["pushed"].with_id(name).all("svg") for name in SECTIONS}
    assert {name: len(charts) for name, charts in found.items() if charts} == {
        "champion": 1, "confusion": 1, "calibration": 1, "training": 2, "data": 2, "cost": 2,
    }  # fmt: skip


def test_a_run_that_stopped_early_says_so_in_one_sentence(pages: dict[str, Element]) -> None:
    page = pages["stopped early"]
    for section, node in {
        "metrics": "Evaluator", "classes": "Evaluator", "confusion": "Evaluator", "calibration": "Evaluator",
        "training": "Trainer", "mistakes": "Answers", "serving": "ServingGate",
    }.items():  # fmt: skip
        (said,) = page.with_id(section).all("p")
        assert said.words() == f"Nothing to show: DataGate stopped the run before {node} began."
        assert page.with_id(section).all("svg") == []
    champion = page.with_id("champion").words()
    assert champion == (
        "Candidate against champion Champion: ag_news has no champion yet. "
        "What the ModelGate decided Nothing to show: DataGate stopped the run before ModelGate began."
    )
    assert "unexpected value ('5' in 40 rows)" in page.with_id("data").words()


@pytest.mark.parametrize("name", ["evaluation", "mistakes", "champion", "training"])
def test_what_a_finished_node_must_have_left_may_not_be_missing(name: str) -> None:
    with pytest.raises(ValueError, match="finished, and yet"):
        render_page(replace(run_facts.make_facts(400), **{name: None}), PLACE)


def test_a_gate_that_finished_has_a_verdict() -> None:
    facts = run_facts.make_facts(400)
    for gate in facts.gates:
        with pytest.raises(ValueError, match=f"{gate.gate} finished"):
            render_page(replace(facts, gates=[item for item in facts.gates if item is not gate]), PLACE)


def test_metrics_stand_with_interval_and_floor(pages: dict[str, Element]) -> None:
    facts = run_facts.make_rejected()
    tiles = {item.all("span")[0].words(): item for item in pages["rejected"].with_id("metrics").all("li")}
    accuracy = facts.evaluation.headlines[0].value
    assert tiles["Accuracy"].words() == (
        f"Accuracy {accuracy.value:.4f} {accuracy.low:.3f} to {accuracy.high:.3f} floor 0.9000, missed"
    )
    assert tiles["Accuracy"].attributes["class"] == "missed"
    assert tiles["Calibration error"].words().endswith("ceiling 0.1000, kept")
    assert "class" not in tiles["Calibration error"].attributes


def test_a_linear_model_stands_beside_the_candidate(pages: dict[str, Element]) -> None:
    metrics = pages["pushed"].with_id("metrics")
    (table,) = metrics.all("table")
    rows = [[cell.words() for cell in row.inside if isinstance(cell, Element)] for row in table.all("tr")]
    assert rows[0] == ["Metric", "Linear", "Candidate"]
    assert rows[1][:2] == ["Accuracy", "0.9120 0.903 to 0.921"]
    assert rows[2][:2] == ["Macro-F1", "0.9117"]
    assert [row[0] for row in rows[3:]] == [f"F1 {name}" for name in run_facts.CLASSES]
    assert "accuracy less its own is +1.3" in metrics.words()


def test_a_baseline_on_fewer_rows_says_so_and_none_is_not_shown() -> None:
    facts = run_facts.make_facts(400)
    assert facts.baseline is not None
    fewer = read(replace(facts, baseline=replace(facts.baseline, train_rows=200, gain=None)))
    assert "fitted on 200 of the 88,400 rows." in fewer.with_id("metrics").words()
    assert read(replace(facts, baseline=None)).with_id("metrics").all("table") == []


def test_the_comparison_has_verdict_interval_and_flipped_rows(pages: dict[str, Element]) -> None:
    facts = run_facts.make_facts()
    found = facts.champion.comparison
    section = pages["pushed"].with_id("champion")
    gain = found.metrics["accuracy"].difference
    assert f"better +{100 * gain.value:.1f} (+{100 * gain.low:.1f} to +{100 * gain.high:.1f}) points" in section.words()
    assert "a loss of up to 1.0 points counts as not worse" in section.words()
    counts = {item.all("span")[0].words(): item.all("span")[1].words() for item in section.all("li")[:3]}
    assert counts == {
        "Only the candidate is right": str(found.mcnemar.c),
        "Only the champion is right": str(found.mcnemar.b),
        "Both wrong, with different answers": str(found.both_wrong_differently),
    }
    loss = found.metrics["log_loss"].difference.value
    assert section.all("table")[0].all("tr")[-1].words().endswith(f"\N{MINUS SIGN}{-loss:.4f}")
    won, lost = section.all("details")[:2]
    assert won.all("summary")[0].words().startswith("Wrong before, right now")
    assert [row.all("td")[0].text() for row in won.all("tr")[1:]] == [row.text for row in found.only_b_right]
    assert [row.all("td")[0].text() for row in lost.all("tr")[1:]] == [row.text for row in found.only_a_right]
    wrong = [[cell.attributes.get("class") for cell in item.all("tr")[1].all("td")] for item in (won, lost)]
    assert wrong == [["text", None, "wrong", None], ["text", None, None, "wrong"]]
    worse = pages["rejected"].with_id("champion")
    assert any(item.words() == "worse" and "bad" in item.attributes["class"] for item in worse.all("span"))
    assert "\N{MINUS SIGN}" in worse.words()


def test_why_there_is_no_comparison_is_said() -> None:
    facts = run_facts.make_facts(400)
    page = read(replace(facts, champion=replace(facts.champion, comparison=None, note="It kept no answers.")))
    section = page.with_id("champion")
    assert "It kept no answers." in section.words()
    assert section.all("svg") == []
    assert "F1 against champion" not in page.with_id("classes").words()


def test_every_check_stands_with_its_severity_and_numbers(pages: dict[str, Element]) -> None:
    rows = {
        row.all("th")[0].words(): [cell.words() for cell in row.all("td")]
        for row in pages["pushed"].with_id("data").all("tr")
        if row.all("th") and len(row.all("td")) == 5
    }
    assert rows["length drift"] == ["passed", "0.004", "0.1", "stops the run", "text lengths diverge by 0.004 bits"]
    assert rows["duplicates"][:4] == ["warned", "0.018", "0.01", "is told"]
    assert rows["duplicates"][4].endswith("1 rowThe ferry is late, again")
    assert rows["leakage"][0] == "off"
    failed = pages["stopped early"].with_id("data")
    assert any(item.words() == "failed" and "bad" in item.attributes["class"] for item in failed.all("span"))


def test_links_lead_within_the_workspace_and_out_of_it() -> None:
    facts = run_facts.make_facts(400)
    odd = replace(facts.nodes[0], outputs={"a": "/home/someone/workspace/a b#c?d", "b": "/else where", "c": "gs://x/y"})
    page = read(replace(facts, nodes=[odd, *facts.nodes[1:]]))
    links = {item.text(): item.attributes["href"] for item in page.with_id("places").all("a")}
    assert links["/home/someone/workspace/a b#c?d"] == "../../a%20b%23c%3Fd"
    assert links["/else where"] == "file:///else%20where"
    assert links["/home/someone/workspace/serving/ag_news/7"] == "../../serving/ag_news/7"
    assert "gs://x/y" not in links
    assert "gs://x/y" in page.with_id("places").text()


def test_mlflow_behind_a_server_is_linked_and_a_store_is_not() -> None:
    facts = run_facts.make_facts(400)
    run = facts.mlflow_run_id
    page = render_page(replace(facts, tracking="https://mlflow.example/"), PLACE)
    assert f'href="https://mlflow.example/#/runs/{run}"' in page
    assert run in render_page(facts, PLACE)
    assert 'href="sqlite' not in render_page(facts, PLACE)
    assert 'href="javascript' not in render_page(replace(facts, tracking="javascript:alert(1)"), PLACE)


def test_a_long_text_is_cut() -> None:
    facts = run_facts.make_facts(400)
    page = render_page(replace(facts, mistakes=[replace(facts.mistakes[0], text="word " * 100_000)]), PLACE)
    assert len(page) < 1_000_000


def test_no_mistake_is_no_table() -> None:
    page = read(replace(run_facts.make_facts(400), mistakes=[]))
    assert page.with_id("mistakes").all("table") == []
    assert "every answer is right" in page.with_id("mistakes").words()


def test_numbers_of_a_gate_are_told_with_their_units() -> None:
    facts = run_facts.make_facts(400)
    numbers = {"load_seconds": 1.234567, "memory_mb": 1234.0, "deep": {"p50_ms": 12.34, "flag": True, "none": None}}
    page = read(replace(facts, gates=[*facts.gates[:2], Verdict("ServingGate", True, numbers=numbers)]))
    rows = {row.all("th")[0].words(): row.all("td")[0].words() for row in page.with_id("serving").all("tr")}
    assert rows == {
        "load": "1.235 s", "memory": "1,234 MiB", "deep, p50": "12.34 ms", "deep, flag": "yes",
    }  # fmt: skip


def test_what_a_check_has_is_not_told_twice(pages: dict[str, Element]) -> None:
    """The ServingGate's verdict has the seconds of loading as a check and as a number."""
    tables = pages["pushed"].with_id("serving").all("table")
    heads = [[head.words() for head in table.all("th") if head.attributes["scope"] == "row"] for table in tables]
    assert heads == [["load", "p95"], ["memory", "tensorflow", "requests"]]


def test_the_page_of_3800_rows_is_small_and_little_work() -> None:
    facts = run_facts.make_facts(3_800)
    assert len(render_page(facts, PLACE).encode()) < 3_000_000
    # Four million, most of them matplotlib's, for however many rows.
    assert lines_of(lambda: render_page(facts, PLACE)) < 6_000_000
