"""The verdict of a gate: complete on disk before the run stops, and stopped by nothing but a failed check."""

import importlib.util
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from components.errors import GateRejectedError
from components.gates import verdict as module
from components.gates.verdict import MOST_ROWS, VERDICT_FILE, Check, conclude

GOOD = Check("rows", "fail", True, "80 rows", 80.0, 10.0)
BAD = Check("leakage", "fail", False, "3 test rows stand in train", 0.03, 0.01, ("a row", "通貨"))
WORSE = Check("near_empty", "fail", False, "half of the rows are empty")
WARNED = Check("duplicates", "warn", False, "a few rows repeat")
FINE_WARNING = Check("class_ratio", "warn", True, "classes are even")


def read(directory: Path) -> dict:
    return json.loads((directory / VERDICT_FILE).read_text(encoding="utf-8"))


def test_nothing_missed_passes(tmp_path: Path) -> None:
    conclude(str(tmp_path), "DataGate", [GOOD, FINE_WARNING], {"rows": 80})
    assert read(tmp_path) == {
        "gate": "DataGate",
        "passed": True,
        "reasons": [],
        "warnings": [],
        "checks": [
            {"name": "rows", "severity": "fail", "passed": True, "sentence": "80 rows", "value": 80.0, "limit": 10.0,
             "rows": []},
            {"name": "class_ratio", "severity": "warn", "passed": True, "sentence": "classes are even", "value": None,
             "limit": None, "rows": []},
        ],
        "numbers": {"rows": 80},
    }  # fmt: skip


def test_a_warning_is_told_and_passes(tmp_path: Path) -> None:
    conclude(str(tmp_path), "DataGate", [WARNED, GOOD])
    found = read(tmp_path)
    assert (found["passed"], found["reasons"], found["warnings"]) == (True, [], ["a few rows repeat"])
    assert found["numbers"] == {}


def test_every_failed_check_is_a_reason_in_its_order(tmp_path: Path) -> None:
    with pytest.raises(GateRejectedError) as caught:
        conclude(str(tmp_path), "DataGate", [WORSE, GOOD, WARNED, BAD])
    assert caught.value.gate == "DataGate"
    assert caught.value.reasons == ["half of the rows are empty", "3 test rows stand in train"]
    found = read(tmp_path)
    assert (found["passed"], found["reasons"]) == (False, caught.value.reasons)
    assert found["warnings"] == ["a few rows repeat"]
    assert [check["name"] for check in found["checks"]] == ["near_empty", "rows", "duplicates", "leakage"]
    assert found["checks"][3]["rows"] == ["a row", "通貨"]


def test_the_verdict_is_on_disk_before_the_run_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    class WatchingError(GateRejectedError):
        def __init__(self, *arguments: Any):
            seen.append(read(tmp_path)["passed"])
            super().__init__(*arguments)

    monkeypatch.setattr(module, "GateRejectedError", WatchingError)
    with pytest.raises(GateRejectedError):
        conclude(str(tmp_path), "DataGate", [BAD])
    assert seen == [False]


def test_the_error_carries_what_the_gate_wrote(tmp_path: Path) -> None:
    """The launcher deletes the outputs of a node that raises."""
    (tmp_path / "predictions.npz").write_bytes(b"what the champion answered")
    (tmp_path / "directory").mkdir()
    with pytest.raises(GateRejectedError) as caught:
        conclude(str(tmp_path), "ModelGate", [BAD])
    assert caught.value.files == {
        VERDICT_FILE: (tmp_path / VERDICT_FILE).read_bytes(),
        "predictions.npz": b"what the champion answered",
    }


def test_words_are_kept_as_they_are(tmp_path: Path) -> None:
    conclude(str(tmp_path), "DataGate", [Check("labels", "warn", False, "the label is „Währung“ 通貨")])
    assert "„Währung“ 通貨" in (tmp_path / VERDICT_FILE).read_text(encoding="utf-8")


def test_the_most_rows_of_a_check_are_ten() -> None:
    assert MOST_ROWS == 10


MUTANTS = {
    "nothing stops": ("    if reasons:", "    if False:"),
    "only several reasons stop": ("    if reasons:", "    if len(reasons) > 1:"),
    "a failure is a warning": ('if check.severity == "fail"]', 'if check.severity == "off"]'),
    "the first check decides": ("in checks if not check.passed", "in checks[:1] if not check.passed"),
    "what passed is missed": ("if not check.passed]", "if check.passed]"),
    "always passed on disk": ('"passed": not reasons', '"passed": True'),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new"), MUTANTS.values(), ids=MUTANTS)
def test_a_mutant_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    def stops(conclude: object) -> list[tuple[bool, bool]]:
        """Returns for three lists of checks whether the run stopped, and whether the verdict says so."""
        found = []
        for checks in ([GOOD], [GOOD, BAD], [GOOD, WARNED]):
            try:
                conclude(str(tmp_path), "DataGate", checks)  # type: ignore[operator]
                stopped = False
            except GateRejectedError:
                stopped = True
            found.append((stopped, not read(tmp_path)["passed"]))
        return found

    expected = [(False, False), (True, True), (False, False)]
    assert stops(conclude) == expected
    assert stops(mutated(tmp_path, monkeypatch, old, new).conclude) != expected


def mutated(directory: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> ModuleType:
    """Imports a copy of the module with one piece of its source replaced."""
    source = inspect.getsource(module)
    assert source.count(old) == 1
    path = directory / "mutated_verdict.py"
    path.write_text(source.replace(old, new))
    spec = importlib.util.spec_from_file_location("mutated_verdict", path)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mutated_verdict", copy)
    spec.loader.exec_module(copy)
    return copy
