"""The cron expression: its instants, the clock's changes, and that every spelling of it means the same."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from components.errors import BadInputError
from pipeline.schedule.cron import Cron, ScheduleConfig

ZONES = ("UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo")
SPRING, AUTUMN = datetime(2027, 3, 27, 12, tzinfo=UTC), datetime(2027, 10, 30, 12, tzinfo=UTC)


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    """Returns fields of every form that is read, without those that limit nothing in disguise."""
    one = st.integers(low, high)
    several = st.lists(one, min_size=1, max_size=3, unique=True).map(lambda values: ",".join(map(str, values)))
    ranges = st.tuples(one, one).map(lambda ends: f"{min(ends)}-{max(ends)}")
    steps = st.tuples(st.sampled_from(("*", f"{low}-{high}")), st.integers(2, 7)).map(
        lambda pair: f"{pair[0]}/{pair[1]}"
    )
    return st.one_of(st.just("*"), several, ranges, steps)


@st.composite
def crons(draw: st.DrawFn) -> str:
    minute = draw(numbers(0, 59))
    hour = draw(numbers(0, 23))
    day, week = draw(st.sampled_from([("day", "*"), ("*", "week"), ("*", "*"), ("day", "week")]))
    day = draw(numbers(1, 28)) if day == "day" else "*"
    week = draw(st.one_of(numbers(0, 7), st.sampled_from(("MON-FRI", "sun", "SAT,TUE")))) if week == "week" else "*"
    return f"{minute} {hour} {day} {draw(numbers(1, 12))} {week}"


def parse(text: str, zone: str) -> Cron | None:
    """Returns None where the two kinds of day would mean different things to different schedulers."""
    try:
        return Cron(text, zone)
    except ValueError as error:
        if "two ways" not in str(error):
            raise
        return None


Fits = Callable[[datetime], bool]


def reader(fields: str) -> tuple[Fits, Fits]:
    """Returns whether a moment's date fits and whether its time does.

    The fields are numbers and ``*`` here; of two kinds of day, either will do.
    """
    minutes, hours, days, months, weekdays = (
        None if field == "*" else {int(value) for value in field.split(",")} for field in fields.split(" ")
    )

    def date(moment: datetime) -> bool:
        day, weekday = days is None or moment.day in days, weekdays is None or moment.isoweekday() % 7 in weekdays
        either = days is not None and weekdays is not None
        return (months is None or moment.month in months) and ((day or weekday) if either else (day and weekday))

    def time(moment: datetime) -> bool:
        return (minutes is None or moment.minute in minutes) and (hours is None or moment.hour in hours)

    return date, time


def by_the_clock(fields: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """What robfig/cron does, which Kubeflow and Kubernetes use: every minute whose clock shows a time that fits."""
    date, time = reader(fields)
    found, moment = [], start.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while moment <= end:
        local = moment.astimezone(ZoneInfo(zone))
        if date(local) and time(local):
            found.append(moment)
        moment += timedelta(minutes=1)
    return found


def by_the_calendar(fields: str, start: datetime) -> Iterator[datetime]:
    """Yields the same in UTC, without end: the days that fit, minute by minute."""
    date, time = reader(fields)
    day = start.replace(hour=0, minute=0, second=0, microsecond=0)
    while True:
        if date(day):
            minutes = (day + timedelta(minutes=minute) for minute in range(24 * 60))
            yield from (moment for moment in minutes if moment > start and time(moment))
        day += timedelta(days=1)


def ours(cron: Cron, start: datetime, end: datetime) -> list[datetime]:
    found = []
    for instant in cron.instants(start):
        if instant > end:
            return found
        found.append(instant)
    return found


@settings(max_examples=60, deadline=None)
@given(crons(), st.sampled_from(ZONES), st.sampled_from([SPRING, AUTUMN, datetime(2028, 2, 27, tzinfo=UTC)]))
def test_every_spelling_has_the_same_instants(text: str, zone: str, start: datetime) -> None:
    cron = parse(text, zone)
    if cron is None:
        return
    seconds, *plain = cron.kubeflow(zone).split(" ")
    prefix, *vertex = cron.vertex().split(" ")
    assert (seconds, prefix) == ("0", f"TZ={zone}")
    assert plain == vertex == cron.kubernetes().split(" ")
    end = start + timedelta(days=2)
    theirs = by_the_clock(" ".join(plain), zone, start, end)
    assert all(set(field) <= set("0123456789,*") for field in plain)
    if zone in ("UTC", "Asia/Kolkata") or start not in (SPRING, AUTUMN):
        assert ours(cron, start, end) == theirs


@settings(max_examples=60, deadline=None)
@given(crons(), st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1)))
def test_instants_are_those_of_the_calendar_away_from_the_clocks_changes(text: str, naive: datetime) -> None:
    cron = parse(text, "UTC")
    if cron is None:
        return
    start = naive.replace(tzinfo=UTC)
    assert list(islice(cron.instants(start), 3)) == list(islice(by_the_calendar(cron.kubernetes(), start), 3))


def test_a_time_that_the_clock_skips_happens_once_after_the_gap() -> None:
    found = Cron("30 2 * * *", "Europe/Paris").instants(SPRING)
    assert [next(found).isoformat() for _ in range(2)] == ["2027-03-28T01:00:00+00:00", "2027-03-29T00:30:00+00:00"]


def test_a_time_that_the_clock_shows_twice_happens_once() -> None:
    cron = Cron("30 2 * * *", "Europe/Paris")
    found = cron.instants(AUTUMN)
    assert [next(found).isoformat() for _ in range(2)] == ["2027-10-31T00:30:00+00:00", "2027-11-01T01:30:00+00:00"]
    # Between the two, and again in the hour that is shown a second time, before it would be that time once more.
    for moment in (datetime(2027, 10, 31, 0, 45, tzinfo=UTC), datetime(2027, 10, 31, 1, 15, tzinfo=UTC)):
        assert cron.after(moment).isoformat() == "2027-11-01T01:30:00+00:00"


@pytest.mark.parametrize("start", [SPRING, AUTUMN])
def test_every_hour_is_every_hour_that_passes(start: datetime) -> None:
    found = ours(Cron("0 * * * *", "Europe/Paris"), start, start + timedelta(hours=24))
    assert found == [start + timedelta(hours=hour) for hour in range(1, 25)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0 3 * *", "five fields"),
        ("0 0 3 * * *", "five fields"),
        ("@daily", "five fields"),
        ("61 3 * * *", "cannot be read"),
        ("0 24 * * *", "cannot be read"),
        ("0 3 31 2 *", "cannot be read"),
        ("0 3 0 * *", "cannot be read"),
        ("x 3 * * *", "cannot be read"),
        ("0 3 L * *", "write the days out"),
        ("0 3 * * 1#2", "write the days out"),
        ("0 3 */2 * 1", "two ways"),
        ("0 3 1 * 0-6", "two ways"),
    ],
)
def test_an_expression_that_means_nothing_or_two_things_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Cron(text, "UTC")


@pytest.mark.parametrize("name", ["Europe/Nowhere", "", "../etc/passwd", "/etc/localtime", "CEST"])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="no time zone"):
        ScheduleConfig(time_zone=name)


def test_a_wait_longer_than_the_time_between_two_runs_is_refused() -> None:
    assert ScheduleConfig(cron="0 * * * *", jitter_seconds=3599).jitter_seconds == 3599
    with pytest.raises(ValidationError, match="must be below 3600"):
        ScheduleConfig(cron="0 * * * *", jitter_seconds=3600)


def test_kubeflow_has_no_zone_of_its_own() -> None:
    cron = Cron("30 2 * * *", "Europe/Paris")
    assert cron.kubeflow("Europe/Paris") == "0 30 2 * * *"
    with pytest.raises(BadInputError, match="CRON_SCHEDULE_TIMEZONE"):
        cron.kubeflow()


def test_sunday_is_spelled_in_the_one_way_that_all_know() -> None:
    assert Cron("0 3 * * 7", "UTC").kubernetes() == Cron("0 3 * * sun", "UTC").kubernetes() == "0 3 * * 0"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd's own reader is not on this machine")
@pytest.mark.parametrize(
    "text", ["0 3 * * *", "*/20 5 * * MON-FRI", "15 1 1,15 * *", "30 22 * 2,8 0", "7 4 13 * 5", "0 0 29 2 *"]
)
def test_systemd_has_the_same_instants(text: str) -> None:
    cron = Cron(text, "Asia/Kolkata")
    start = datetime(2026, 12, 30, tzinfo=UTC)
    found: set[datetime] = set()
    for value in cron.systemd():
        done = subprocess.run(
            ["systemd-analyze", "calendar", "--base-time=2026-12-30 00:00:00 UTC", "--iterations=6", value],
            capture_output=True,
            text=True,
            check=True,
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"},
        )
        for line in done.stdout.splitlines():
            if line.strip().startswith(("Next elapse:", "Iter")):
                stamp = " ".join(line.split(": ", 1)[1].split(" ")[1:3])
                found.add(datetime.fromisoformat(stamp).replace(tzinfo=UTC))
    expected = cron.instants(start)
    assert sorted(found)[:4] == [next(expected) for _ in range(4)]
