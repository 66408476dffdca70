"""The verdict of a gate: written whole, read by one function, and a no for nothing but a failed check."""

import json
import math
from pathlib import Path

import pytest

from components.errors import BadInputError, GateRejectedError
from components.file_names import VERDICT_FILE
from components.gates.verdict import Check, Verdict, check_verdict, read_verdict, write_verdict

GOOD = Check("rows", "fail", True, "80 rows", 80.0, 10.0)
BAD = Check("leakage", "fail", False, "3 test rows stand in train", 0.03, 0.01, ("a row", "通貨"))
WORSE = Check("near_empty", "fail", False, "half of the rows are empty")
WARNED = Check("duplicates", "warn", False, "a few rows repeat")
NO_NUMBER = Check("near_empty", "fail", False, "no row can be measured", None, 0.5)
FINE_WARNING = Check("class_ratio", "warn", True, "classes are even")


def read(directory: Path) -> dict:
    """Reads as a strict reader does: JSON has no NaN."""
    return json.loads((directory / VERDICT_FILE).read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_nothing_missed_passes(tmp_path: Path) -> None:
    write_verdict(str(tmp_path), "DataGate", [GOOD, FINE_WARNING], {"rows": 80})
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
    check_verdict(read_verdict(tmp_path))


@pytest.mark.parametrize(
    ("checks", "missed", "warned"),
    [
        pytest.param([], [], [], id="no checks"),
        pytest.param([GOOD], [], [], id="passed"),
        pytest.param([FINE_WARNING], [], [], id="a warning that passed"),
        pytest.param([GOOD, WARNED], [], [WARNED], id="warned"),
        pytest.param([BAD], [BAD], [], id="failed"),
        pytest.param([BAD, GOOD], [BAD], [], id="the first failed"),
        pytest.param([GOOD, BAD], [BAD], [], id="the last failed"),
        pytest.param([NO_NUMBER], [NO_NUMBER], [], id="failed without a number"),
        pytest.param([WORSE, GOOD, WARNED, BAD], [WORSE, BAD], [WARNED], id="reasons in their order"),
    ],
)
def test_a_failed_check_stops_the_run_and_a_warning_is_told(
    tmp_path: Path, checks: list[Check], missed: list[Check], warned: list[Check]
) -> None:
    write_verdict(str(tmp_path), "DataGate", checks)
    found = read_verdict(tmp_path)
    assert read(tmp_path)["passed"] == found.passed == (missed == [])
    assert found.reasons == [check.sentence for check in missed]
    assert found.warnings == [check.sentence for check in warned]
    assert (found.gate, found.numbers, found.checks) == ("DataGate", {}, checks)
    if missed:
        with pytest.raises(GateRejectedError) as caught:
            check_verdict(found)
        assert (caught.value.gate, caught.value.reasons) == ("DataGate", found.reasons)
        assert str(caught.value) == f"DataGate: {'; '.join(found.reasons)}"
    else:
        check_verdict(found)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_verdict(str(tmp_path), "DataGate", [BAD, WARNED], {"rows": 3, "nested": {"words": [1, 2]}})
    assert read_verdict(str(tmp_path)) == Verdict(
        "DataGate", False, [BAD.sentence], [WARNED.sentence], [BAD, WARNED], {"rows": 3, "nested": {"words": [1, 2]}}
    )


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_none(tmp_path: Path, number: float) -> None:
    check = Check("near_empty", "fail", False, f"it is {number}", number, number)
    write_verdict(str(tmp_path), "DataGate", [check], {"mean": number, "each": [number, 1.5]})
    assert read(tmp_path)["numbers"] == {"mean": None, "each": [None, 1.5]}
    (found,) = read_verdict(tmp_path).checks
    assert (found.value, found.limit, found.sentence) == (None, None, f"it is {number}")


def test_words_are_kept_as_they_are(tmp_path: Path) -> None:
    write_verdict(str(tmp_path), "DataGate", [Check("labels", "warn", False, "the label is „Währung“ 通貨")])
    assert "„Währung“ 通貨" in (tmp_path / VERDICT_FILE).read_text(encoding="utf-8")


def test_half_a_character_is_escaped(tmp_path: Path) -> None:
    """A model's directory may have a name that is no Unicode, and the sentence about it still reaches the page."""
    write_verdict(str(tmp_path), "ServingGate", [Check("files", "fail", False, "caf\udce9 is no model")], {"\ud800": 1})
    found = read_verdict(tmp_path)
    assert found.reasons == [found.checks[0].sentence] == ["caf\\udce9 is no model"]
    assert found.numbers == {"\\ud800": 1}


def test_a_verdict_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"verdict\.json is missing or damaged: run again with --no-cache"):
        read_verdict(tmp_path)


@pytest.mark.parametrize("flaw", [{"passed": "perhaps"}, {"checks": [{"name": "x"}]}, {"gate": None}])
def test_a_damaged_verdict_is_an_error(tmp_path: Path, flaw: dict) -> None:
    (tmp_path / VERDICT_FILE).write_text(json.dumps({"gate": "DataGate", "passed": True, **flaw}))
    with pytest.raises(BadInputError, match="damaged"):
        read_verdict(tmp_path)
