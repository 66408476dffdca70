"""Sixty days of a feed with its clock turned by hand, and a process that dies at every step of a decision."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from span_world import Rows, age, rows, write_csv, write_span

from components import features
from components.errors import BadInputError
from components.example_gen.source import Source
from components.example_gen.spans import find_spans
from components.gates.data.facts import gather
from components.gates.data.gate import DataGateConfig
from components.gates.data.profile import to_json
from components.outcomes import Outcome
from components.registry.registry import ALIASES, RegisteredVersion, Registry
from components.registry.tracking import Store
from pipeline.config.config import DataConfig
from pipeline.config.retrain import RetrainConfig
from pipeline.retrain import gathering, retrainer
from pipeline.retrain.evidence import Accuracy
from pipeline.retrain.gathering import Gatherer
from pipeline.retrain.history import History, read
from pipeline.retrain.measure import read_span
from pipeline.retrain.retrainer import Done, Retrainer
from pipeline.run.record import RunResult

FIRST = date(2026, 3, 1)
CONFIG = RetrainConfig(new_spans=None, champion_days=40, least_rows=50, failures=2)
CLASSES = features.AG_NEWS_CLASSES


class DeadError(BaseException):
    """The process is no more."""


class Shelf(Registry):
    """Holds what a run of this test pushes; it may be away."""

    def __init__(self) -> None:
        self.name = "ag_news"
        self.held: list[RegisteredVersion] = []
        self.profiles: dict[str, str] = {}
        self.away = False
        self.store = Store("sqlite://", None)

    def versions(self) -> list[RegisteredVersion]:
        if self.away:
            raise BadInputError("MLflow at http://away does not answer")
        return self.held[::-1]

    def push(self, run_id: str, profile: str, moment: datetime) -> str:
        number = str(len(self.held) + 1)
        older = [
            RegisteredVersion(*[getattr(item, name) for name in ("name", "version", "run_id", "created", "tags")], ())
            for item in self.held
        ]
        tags = {
            "serving_version": number,
            "run": run_id,
            "validation_status": "approved",
            "model_family": "transformer",
        }
        made = RegisteredVersion(
            "ag_news", number, f"mlflow{number}", int(moment.timestamp() * 1000), tags, ALIASES[:1]
        )
        self.held = [*older, made]
        self.profiles[number] = profile
        return number

    def test_metrics(self, version: RegisteredVersion) -> dict[str, float]:
        return {"accuracy": 0.95}

    def download(self, version: RegisteredVersion, target: Path) -> None:
        (target / "model").mkdir()
        (target / "profile.json").write_text(self.profiles[version.version])


@dataclass
class World:
    """A feed, a clock, a registry, and runs that push at once."""

    root: Path
    config: RetrainConfig = CONFIG
    window: str = "last 3"
    now: datetime = datetime(2026, 3, 1, 6, tzinfo=UTC)
    shelf: Shelf = field(default_factory=Shelf)
    ran: list[tuple[str, ...]] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    outcome: Callable[[], RunResult | None] = lambda: None

    def __post_init__(self) -> None:
        self.directory = self.root / "feed"
        self.directory.mkdir(parents=True, exist_ok=True)

    def arrive(self, day: int, train: Rows | None = None, **more: Any) -> None:
        """Day 1 is the first; each has rows of its own."""
        name = f"span-{FIRST + timedelta(days=day - 1):%Y%m%d}"
        own = rows(120, day * 1000) if train is None else train
        write_span(self.directory / name, own, rows(40, day * 1000 + 500), now=self.now, **more)

    def next_day(self, day: int) -> None:
        self.now = datetime(2026, 3, 1, 6, tzinfo=UTC) + timedelta(days=day - 1)

    def run(self, source: Source, run_id: str, champion: str | None) -> RunResult:
        self.ran.append(source.spans)
        special = self.outcome()
        if special:
            return special
        spans = {span.name: span for span in find_spans(self.directory, 0, self.now).whole}
        held: dict[str, list[tuple[bytes, int]]] = {split: [] for split in features.SPLITS}
        for name in source.spans:
            for split, found in read_span(self.directory, spans[name], CLASSES, 0.1).rows.items():
                held[split] += found
        version = self.shelf.push(run_id, to_json(gather(held, CLASSES).profile), self.now)
        return RunResult(Outcome.PUSHED, run_id, model_version=version)

    def make(self) -> Retrainer:
        """A process of its own: nothing is left of the one before but its files."""
        data = DataConfig(spans=self.window, malformed_budget=0.01, eval_fraction=0.1)
        gatherer = Gatherer(
            self.directory,
            data,
            DataGateConfig(),
            self.config,
            self.shelf,
            "settings and code",
            self.root / "predictions",
        )
        return Retrainer(
            "ag_news",
            self.root / "retrain",
            gatherer,
            self.run,
            lambda decisions, attempts: self.told.append(len(decisions)),
            {},
            lambda: self.now,
        )

    def once(self) -> Done:
        return self.make().once()

    def decisions(self) -> list[dict[str, Any]]:
        return read(self.root / "retrain" / "decisions.jsonl")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(gathering, "score", lambda *_: Accuracy(0.95, 400, 0.93, 0.97))

    def note(
        environment: Mapping[str, str], variable: str, seconds: float, event: str, facts: Mapping[str, Any]
    ) -> bool:
        made.alerts.append(f"{event}: {facts['text']}")
        return True

    monkeypatch.setattr(retrainer, "alert", note)
    monkeypatch.setattr(retrainer, "open_runs", lambda *_, **__: [])
    return made


def drifted(day: int) -> Rows:
    """Three rows of five have a word that nobody used before: more than is usual, and less than a gate minds."""
    return [
        (label, title, text.replace("again", "drought") if number // 4 % 5 < 3 else text)
        for number, (label, title, text) in enumerate(rows(120, day * 1000))
    ]


def poisoned(day: int) -> Rows:
    return [row for row in rows(160, day * 1000) if row[0] != "2"]


def test_sixty_days(world: World) -> None:
    statuses: dict[int, str] = {}
    for day in range(1, 61):
        world.next_day(day)
        if day == 30:
            world.arrive(day, poisoned(day))
        elif day != 10:
            world.arrive(day, drifted(day) if day >= 20 else None)
        world.shelf.away = day in (40, 41, 42)
        before = world.shelf.held[-1:]
        outcome = world.once()
        statuses[day] = outcome.outcome
        if outcome.outcome != "pushed":
            assert world.shelf.held[-1:] == before
    pushes = [day for day, status in statuses.items() if status == "pushed"]
    # The first day, the drift, and the champion's fortieth day.
    assert pushes == [1, 20, 60]
    assert {day for day, status in statuses.items() if status == "refused"} == {30}
    assert {day for day, status in statuses.items() if status == "bad input"} == {40, 41, 42}
    assert statuses[10] == statuses[31] == statuses[43] == "no"
    # Each decision is written down and told, whatever it was.
    lines = world.decisions()
    assert len(lines) == 60
    assert world.told == list(range(1, 61))
    assert "Sports" in lines[29]["reasons"][0]
    assert "retrain.drift" in lines[19]["reasons"][0]
    assert lines[9]["evidence"]["new"] == lines[8]["evidence"]["new"]
    assert all("span-20260330" not in line["evidence"]["window"] for line in lines[29:] if line["evidence"])
    assert "span-20260330 left out, refused" in " ".join(lines[30]["evidence"]["left_out"])
    # The outage is told at its second failure, and again at the try of the third day.
    assert [alert.split(":")[0] for alert in world.alerts] == ["span_refused", "circuit_open", "circuit_open"]
    assert "MLflow at http://away does not answer" in world.alerts[1]
    assert lines[42]["circuit"].startswith("closed")
    assert json.dumps(lines)


def test_the_champion_answers_no_row_that_it_was_trained_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[int] = []

    def score(model: Path, rows: list[tuple[bytes, int]], *_: Any) -> Accuracy:
        scored.append(len(rows))
        return Accuracy(0.95, len(rows), 0.93, 0.97)

    monkeypatch.setattr(gathering, "score", score)
    world.config = CONFIG.model_copy(update={"least_rows": 20})
    for day, arrives in ((1, True), (2, False), (3, True)):
        world.next_day(day)
        if arrives:
            world.arrive(day)
        world.once()
    # Of the span of day 1, on which it was trained, the test rows alone; of that of day 3 all.
    assert scored == [40, 160]


def test_a_look_leaves_no_trace(world: World) -> None:
    world.arrive(1)
    assert world.make().look().outcome is Outcome.YES
    assert not (world.root / "retrain").exists()
    assert world.ran == []


def test_the_same_reason_does_not_start_the_same_run_again(world: World) -> None:
    world.config = RetrainConfig(new_spans=1, champion_days=1, least_rows=50)
    world.arrive(1)
    assert world.once().outcome == "pushed"
    world.next_day(9)
    outcome = world.once()
    assert outcome.outcome == "no"
    assert "on the same spans already" in outcome.reasons[0]
    world.arrive(9)
    assert world.once().outcome == "pushed"


def test_a_rejected_window_is_not_run_again_and_a_failed_one_is(world: World) -> None:
    world.config = RetrainConfig(new_spans=1, least_rows=50, failures=9)
    world.arrive(1)
    world.outcome = lambda: RunResult(Outcome.FAILED, "", reasons=["disk full"])
    assert (world.once().outcome, world.once().outcome) == ("failed", "failed")
    world.outcome = lambda: RunResult(Outcome.REJECTED, "", reasons=["floor missed"])
    rejected = world.once()
    assert (rejected.outcome, rejected.reasons) == ("rejected", ("floor missed",))
    assert world.once().outcome == "no"
    assert len(world.ran) == 3


def test_two_failures_open_the_circuit_until_the_reset(world: World) -> None:
    world.config = RetrainConfig(least_rows=50, cool_down_hours=None)
    world.arrive(1)
    world.outcome = lambda: RunResult(Outcome.FAILED, "", reasons=["disk full"])
    world.once()
    assert world.alerts == []
    world.once()
    assert len(world.alerts) == 1
    assert "disk full" in world.alerts[0]
    world.outcome = lambda: None
    world.next_day(50)
    closed = world.once()
    assert (closed.outcome, len(world.ran)) == ("bad input", 2)
    assert "newsdesk retrain --reset" in closed.reasons[0]
    assert world.decisions()[-1]["reasons"] == list(closed.reasons)
    world.make().reset()
    assert world.once().outcome == "pushed"


def test_a_late_span_is_told_and_left_out(world: World) -> None:
    world.config = RetrainConfig(new_spans=1, least_rows=50)
    for day in (1, 3):
        world.arrive(day)
    world.next_day(3)
    assert world.once().outcome == "pushed"
    world.arrive(2)
    world.arrive(4)
    world.next_day(5)
    outcome = world.once()
    assert outcome.outcome == "pushed"
    assert world.ran[-1] == ("span-20260301", "span-20260303", "span-20260304")
    assert outcome.decision
    assert "span-20260302 left out, late: it came after span-20260303" in outcome.decision.evidence.left_out[0]


def test_a_refused_span_is_read_once_it_is_mended(world: World) -> None:
    world.config = RetrainConfig(new_spans=1, least_rows=50)
    world.arrive(1)
    world.once()
    world.next_day(2)
    world.arrive(2, [("9", "A title", "and a text"), *rows(120, 2000)])
    refused = world.once()
    assert refused.outcome == "refused"
    assert 'label "9" in 1 rows is unknown' in refused.reasons[0]
    # It is refused once, and simply not there afterwards.
    assert world.once().outcome == "no"
    assert len(world.alerts) == 1
    mended = world.directory / "span-20260302"
    write_csv(mended / "train.csv", rows(120, 2000))
    age(mended, 0, world.now)
    world.next_day(3)
    assert world.once().outcome == "pushed"
    assert world.ran[-1] == ("span-20260301", "span-20260302")


def test_a_backfill_runs_each_window_in_order_and_goes_on_where_it_stopped(world: World) -> None:
    for day in (1, 2, 3, 4):
        world.arrive(day)
    world.next_day(9)
    world.outcome = lambda: RunResult(Outcome.FAILED, "", reasons=["disk full"]) if len(world.ran) == 3 else None
    first = world.make().backfill("20260302..20260304")
    assert [item.outcome for item in first] == ["pushed", "pushed", "failed"]
    again = world.make().backfill("20260302..20260304")
    assert [item.outcome for item in again] == ["pushed"]
    assert world.ran == [
        ("span-20260301", "span-20260302"),
        ("span-20260301", "span-20260302", "span-20260303"),
        ("span-20260302", "span-20260303", "span-20260304"),
        ("span-20260302", "span-20260303", "span-20260304"),
    ]


@pytest.mark.parametrize(("days", "window"), [("last 3", "last 3"), ("20260301..20260302", "20260301..20260309")])
def test_a_backfill_that_means_nothing_is_refused(world: World, days: str, window: str) -> None:
    world.window = window
    with pytest.raises(BadInputError):
        world.make().backfill(days)


def test_a_run_ended_from_outside_is_no_failure(world: World) -> None:
    world.arrive(1)

    def stop() -> RunResult | None:
        raise SystemExit(143)

    world.outcome = stop
    with pytest.raises(SystemExit):
        world.once()
    assert [item.outcome for item in world.make().history.attempts()] == ["stopped"]
    world.outcome = lambda: None
    assert world.once().outcome == "pushed"
    assert world.alerts == []


def test_a_run_that_was_cut_before_the_alias_moved_has_not_pushed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promote tags the version first, so the tag alone shows nothing; the spans are tried again."""
    world.config = RetrainConfig(new_spans=1, least_rows=50)
    world.arrive(1)
    world.once()
    world.next_day(2)
    world.arrive(2)

    def cut() -> RunResult | None:
        champion = world.shelf.held[-1]
        world.shelf.push(world.make().history.attempts()[-1].run_id, "{}", world.now)
        world.shelf.held = [champion, replace(world.shelf.held[-1], aliases=())]
        raise DeadError

    world.outcome = cut
    # The process is gone before it can write that it was stopped.
    with monkeypatch.context() as patch:
        patch.setattr(History, "end", lambda *_: None)
        with pytest.raises(DeadError):
            world.once()
    world.outcome = lambda: None
    done = world.once()
    assert done.outcome == "pushed"
    assert [item.outcome for item in world.make().history.attempts()] == ["pushed", "killed", "pushed"]


