"""The files that survive a kill, and the circuit that is read from them."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.clean import to_json
from components.errors import BadInputError
from components.files import append_line
from components.outcomes import Outcome
from pipeline.retrain.circuit import read_circuit
from pipeline.retrain.history import History, Notes, one_at_a_time, read

NOW = datetime(2026, 3, 10, 6, tzinfo=UTC)


def test_a_line_that_a_kill_tore_costs_itself_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "new" / "lines.jsonl"
    append_line(path, to_json({"n": 1}))
    whole = path.read_bytes()
    append_line(path, to_json({"n": 2}))
    for cut in range(len(whole) + 1, len(path.read_bytes()) - 1):
        path.write_bytes(whole + b'{"n": 2}\n'[: cut - len(whole)])
        append_line(path, to_json({"n": 3}))
        assert read(path) == [{"n": 1}, {"n": 3}]
    assert "not written to their end" in caplog.text


def test_a_line_without_what_is_asked_for_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "lines.jsonl").write_text('{"a": 1}\n{"id": "1", "a": 2}\n', encoding="utf-8")
    assert read(tmp_path / "lines.jsonl", "id") == [{"id": "1", "a": 2}]
    assert "holds 1 lines" in caplog.text


def test_a_number_that_is_not_finite_is_null(tmp_path: Path) -> None:
    append_line(tmp_path / "lines.jsonl", to_json({"drift": float("nan"), "accuracy": float("inf")}))
    assert read(tmp_path / "lines.jsonl") == [{"drift": None, "accuracy": None}]


def test_lines_of_two_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom components.files import append_line\n"
        "line = lambda n: json.dumps({'who': sys.argv[2], 'n': n, 'long': 'x' * 5000})\n"
        "for n in range(200): append_line(Path(sys.argv[1]), line(n))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), who]) for who in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    found = read(path)
    assert len(found) == 400
    for who in "ab":
        assert [line["n"] for line in found if line["who"] == who] == list(range(200))


def test_an_attempt_is_what_was_last_said_of_it(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.start("one", NOW, {"span-20260301": "d1"}, "work")
    (attempt,) = history.attempts()
    assert (attempt.outcome, attempt.spans, attempt.work) == ("started", {"span-20260301": "d1"}, "work")
    history.end("one", NOW + timedelta(hours=1), Outcome.REJECTED, ("too bad",))
    history.end("two", NOW + timedelta(hours=2), Outcome.FAILED)
    one, two = history.attempts()
    assert (one.outcome, one.reasons, one.spans, one.work) == (
        "rejected",
        ("too bad",),
        {"span-20260301": "d1"},
        "work",
    )
    assert (two.outcome, two.spans) == ("failed", {})


def test_what_is_noted_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes(tmp_path)
    assert notes.read() == {}
    notes.write(seen={"a": "1"}, told=2)
    notes.write(told=3)
    assert notes.read() == {"seen": {"a": "1"}, "told": 3}

    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError):  # noqa: PT011  any will do
        notes.write(told=4)
    assert notes.read()["told"] == 3
    notes.path.write_text("{")
    with pytest.raises(BadInputError, match="delete it"):
        notes.read()


def test_one_retraining_at_a_time_and_no_lock_is_left_by_a_kill(tmp_path: Path) -> None:
    with one_at_a_time(tmp_path), pytest.raises(BadInputError, match="another retraining"), one_at_a_time(tmp_path):
        pass
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom pipeline.retrain.history import one_at_a_time\n"
        "with one_at_a_time(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    with one_at_a_time(tmp_path):
        pass


def play(directory: Path, statuses: str) -> History:
    """p: pushed, r: rejected, f: failed, k: killed, s: stopped, 0: reset; an hour between two."""
    names = {"p": Outcome.PUSHED, "r": Outcome.REJECTED, "f": Outcome.FAILED, "k": Outcome.KILLED, "s": Outcome.STOPPED}
    history = History(directory)
    for number, status in enumerate(statuses):
        moment = NOW + timedelta(hours=number)
        if status == "0":
            history.reset(moment)
        else:
            history.end(f"run{number}", moment, names[status], (f"reason {number}",))
    return history


@pytest.mark.parametrize(
    ("statuses", "failures", "is_open"),
    [
        ("", 0, False),
        ("f", 1, False),
        ("ff", 2, True),
        ("fr", 2, True),
        ("fk", 2, True),
        ("fs", 1, False),
        ("fsf", 2, True),
        ("fpf", 1, False),
        ("ffp", 0, False),
        ("ff0", 0, False),
        ("ff0f", 1, False),
        ("fffff", 5, True),
    ],
)
def test_the_circuit_opens_on_failures_in_a_row(tmp_path: Path, statuses: str, failures: int, is_open: bool) -> None:
    attempts = play(tmp_path, statuses).since_reset()
    circuit = read_circuit(attempts, 2, 20, NOW + timedelta(hours=len(statuses)))
    assert (circuit.failures, circuit.open) == (failures, is_open)


def test_after_the_cool_down_one_try_is_allowed_and_its_failure_opens_it_again(tmp_path: Path) -> None:
    history = play(tmp_path, "ff")
    failed = NOW + timedelta(hours=1)
    before, after = (read_circuit(history.since_reset(), 2, 20, failed + timedelta(hours=h)) for h in (19.9, 20))
    assert before.open
    assert not after.open
    assert before.until == failed + timedelta(hours=20)
    assert str(before).startswith("open since 2026-03-10T07:00+00:00, until 2026-03-11T03:00+00:00: 2 failed in a row")
    assert "reason 1" in str(before)
    assert str(after).startswith("half-open")
    history.end("again", failed + timedelta(hours=20), Outcome.FAILED)
    assert read_circuit(history.since_reset(), 2, 20, failed + timedelta(hours=39.9)).open


def test_a_reset_closes_it_though_the_clock_was_ahead(tmp_path: Path) -> None:
    """What counts is the place in the file."""
    history = play(tmp_path, "ff")
    history.reset(NOW - timedelta(days=3))
    assert not read_circuit(history.since_reset(), 2, None, NOW).open
    history.end("again", NOW - timedelta(days=2), Outcome.FAILED)
    assert [item.run_id for item in history.since_reset()] == ["again"]


def test_without_a_cool_down_only_a_reset_closes_it(tmp_path: Path) -> None:
    history = play(tmp_path, "ff")
    assert read_circuit(history.since_reset(), 2, None, NOW + timedelta(days=999)).open
    history.reset(NOW + timedelta(days=1000))
    assert not read_circuit(history.since_reset(), 2, None, NOW + timedelta(days=1000)).open


def test_every_line_is_json(tmp_path: Path) -> None:
    history = play(tmp_path, "f0p")
    assert [json.loads(line)["kind"] for line in history.path.read_text().splitlines()] == ["ended", "reset", "ended"]


def test_a_status_that_is_not_known_is_one_sentence(tmp_path: Path) -> None:
    history = play(tmp_path, "p")
    history.path.write_text(history.path.read_text().replace("pushed", "paused"))
    with pytest.raises(BadInputError, match="has a status 'paused', which this version of newsdesk does not know"):
        history.attempts()
