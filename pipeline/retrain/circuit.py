"""The circuit: what fails again and again is not tried again until somebody has looked, or some time has passed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from components.outcomes import Outcome
from pipeline.retrain.history import Attempt

_FAILURES = (Outcome.FAILED, Outcome.KILLED, Outcome.REJECTED, Outcome.UNREAD)


@dataclass(frozen=True)
class Circuit:
    """Whether retraining is tried.

    Attributes:
        open: Whether it is not.
        failures: In a row, up to now.
        since: When it opened last; None where it never did.
        until: When it allows one try; None where only a reset does, or where it is closed.
        reason: Of the last failure.
    """

    open: bool
    failures: int
    since: datetime | None = None
    until: datetime | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.since is None:
            return f"closed, {self.failures} failed in a row"
        till = f"until {self.until.isoformat(timespec='minutes')}" if self.until else "until it is reset"
        return (
            f"{'open' if self.open else 'half-open'} since {self.since.isoformat(timespec='minutes')}, {till}: "
            f"{self.failures} failed in a row, the last because {self.reason or 'of what its log says'}"
        )


def read_circuit(
    attempts: Sequence[Attempt], most_failures: int, cool_down_hours: float | None, now: datetime
) -> Circuit:
    """Returns how the circuit stands.

    A run that a gate rejected counts as a failure, since twice in a row it means that the data or the settings are
    wrong; one that was stopped on purpose does not. After the cool-down one try is allowed, and if that fails too
    the circuit is open for as long again.

    Args:
        attempts: Since the last reset, oldest first.
        most_failures: So many in a row open it.
        cool_down_hours: How long it stays open; None for ever.
        now: The time, with its zone.
    """
    failed: list[Attempt] = []
    for attempt in attempts:
        if attempt.outcome is Outcome.PUSHED:
            failed.clear()
        elif attempt.outcome is Outcome.DECIDED:
            failed = [item for item in failed if item.outcome is not Outcome.UNREAD]
        elif attempt.outcome in _FAILURES:
            failed.append(attempt)
    if len(failed) < most_failures:
        return Circuit(False, len(failed))
    since = failed[-1].moment
    until = None if cool_down_hours is None else since + timedelta(hours=cool_down_hours)
    reason = failed[-1].reasons[0] if failed[-1].reasons else ""
    return Circuit(until is None or now < until, len(failed), since, until, reason)
