"""The ways a run ends on purpose. The command line turns the first two into exit codes 2 and 3."""

import difflib
import signal
from collections.abc import Iterable

from components.addresses import holds_secret
from components.clean import printable

HOLDS_SECRET = "holds a password"  # noqa: S105
_MOST_CHARACTERS = 4_000


class BadInputError(Exception):
    """Data, configuration or environment cannot be used; the message says what to do about it, as it may be shown."""

    def __init__(self, message: str):
        text = printable(message)
        if len(text) > _MOST_CHARACTERS:
            # What was found may be a whole file; what to do about it stands at the end.
            text = f"{text[: _MOST_CHARACTERS // 2]} ... {text[-_MOST_CHARACTERS // 2 :]}"
        super().__init__(text)


class GateRejectedError(Exception):
    """A gate said no to data that parsed or to a model; ``reasons`` are one sentence per failed check."""

    def __init__(self, gate: str, reasons: list[str]):
        self.gate = gate
        self.reasons = [printable(reason) for reason in reasons]
        super().__init__(f"{gate}: " + "; ".join(self.reasons))


class StoppedError(SystemExit):
    """The process was asked to end by a signal; it ends with 128 and the signal's number, as a shell reports it."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self._name = signal.Signals(number).name

    def __str__(self) -> str:
        return f"stopped by {self._name}"


def check_address(what: str, address: str, instead: str) -> None:
    """Raises ``BadInputError`` where an address carries a secret; ``instead`` says where that goes."""
    if holds_secret(address):
        raise BadInputError(f"{what} {HOLDS_SECRET}: take it out and {instead}")


def changed(place: object) -> BadInputError:
    """Returns the error for files that are not those whose digest was taken, so that nothing is kept under it."""
    return BadInputError(f"{place} changed while it was read: run again once nobody writes there")


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the known name that a wrong one is most like: what was perhaps meant."""
    return difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)[0]