@pytest.mark.parametrize("after", [False, True], ids=["before a write", "after a write"])
def test_death_at_any_step_ends_with_the_same_champion_or_a_better_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """The disk refuses everything from its n-th write on, as it would a process that is gone."""
    monkeypatch.setattr(gathering, "score", lambda *_: Accuracy(0.95, 400, 0.93, 0.97))
    monkeypatch.setattr(retrainer, "open_runs", lambda *_, **__: [])
    config = RetrainConfig(new_spans=1, least_rows=50)
    steps = 0
    for cut in range(50):
        world = World(tmp_path / str(cut), config)
        world.arrive(1)
        world.once()
        world.next_day(2)
        world.arrive(2)
        with monkeypatch.context() as patch:
            steps = 0

            def sync(handle: int, cut: int = cut) -> None:
                nonlocal steps
                steps += 1
                if steps > cut:
                    raise DeadError

            def opened(path: Any, flags: int, *mode: int, cut: int = cut, real: Any = os.open, **more: Any) -> int:
                nonlocal steps
                if flags & os.O_APPEND:
                    steps += 1
                    if steps > cut:
                        raise DeadError
                return real(path, flags, *mode, **more)

            patch.setattr(os, "fsync" if after else "open", sync if after else opened)
            died = False
            try:
                world.once()
            except DeadError:
                died = True
        champion = world.shelf.held[-1].version
        assert champion in ("1", "2")
        outcome = world.once()
        # Whatever was cut off, the next decision ends with the model of both days serving, and does not train it twice.
        assert world.shelf.held[-1].version == "2", (cut, outcome)
        assert outcome.outcome == ("no" if champion == "2" else "pushed")
        assert all(item.outcome != "started" for item in world.make().history.attempts())
        if not died:
            break
    assert steps > 2
