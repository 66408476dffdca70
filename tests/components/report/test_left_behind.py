"""What a node left is read; what it did not leave is None; what is gone or damaged is an error."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from components.errors import BadInputError
from components.file_names import CHAMPION_FILE
from components.gates.verdict import VERDICT_FILE, Verdict
from components.records import ChampionRecord, write_record
from components.report.left_behind import LeftBehind

READERS: dict[str, tuple[str, str, Callable[[LeftBehind], Any]]] = {
    "ingest": ("ExampleGen", "report", LeftBehind.ingest),
    "champion": ("Champion", "champion", LeftBehind.champion),
    "baseline": ("Baseline", "baseline", LeftBehind.baseline),
    "history": ("Trainer", "model_run", LeftBehind.history),
    "slices": ("Evaluator", "evaluation", lambda left: left.slices(("a", "b"))),
    "answers": ("Answers", "answers", LeftBehind.answers),
    "registration": ("Register", "registration", LeftBehind.registration),
}


def outputs(node: str, output: str, directory: Path) -> dict[str, dict[str, Any]]:
    return {node: {output: SimpleNamespace(uri=str(directory))}}


@pytest.mark.parametrize("name", READERS)
def test_a_node_that_did_not_finish_left_nothing(name: str) -> None:
    _, _, read = READERS[name]
    assert read(LeftBehind({})) is None


@pytest.mark.parametrize("name", READERS)
def test_what_a_failed_node_began_to_write_is_not_read(name: str, tmp_path: Path) -> None:
    node, output, read = READERS[name]
    assert read(LeftBehind({}, outputs(node, output, tmp_path))) is None


@pytest.mark.parametrize("name", READERS)
def test_what_a_finished_node_left_and_is_gone_is_an_error(name: str, tmp_path: Path) -> None:
    node, output, read = READERS[name]
    with pytest.raises((OSError, ValueError)):
        read(LeftBehind(outputs(node, output, tmp_path / "gone")))


def test_a_champion_is_read(tmp_path: Path) -> None:
    record = ChampionRecord("3", "7", None, "the first")
    write_record(tmp_path, CHAMPION_FILE, record)
    assert LeftBehind(outputs("Champion", "champion", tmp_path)).champion() == record


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"serving_version": 3}', "\udce4"])
def test_a_champion_that_is_damaged_is_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / CHAMPION_FILE).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValidationError):
        LeftBehind(outputs("Champion", "champion", tmp_path)).champion()


def test_verdicts_stand_in_running_order_and_the_one_that_said_no_is_last(tmp_path: Path) -> None:
    finished: dict[str, dict[str, Any]] = {"Trainer": {"model": SimpleNamespace(uri="nowhere")}}
    for gate in ("DataGate", "ModelGate"):
        (tmp_path / gate).mkdir()
        (tmp_path / gate / VERDICT_FILE).write_text(Verdict(gate, True).to_json())
        finished |= outputs(gate, "verdict", tmp_path / gate)
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / VERDICT_FILE).write_text(Verdict("ServingGate", False, ["too slow"]).to_json())
    found = LeftBehind(finished, outputs("ServingGate", "verdict", tmp_path / "no")).verdicts()
    assert [(verdict.gate, verdict.passed) for verdict in found] == [
        ("DataGate", True),
        ("ModelGate", True),
        ("ServingGate", False),
    ]


def test_a_failed_gate_without_a_verdict_had_none(tmp_path: Path) -> None:
    assert LeftBehind({}, outputs("ModelGate", "verdict", tmp_path)).verdicts() == []


@pytest.mark.parametrize("content", [None, "", "[]", json.dumps({"gate": "ModelGate"})])
def test_a_verdict_that_is_gone_or_damaged_is_one_sentence(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / VERDICT_FILE).write_text(content)
    with pytest.raises(BadInputError) as refused:
        LeftBehind(outputs("ModelGate", "verdict", tmp_path)).verdicts()
    assert VERDICT_FILE in str(refused.value)
    assert "\n" not in str(refused.value)
