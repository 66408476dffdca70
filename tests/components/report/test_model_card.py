"""The card: front matter that Hugging Face reads, and Markdown that no name can break."""

from dataclasses import replace
from typing import Any

import markdown_it
import pytest
import run_facts
import yaml
from huggingface_hub import ModelCard

from components.report.facts import Data
from components.report.model_card import render_model_card


def front_matter(card: str) -> dict[str, Any]:
    empty, front, _ = card.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(front)


def body(card: str) -> str:
    return " ".join(card.split("---\n", 2)[2].split())


@pytest.fixture(scope="module")
def card() -> str:
    return render_model_card(run_facts.make_facts())


def test_the_front_matter_is_what_hugging_face_expects(card: str) -> None:
    front = front_matter(card)
    assert front["license"] == "apache-2.0"
    assert front["language"] == "en"
    assert front["pipeline_tag"] == "text-classification"
    assert front["library_name"] == "tensorflow"
    assert front["datasets"] == ["ag_news"]
    assert "transformer" in front["tags"]
    (entry,) = front["model-index"]
    assert entry["name"] == "ag_news"
    (result,) = entry["results"]
    assert result["task"]["type"] == "text-classification"
    assert result["dataset"] == {"type": "ag_news", "name": "AG News", "split": "test"}
    for metric in result["metrics"]:
        assert set(metric) <= {"type", "value", "name", "args"}
        assert isinstance(metric["type"], str)
        assert type(metric["value"]) is float


def test_metrics_are_those_of_the_run(card: str) -> None:
    (result,) = front_matter(card)["model-index"][0]["results"]
    wanted = {item.name: item.value.value for item in run_facts.make_facts().evaluation.headlines}
    found = {(item["type"], item["name"]): item["value"] for item in result["metrics"]}
    assert found[("accuracy", "Accuracy")] == pytest.approx(wanted["accuracy"], abs=1e-6)
    assert found[("f1", "Macro-F1")] == pytest.approx(wanted["macro_f1"], abs=1e-6)
    assert len(found) == 4


def test_the_hub_reads_the_card(card: str) -> None:
    data = ModelCard(card).data
    accuracy = next(item for item in data.eval_results if item.metric_type == "accuracy")
    assert (accuracy.dataset_type, accuracy.task_type, accuracy.dataset_split) == (
        "ag_news", "text-classification", "test",
    )  # fmt: skip


def test_every_class_and_slice_has_its_row(card: str) -> None:
    facts = run_facts.make_facts()
    html = markdown_it.MarkdownIt().enable("table").render(card.split("---\n", 2)[2])
    tables = [part.split("</table>")[0] for part in html.split("<table>")[1:]]
    rows = [
        [cell.split("</td>")[0].split(">")[-1] for cell in row.split("<td")[1:]] for row in tables[2].split("<tr>")[2:]
    ]
    first = facts.evaluation.classes[0]
    assert [row[0] for row in rows] == facts.classes
    assert rows[0][4] == f"{first.f1.value:.4f} ({first.f1.low:.3f} to {first.f1.high:.3f})"
    assert "length medium" in tables[3]
    assert "0.9242 (0.915 to 0.932)" in tables[1]


@pytest.mark.parametrize(
    ("source", "said", "not_said"),
    [
        ("ag-news", "research and other non-commercial purposes", "not a data set that newsdesk knows"),
        ("sample", "far too few for a model to be relied on", "non-commercial"),
        ("own", "Its licence is for whoever brought it to state", "non-commercial"),
    ],
)
def test_the_licence_of_the_data_is_said(source: Any, said: str, not_said: str) -> None:
    facts = run_facts.make_facts(400)
    text = render_model_card(replace(facts, data=replace(facts.data, source=source)))
    assert said in body(text)
    assert not_said not in body(text)
    assert ("77 %" in text) == (source == "ag-news")
    assert ("datasets" in front_matter(text)) == (source == "ag-news")


def test_how_to_call_it_is_said(card: str) -> None:
    for word in ("serving_default", "serve_examples", "/v1/models/ag_news:predict", "label_id", "float32 [N, 4]"):
        assert word in card
    assert "tfx 1.16.0" in body(card)
    assert "version 9 of ag" in body(card)


def test_what_a_gate_told_is_a_limit(card: str) -> None:
    assert "Told by a gate when it was pushed: 1.8 % of the rows of train repeat another" in body(card)


def test_the_family_says_what_the_model_is() -> None:
    text = render_model_card(
        replace(run_facts.make_facts(400), model_family="heap", summary="A heap of <words> (no. 7)")
    )
    assert r". A heap of \<words\> (no. 7), " in body(text)
    assert "heap" in front_matter(text)["tags"]
    assert ". transformer, " in body(render_model_card(replace(run_facts.make_facts(400), summary=None)))


def test_no_row_of_the_data_is_in_the_card() -> None:
    facts = run_facts.make_facts(400)
    text = render_model_card(facts)
    assert facts.mistakes[0].text[:30] not in text
    assert all(row[:20] not in text for gate in facts.gates for check in gate.checks for row in check.rows)


def test_no_name_breaks_the_card() -> None:
    """Markup, pipes and line breaks in class names, directories, versions and warnings stay what they are."""
    facts = run_facts.make_facts(400, hostile=True)
    data = Data(source="own", directory=f"/data | # {run_facts.HOSTILE}\n---\n# x", digest="0")
    facts = replace(facts, data=replace(facts.data, source="own", directory=data.directory))
    text = render_model_card(facts)
    assert front_matter(text)["model-index"][0]["name"] == "ag_news"
    html = markdown_it.MarkdownIt().enable("table").render(text.split("---\n", 2)[2])
    assert "<script" not in html
    assert "<img" not in html
    assert html.count("<h1>") == 1
    assert html.count("<table>") == 6
    assert "&lt;script&gt;document.title='owned'&lt;/script&gt;" in html


def test_a_model_without_an_evaluation_has_no_card() -> None:
    with pytest.raises(ValueError, match="was not evaluated"):
        render_model_card(run_facts.make_stopped_early())
