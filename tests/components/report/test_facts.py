"""What survives as JSON, and the sentence where there is nothing."""

import json
from dataclasses import replace

import pytest
import run_facts
from pydantic import ValidationError

from components.outcomes import NodeState
from components.report.facts import Node, RunFacts


@pytest.mark.parametrize(
    "make",
    [run_facts.make_facts, run_facts.make_rejected, run_facts.make_stopped_early],
    ids=lambda make: make.__name__,
)
def test_facts_come_back_from_json_as_they_were(make: type) -> None:
    facts = make()
    assert RunFacts.from_json(facts.to_json()) == facts


def test_facts_of_another_format_are_refused() -> None:
    values = json.loads(run_facts.make_stopped_early().to_json())
    assert RunFacts.from_json(json.dumps(values))
    with pytest.raises(ValidationError):
        RunFacts.from_json(json.dumps({**values, "format": 2}))
    del values["status"]
    with pytest.raises(ValidationError):
        RunFacts.from_json(json.dumps(values))


def test_the_sentence_says_why_there_is_nothing() -> None:
    facts = run_facts.make_stopped_early()
    assert facts.stopped_at == "DataGate"
    assert facts.absence("Evaluator") == "Nothing to show: DataGate stopped the run before Evaluator began."
    assert facts.absence("DataGate") == "Nothing to show: DataGate ended without a result."
    assert facts.absence("Other") == "Nothing to show: the graph of this run has no Other."
    assert replace(facts, nodes=[]).absence("Trainer") == "Nothing to show: the run ended before Trainer began."
    waiting = replace(facts, nodes=[Node("Trainer", NodeState.WAITING, 0.0, 0)])
    assert waiting.absence("Trainer") == "Nothing to show: the run ended before Trainer began."


@pytest.mark.parametrize("node", ["ExampleGen", "StatisticsGen"])
def test_nothing_from_a_node_that_finished_is_an_error(node: str) -> None:
    """One that ran, and one that was answered from the cache."""
    with pytest.raises(ValueError, match=f"{node} finished"):
        run_facts.make_stopped_early().absence(node)


def test_a_bound_is_missed_from_its_own_side() -> None:
    headlines = {item.name: item for item in run_facts.make_rejected().evaluation.headlines}
    assert headlines["accuracy"].missed
    assert not headlines["calibration_error"].missed
    assert replace(headlines["calibration_error"], bound=0.0).missed
    assert not replace(headlines["accuracy"], bound=0.0).missed
    assert not headlines["log_loss"].missed


def test_facts_that_name_an_encoder_and_no_summary_are_read() -> None:
    """As reports were kept before a family said what its model is."""
    values = json.loads(run_facts.make_facts().to_json())
    del values["summary"]
    facts = RunFacts.from_json(json.dumps(values | {"encoder": "minilm-l6"}))
    assert (facts.summary, facts.run_id) == (None, values["run_id"])


def test_a_verdict_in_run_json_has_the_shape_that_older_workspaces_have() -> None:
    facts = run_facts.make_facts(400)
    (first, *_) = json.loads(facts.to_json())["gates"]
    assert list(first) == ["name", "passed", "reasons", "warnings", "checks", "numbers"]
    assert list(first["checks"][0]) == ["name", "severity", "passed", "sentence", "value", "limit", "rows"]
