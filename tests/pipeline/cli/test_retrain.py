"""``newsdesk retrain`` and ``newsdesk schedule``: what is asked for, what is said, and with which exit code."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from span_world import rows, write_span

from components.errors import BadInputError
from components.outcomes import Outcome
from pipeline.cli.commands import retrain, schedule
from pipeline.retrain.retrainer import Done

PUSHED = Done(Outcome.PUSHED, ("2 new spans",), run_id="run-1", model_version="3")
QUIET = Done(Outcome.NO, ())
REJECTED = Done(Outcome.REJECTED, ("accuracy is low",), run_id="run-2")
FAILED = Done(Outcome.FAILED, ("boom",), run_id="run-3")
REFUSED = Done(Outcome.REFUSED, ("span 20260302 is refused",))
BAD_INPUT = Done(Outcome.BAD_INPUT, ("no such directory",))


class Retrainer:
    """Stands in for the one that decides; keeps what it was asked."""

    def __init__(self, *outcomes: Done):
        self.outcomes, self.asked = list(outcomes), []

    def once(self) -> Done:
        self.asked.append("once")
        return self.outcomes[0]

    def backfill(self, days: str) -> list[Done]:
        self.asked.append(f"backfill {days}")
        return self.outcomes

    def reset(self) -> None:
        self.asked.append("reset")


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> Any:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def spans(tmp_path: Path) -> Path:
    directory = tmp_path / "spans"
    directory.mkdir()
    write_span(directory / "span-20260301", rows(8), rows(4, 100))
    return directory


def call(command: Any, *arguments: str | Path) -> Any:
    return CliRunner().invoke(command, [str(item) for item in arguments])


@pytest.fixture
def run(tmp_path: Path, spans: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls ``newsdesk retrain`` with a retrainer; the process's own output stays where it is."""
    from contextlib import contextmanager
    from io import StringIO

    def invoke(standing_in: Retrainer, *arguments: str) -> Any:
        out, err = StringIO(), StringIO()

        @contextmanager
        def quiet(_: Path) -> Any:
            yield out, err

        monkeypatch.setattr("pipeline.cli.screen.quiet", quiet)
        monkeypatch.setattr(retrain, "_open", lambda *_: standing_in)
        done = call(retrain.command, "--data", spans, "--workspace", tmp_path / "ws", *arguments)
        return done.exit_code, out.getvalue(), err.getvalue()

    return invoke


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        (PUSHED, 0, "pushed, run run-1, version 3"),
        (QUIET, 0, "no"),
        (REJECTED, 3, "rejected, run run-2"),
        (FAILED, 1, "failed, run run-3"),
        (REFUSED, 3, "refused"),
        (BAD_INPUT, 2, "failed"),
    ],
)
def test_the_exit_code_says_what_came_of_it(run: Any, outcome: Done, code: int, said: str) -> None:
    asked = Retrainer(outcome)
    found, out, err = run(asked)
    assert (found, asked.asked) == (code, ["once"])
    assert out.splitlines()[-1] == said
    assert err.splitlines() == ([f"newsdesk: {outcome.reasons[0]}"] if code else [])


def test_json_is_all_that_stands_on_stdout(run: Any) -> None:
    code, out, err = run(Retrainer(PUSHED), "--json")
    assert code == 0
    assert json.loads(out) == {
        "status": "pushed",
        "reasons": ["2 new spans"],
        "run_id": "run-1",
        "model_version": "3",
        "decision": None,
    }
    assert "spans" in err


def test_a_backfill_ends_with_the_worst_of_its_runs(run: Any) -> None:
    asked = Retrainer(PUSHED, FAILED, REJECTED)
    code, out, _ = run(asked, "--backfill", "20260301..20260303", "--json")
    assert (code, asked.asked) == (1, ["backfill 20260301..20260303"])
    assert [item["status"] for item in json.loads(out)] == ["pushed", "failed", "rejected"]
    assert run(Retrainer(PUSHED, REJECTED), "--backfill", "20260301..20260303")[0] == 3
    assert run(Retrainer(PUSHED), "--backfill", "20260301..20260303")[0] == 0


def test_reset_decides_nothing(run: Any) -> None:
    asked = Retrainer()
    code, out, _ = run(asked, "--reset")
    assert (code, asked.asked) == (0, ["reset"])
    assert "the circuit is closed" in out
    assert run(Retrainer(), "--reset", "--json")[1].splitlines()[-1] == "null"


@pytest.mark.parametrize(
    "flags", [("--dry-run", "--reset"), ("--reset", "--backfill", "20260301"), ("--dry-run", "--backfill", "2")]
)
def test_one_thing_at_a_time(run: Any, spans: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    done = call(retrain.command, "--data", spans, "--workspace", tmp_path / "ws", *flags)
    assert isinstance(done.exception, BadInputError)
    assert "choose one" in str(done.exception)
    assert not (tmp_path / "ws").exists()


def test_data_without_spans_are_refused(tmp_path: Path, make_data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = call(retrain.command, "--data", make_data(), "--workspace", tmp_path / "ws")
    assert isinstance(done.exception, BadInputError)
    assert "holds no span-YYYYMMDD directory" in str(done.exception)


@pytest.mark.parametrize("target", ["systemd", "crontab", "kubernetes"])
def test_a_printed_schedule_repeats_the_options(
    target: str, spans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_executable", lambda: "/opt/newsdesk/bin/newsdesk")
    settings = ["--set", "schedule.cron=15 4 * * *", "--set", "transformer.epochs=2"]
    arguments = ["--data", spans, "--workspace", tmp_path / "ws", "--model", "transformer", *settings]
    done = call(schedule.command, *arguments, "--print", target)
    assert done.exit_code == 0, done.output
    assert "transformer.epochs=2" in done.stdout
    places = ["/data/spans", "/data/workspace"] if target == "kubernetes" else [str(spans), str(tmp_path / "ws")]
    assert all(place in done.stdout for place in places)
    assert not (tmp_path / "ws").exists()


def test_a_schedule_is_kept_until_the_end(spans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []

    class Keeper:
        def __init__(self, config: Any, state: Path, start: Any):
            kept.append((config.cron, state))

        def stop(self, *_: object) -> None:
            pass

        def keep(self) -> None:
            kept.append("kept")

    monkeypatch.setattr("pipeline.schedule.keeper.Keeper", Keeper)
    cron = "schedule.cron=15 4 * * *"
    done = call(schedule.command, "--data", spans, "--workspace", tmp_path / "ws", "--set", cron)
    assert done.exit_code == 0, done.output
    assert kept == [("15 4 * * *", tmp_path / "ws" / "retrain"), "kept"]
    assert "next decision 2" in done.stderr


def test_a_schedule_needs_data() -> None:
    done = call(schedule.command)
    assert done.exit_code == 2
    assert "--data" in done.output
