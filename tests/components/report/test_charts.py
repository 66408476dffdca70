"""Charts are inline elements without style, in colours that stand for roles, with a sentence each."""

import warnings
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import run_facts

from components.report import charts, svg
from components.report.facts import Lengths
from components.report.measures import EpochMeasures, Training


@pytest.fixture(scope="module")
def drawn() -> list[charts.Chart]:
    """One chart of every kind."""
    facts = run_facts.make_facts()
    return [
        charts.confusion_chart(facts.evaluation),
        charts.reliability_chart(facts.evaluation.reliability),
        *charts.training_charts(facts.training),
        charts.difference_chart(facts.champion.comparison, 0.01),
        charts.balance_chart(facts.data.splits),
        charts.length_chart(facts.data.lengths),
        *charts.cost_charts(facts.nodes),
    ]


def elements(chart: charts.Chart) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(chart.svg).iter())


def texts(chart: charts.Chart) -> list[str]:
    return [item.text for item in elements(chart) if item.tag == "text"]


def test_no_chart_has_a_style_of_its_own(drawn: list[charts.Chart]) -> None:
    for chart in drawn:
        # A colour that stands for no role would stay as it is.
        assert "#" not in chart.svg.replace('href="#', "").replace("url(#", "")
        for item in elements(chart):
            assert not {"style", "onload"} & set(item.attrib)
            assert item.tag not in ("style", "script", "image", "foreignObject", "metadata")
            for key in ("fill", "stroke"):
                assert item.attrib.get(key, "none") in {"none", *(f"var(--{role})" for role in svg.ROLES.values())}


def test_every_text_has_ink(drawn: list[charts.Chart]) -> None:
    for chart in drawn:
        written = [item for item in elements(chart) if item.tag == "text"]
        assert written
        for item in written:
            assert item.attrib["fill"] in ("var(--ink)", "var(--muted)")
            assert item.attrib["font-size"].endswith("px")


def test_every_chart_says_what_it_shows(drawn: list[charts.Chart]) -> None:
    found = [(chart.text, elements(chart)[0].attrib) for chart in drawn]
    assert len({text for text, _ in found}) == len(found)
    for text, root in found:
        assert text.endswith(".")
        assert root["aria-label"] == text
        assert root["role"] == "img"
        assert root["viewBox"].startswith("0 0 ")


def test_ids_of_one_page_do_not_meet_and_all_are_used(drawn: list[charts.Chart]) -> None:
    seen: set[str] = set()
    for chart in drawn:
        own = {item.attrib["id"] for item in elements(chart) if "id" in item.attrib}
        used = {item.attrib["href"].removeprefix("#") for item in elements(chart) if "href" in item.attrib}
        used |= {item.attrib["clip-path"][5:-1] for item in elements(chart) if "clip-path" in item.attrib}
        assert own == used
        assert not own & seen
        seen |= own


def test_a_chart_is_the_same_each_time() -> None:
    training = run_facts.make_facts().training
    assert charts.training_charts(training) == charts.training_charts(training)


@pytest.mark.parametrize("name", ["<b>&\"'", "$x_1$", "\u4e16\u754c", "w" * 300, "a\\b"])
def test_any_class_name_can_be_drawn(name: str) -> None:
    """Markup, a formula, a script that matplotlib's font lacks, a long one, and a backslash."""
    evaluation = run_facts.make_facts(400).evaluation
    named = replace(evaluation, classes=[replace(evaluation.classes[0], name=name), *evaluation.classes[1:]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = charts.confusion_chart(named)
    shown = name if len(name) < 19 else "w" * 17 + "\N{HORIZONTAL ELLIPSIS}"
    assert shown in texts(chart)


@pytest.mark.parametrize("classes", [2, 12, 40])
def test_few_and_many_classes_can_be_drawn(classes: int) -> None:
    names = tuple(f"class {number}" for number in range(classes))
    answers = run_facts.make_answers(1_000, classes=classes)
    evaluation = run_facts.evaluation_tables(run_facts.make_slices(answers, names), names, {}, answers)
    chart = charts.confusion_chart(evaluation)
    counts = [str(count) for row in evaluation.confusion for count in row]
    assert all(name in texts(chart) for name in names)
    counts = [count for count in counts if count != "0"]
    assert (set(counts) <= set(texts(chart))) == (classes <= 10)


def test_the_confusion_matrix_names_the_most_frequent_mistake() -> None:
    evaluation = replace(
        run_facts.make_facts(400).evaluation,
        rows=45,
        confusion=[[9, 0, 0, 1], [0, 9, 0, 0], [7, 2, 9, 0], [0, 0, 0, 8]],
    )
    assert "Business taken for World, 7 rows" in charts.confusion_chart(evaluation).text
    none = replace(evaluation, confusion=[[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0], [0, 0, 0, 8]])
    assert charts.confusion_chart(none).text.endswith("without a mistake.")


def test_one_epoch_and_one_node_are_enough() -> None:
    epoch = EpochMeasures(1, 0.5, 0.8, 0.4, 0.85, 3.0)
    assert "over 1 epoch:" in charts.training_charts(Training([epoch], 1, 10, 10))[0].text
    seconds, memory = charts.cost_charts(run_facts.make_nodes("ExampleGen"))
    assert seconds.text == "Wall time by node. The most: ExampleGen, 9.3 s of 9.3 s in all."
    assert memory.text == "Peak memory by node. The most: ExampleGen, 611 MiB."


def test_the_median_is_that_of_the_rows() -> None:
    chart = charts.length_chart(
        [Lengths("this run", [0, 1, 5, 10], [0, 3, 4, 2]), Lengths("that", [0, 1, 5, 10], [1, 0, 0, 0])]
    )
    assert chart.text == "Rows by number of words: this run, median 5 to 9 words; that, median 0 words."
