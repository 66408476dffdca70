"""One cron expression of five fields and its zone: its instants, and how each scheduler spells it.

Instants are those of Debian's cron: a fixed time that the clock skips in spring happens at the first minute after the
gap, and one that it shows twice in autumn happens once; an expression whose hours or minutes begin with ``*`` follows
the time that has really passed. Other schedulers have rules of their own for the days on which the clock is set:
Kubeflow and Kubernetes, whose library is robfig/cron, skip the one in most zones and repeat the other, and Vertex's
reference says nothing of it. A schedule that must be the same everywhere stands in UTC.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from components.errors import BadInputError
from components.settings import Settings

_FULL = (range(60), range(24), range(1, 32), range(1, 13), range(7))
_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_ANY = "*"


class ScheduleConfig(Settings):
    """When ``newsdesk schedule`` and the orchestrators' own schedules retrain."""

    cron: str = Field("0 3 * * *", description="minute, hour, day of month, month, day of week")
    time_zone: str = Field("UTC", description="IANA name, such as Europe/Paris")
    jitter_seconds: float = Field(0, ge=0, description="a random wait of at most so long before each run")
    misfire: Literal["skip", "once"] = Field("once", description="what to do about times that passed meanwhile")
    stop_seconds: float = Field(60, gt=0, description="on SIGTERM a run is told to stop, and killed after so long")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        zone(name)
        return name

    @model_validator(mode="after")
    def _valid_cron(self) -> "ScheduleConfig":
        shortest = Cron(self.cron, self.time_zone).shortest_gap()
        if self.jitter_seconds >= shortest:
            raise ValueError(
                f"jitter_seconds must be below {shortest:g}, the shortest time between two runs of the cron"
            )
        return self


def zone(name: str) -> ZoneInfo:
    """Returns a time zone.

    Raises:
        ValueError: There is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"there is no time zone {name!r}: write it as in the IANA database, Europe/Paris say"
        ) from error


class Cron:
    """A checked expression.

    Attributes:
        text: As written, one space between fields.
        time_zone: IANA name.
        fields: Values of minute, hour, day of month, month and day of week (0 is Sunday), sorted.
    """

    def __init__(self, text: str, time_zone: str):
        """Parses.

        Args:
            text: Five fields of numbers, names, ``*``, ranges, steps and lists.
            time_zone: IANA name.

        Raises:
            ValueError: It is no such expression, never happens, or means different things to different schedulers.
        """
        self.text, self.time_zone, self._zone = " ".join(text.split()), time_zone, zone(time_zone)
        parts = self.text.split(" ")
        if len(parts) != len(_FULL):
            raise ValueError(f"cron takes five fields, minute to day of week, not {text!r}")
        try:
            parsed = CronSim(self.text, datetime(2024, 1, 1, tzinfo=UTC))
            first = next(parsed, None)
        except CronSimError as error:
            raise ValueError(f"cron {text!r} cannot be read ({str(error).lower()})") from error
        if first is None:
            raise ValueError(f"cron {text!r} never happens: look at day and month")
        if not all(isinstance(day, int) and day >= 0 for day in (*parsed.days, *parsed.weekdays)):
            raise ValueError(f"cron {text!r} uses L, W or #, which not every scheduler knows: write the days out")
        days = [day % 7 for day in parsed.weekdays if isinstance(day, int)]
        self.fields = tuple(
            tuple(sorted(set(values))) for values in (parsed.minutes, parsed.hours, parsed.days, parsed.months, days)
        )
        self._either_day = self._restricts(2) and self._restricts(4)
        for place, other in ((2, 4), (4, 2)):
            # Debian's cron looks at the star: with one it takes both for one condition, the others take either.
            star = parts[place].startswith(_ANY)
            if self._restricts(other) and star == self._restricts(place):
                raise ValueError(f"cron {text!r} limits both kinds of day in two ways: write days out, or * for all")

    def after(self, moment: datetime) -> datetime:
        """Returns the first instant after a moment, in UTC."""
        return next(self.instants(moment))

    def instants(self, moment: datetime) -> Iterator[datetime]:
        """Yields the instants after a moment, in UTC."""
        last = moment.astimezone(UTC)
        for found in CronSim(self.text, moment.astimezone(self._zone)):
            instant = found.astimezone(UTC)
            # Within the hour that the clock shows twice, the fixed time is found once more.
            if instant > last:
                yield instant
                last = instant

    def shortest_gap(self) -> float:
        """Returns the fewest seconds between two instants that follow each other."""
        minutes, hours, *_ = self.fields
        times = sorted(hour * 60 + minute for hour in hours for minute in minutes)
        gaps = [later - sooner for sooner, later in zip(times, [*times[1:], times[0] + 24 * 60], strict=True)]
        return min(gaps) * 60.0

    def kubeflow(self, server_zone: str = "UTC") -> str:
        """Returns six fields, seconds first, for a recurring run.

        Args:
            server_zone: ``CRON_SCHEDULE_TIMEZONE`` of the Kubeflow server: a recurring run has no zone of its own.

        Raises:
            BadInputError: It is another zone.
        """
        if server_zone != self.time_zone:
            raise BadInputError(
                f"Kubeflow reads a cron in the zone of its server, {server_zone}, not in {self.time_zone}: set its "
                "CRON_SCHEDULE_TIMEZONE to that and name it, or set schedule.time_zone"
            )
        return f"0 {self.kubernetes()}"

    def vertex(self) -> str:
        """Returns five fields behind the zone."""
        return f"TZ={self.time_zone} {self.kubernetes()}"

    def kubernetes(self) -> str:
        """Returns five fields; a CronJob has the zone in ``timeZone``.

        Without steps and names, which not every scheduler reads alike: Sunday is 0.
        """
        return " ".join(_spell(values, place, "{}") for place, values in enumerate(self.fields))

    def systemd(self) -> list[str]:
        """Returns ``OnCalendar`` values; two where either of two kinds of day will do."""
        minutes, hours, days, months, weekdays = self.fields
        clock = f"{_spell(hours, 1, '{:02}')}:{_spell(minutes, 0, '{:02}')}:00 {self.time_zone}"
        month, day = _spell(months, 3, "{:02}"), _spell(days, 2, "{:02}")
        week = ",".join(_WEEKDAYS[number] for number in weekdays)
        if self._either_day:
            return [f"*-{month}-{day} {clock}", f"{week} *-{month}-* {clock}"]
        return [f"{week + ' ' if self._restricts(4) else ''}*-{month}-{day} {clock}"]

    def _restricts(self, place: int) -> bool:
        return self.fields[place] != tuple(_FULL[place])


def _spell(values: tuple[int, ...], place: int, form: str) -> str:
    return _ANY if values == tuple(_FULL[place]) else ",".join(form.format(value) for value in values)
