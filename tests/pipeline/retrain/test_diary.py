"""MLflow is told of every decision once, also of those that were made while it was away."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_stores import make_store, out_of_order

from components.outcomes import Outcome
from components.registry.tracking import Store
from pipeline.retrain.diary import tell
from pipeline.retrain.history import Attempt, Notes

PUSHED = Attempt("run-2", datetime(2026, 3, 10, tzinfo=UTC), Outcome.PUSHED, (), {}, "w0rk")


def line(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"decision-{number}",
        "moment": f"2026-03-{number:02}T06:00:00+00:00",
        "retrain": False,
        "reasons": [],
        "circuit": "closed",
        **more,
    }


class Diary:
    def __init__(self, root: Path):
        self.root = root
        self.store: Store = make_store(root)
        self.notes = Notes(root / "retrain")

    def tell(self, *lines: dict[str, Any]) -> int:
        return tell(self.store, "ag_news", self.root / "spool", self.notes, lines, [PUSHED])

    def runs(self) -> dict[str, Any]:
        client = MlflowClient(self.store.uri)
        experiment = client.get_experiment_by_name("ag_news-retrain")
        found = client.search_runs([experiment.experiment_id]) if experiment else []
        assert len({run.info.run_name for run in found}) == len(found)
        return {run.info.run_name: run for run in found}


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path)


def test_a_decision_is_a_run_with_its_reasons_and_numbers(diary: Diary) -> None:
    evidence = {
        "window": ["span-20260301", "span-20260302"],
        "new": ["span-20260302"],
        "newest": {"drift": {"words": {"value": 0.25}}, "accuracy": {"share": 0.875}},
        "champion": {"days": 12.5},
    }
    told = diary.tell(line(1, retrain=True, reasons=["2 new spans", "drift"], run_id="run-2", evidence=evidence))
    assert told == 1
    run = diary.runs()["decision-1"]
    assert run.info.status == "FINISHED"
    expected = {
        "decision": "retrain",
        "reason": "2 new spans; drift",
        "decided_at": "2026-03-01T06:00:00+00:00",
        "circuit": "closed",
        "retrained_run": "run-2",
        "outcome": "pushed",
    }
    assert expected.items() <= run.data.tags.items()
    assert run.data.metrics == {
        "window_spans": 2,
        "new_spans": 1,
        "newest/words": 0.25,
        "newest/champion_accuracy": 0.875,
        "champion_days": 12.5,
    }
    assert [item.path for item in MlflowClient(diary.store.uri).list_artifacts(run.info.run_id)] == ["decision.json"]


def test_no_and_refused_are_told_apart(diary: Diary) -> None:
    diary.tell(line(1), line(2, refused=True, reasons=["the vocabulary changed"]))
    decisions = {name: run.data.tags["decision"] for name, run in diary.runs().items()}
    assert decisions == {"decision-1": "no", "decision-2": "refused"}
    assert diary.runs()["decision-1"].data.metrics == {"window_spans": 0, "new_spans": 0}
    assert "outcome" not in diary.runs()["decision-1"].data.tags


def test_each_is_told_once(diary: Diary) -> None:
    assert diary.tell(line(1)) == 1
    assert diary.tell(line(1)) == 0
    assert diary.tell(line(1), line(2), line(3)) == 2
    assert sorted(diary.runs()) == ["decision-1", "decision-2", "decision-3"]


def test_what_mlflow_missed_it_is_told_later(diary: Diary, caplog: pytest.LogCaptureFixture) -> None:
    with out_of_order(diary.root), caplog.at_level(logging.WARNING, "newsdesk.retrain"):
        assert diary.tell(line(1), line(2)) == 0
    (warning,) = [record.message for record in caplog.records if record.name == "newsdesk.retrain"]
    assert warning.endswith("; 2 decisions wait for it in decisions.jsonl")
    assert diary.tell(line(1), line(2), line(3)) == 3
    assert sorted(diary.runs()) == ["decision-1", "decision-2", "decision-3"]
