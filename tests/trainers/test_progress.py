"""The meter: when it says something, and that its rate and the time left are right."""

import logging

import numpy as np
import pytest

from trainers import progress
from trainers.progress import Meter


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Catches what the meter says."""
    caplog.set_level(logging.INFO, "newsdesk.trainer")
    return caplog


def run(meter: Meter, clock: Clock, seconds: list[float], rows: int = 10, note: str = "") -> None:
    """Counts ``rows`` after each of the given times."""
    for passed in seconds:
        clock.now += passed
        meter.add(rows, note)


def test_share_rate_and_time_left_are_exact(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    meter = Meter("epoch 1 of 1", 200)
    run(meter, clock, [1.0] * 9)
    assert said.messages == ["epoch 1 of 1: 30%, 10 rows/s, 14 s left", "epoch 1 of 1: 40%, 10 rows/s, 12 s left"]
    run(meter, clock, [4.0], rows=90)
    assert said.messages[2:] == ["epoch 1 of 1: 90%, 16 rows/s, 1 s left"]


def test_first_calls_do_not_count(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    meter = Meter("encoding", 1000)
    run(meter, clock, [30.0, 20.0, 10.0, 5.0, 5.0], rows=1)
    assert said.messages == []
    run(meter, clock, [2.0], rows=95)
    assert said.messages == ["encoding: 10%, 48 rows/s, 19 s left"]


def test_it_speaks_every_two_seconds_at_most(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    start = clock.now
    meter = Meter("encoding", 10_000)
    times = []
    for _ in range(1000):
        before = len(said.messages)
        run(meter, clock, [0.0625])
        if len(said.messages) > before:
            times.append(clock.now - start)
    assert len(times) == 31
    assert times[0] == 2.0
    assert set(np.diff(times)) == {2.0}


def test_a_loop_of_less_than_two_seconds_says_nothing(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    run(Meter("encoding", 10_000), clock, [0.0019] * 1000)
    assert said.messages == []


def test_many_calls_at_one_instant_do_not_divide_by_zero(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    meter = Meter("encoding", 100)
    run(meter, clock, [0.0, 0.0, 0.0, 0.0, 3.0, 0.0])
    (message,) = said.messages
    assert message.startswith("encoding: 60%, ")
    assert message.endswith(" rows/s, 0 s left")


def test_rows_that_follow_belong_to_the_time_left_and_not_to_the_share(
    clock: Clock, said: pytest.LogCaptureFixture
) -> None:
    run(Meter("epoch 1 of 3", 100, later_rows=200), clock, [1.0] * 6)
    assert said.messages == ["epoch 1 of 3: 60%, 10 rows/s, 24 s left"]


@pytest.mark.parametrize(
    ("rows_left", "shown"),
    [(0, "0 s"), (10, "1 s"), (890, "89 s"), (900, "2 min"), (1440, "2 min"), (36_000, "60 min"), (72_000, "120 min")],
)
def test_short_times_are_in_seconds_and_long_ones_in_minutes(
    clock: Clock, said: pytest.LogCaptureFixture, rows_left: int, shown: str
) -> None:
    run(Meter("encoding", 60, later_rows=rows_left), clock, [1.0] * 6)
    assert said.messages == [f"encoding: 100%, 10 rows/s, {shown} left"]


def test_note_comes_after_the_share_and_thousands_are_set_apart(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    run(Meter("epoch 1 of 1", 100_000), clock, [1.0] * 6, rows=1234, note=", loss 0.250")
    assert said.messages == ["epoch 1 of 1: 7%, loss 0.250, 1,234 rows/s, 75 s left"]


def test_records_are_marked_as_passing(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    run(Meter("encoding", 100), clock, [1.0] * 8)
    assert [(record.name, record.levelname, vars(record)["passing"]) for record in said.records] == [
        ("newsdesk.trainer", "INFO", True)
    ] * 2
