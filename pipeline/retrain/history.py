"""What was decided and what came of it: files of one JSON object a line that survive a kill at any moment."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from components.clean import to_json
from components.errors import BadInputError
from components.files import append_line, locked, undamaged, write_whole
from components.outcomes import Outcome

VERDICTS = (Outcome.PUSHED, Outcome.REJECTED)
"""Outcomes in which a run has said what it thinks of its spans."""
_STARTED, _ENDED, _RESET = "started", "ended", "reset"
"""Kinds of lines."""
_MOVE_AWAY = "move the file away, and with it what was tried"
_log = logging.getLogger("newsdesk.retrain")


def read(path: Path, *keys: str) -> list[dict[str, Any]]:
    """Returns the lines of a file that have some keys, without those that a kill tore; empty where there is none.

    Raises:
        OSError: It cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    found, torn = [], 0
    for line in filter(None, lines):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict) and value.keys() >= set(keys):
            found.append(value)
        else:
            torn += 1
    if torn:
        _log.warning(
            "%s holds %d lines that were not written to their end, or not by this command; they are passed over",
            path,
            torn,
        )
    return found


@dataclass(frozen=True)
class Attempt:
    """One retraining.

    Attributes:
        run_id: Of the run.
        moment: When it ended; when it began where that is not known.
        outcome: ``started`` while it is at work, or where it was killed.
        reasons: Why it was not pushed.
        spans: Digest by name of the spans it read.
        work: Digest of everything that its model depends on.
    """

    run_id: str
    moment: datetime
    outcome: Outcome
    reasons: tuple[str, ...]
    spans: Mapping[str, str]
    work: str


class History:
    """The attempts of one workspace, in ``history.jsonl``."""

    def __init__(self, directory: Path):
        self.path = directory / "history.jsonl"

    def start(self, run_id: str, moment: datetime, spans: Mapping[str, str], work: str) -> None:
        """Records that a run begins."""
        said = {"kind": _STARTED, "run_id": run_id, "moment": moment.isoformat(), "spans": dict(spans), "work": work}
        append_line(self.path, to_json(said))

    def end(self, run_id: str, moment: datetime, outcome: Outcome, reasons: Sequence[str] = ()) -> None:
        """Records how it ended; also for a decision that failed before a run began."""
        said = {"kind": _ENDED, "run_id": run_id, "moment": moment.isoformat(), "status": outcome.status}
        append_line(self.path, to_json(said | {"reasons": list(reasons)}))

    def reset(self, moment: datetime) -> None:
        """Records that somebody has looked: what failed before counts no more."""
        append_line(self.path, to_json({"kind": _RESET, "moment": moment.isoformat()}))

    def attempts(self) -> list[Attempt]:
        """Returns all attempts, oldest first.

        Raises:
            BadInputError: A line has a status that this version does not know.
        """
        found: dict[str, dict[str, Any]] = {}
        with undamaged(self.path, _MOVE_AWAY):
            for line in read(self.path):
                if line["kind"] in (_STARTED, _ENDED):
                    found[line["run_id"]] = found.pop(line["run_id"], {}) | line
            return [
                Attempt(
                    run_id,
                    datetime.fromisoformat(line["moment"]),
                    self._outcome(line.get("status", Outcome.STARTED)),
                    tuple(line.get("reasons", ())),
                    dict(line.get("spans", {})),
                    line.get("work", ""),
                )
                for run_id, line in found.items()
            ]

    def _outcome(self, status: str) -> Outcome:
        try:
            return Outcome(status)
        except ValueError as error:
            raise BadInputError(
                f"{self.path} has a status {status!r}, which this version of newsdesk does not know: use the version "
                f"that wrote it, or {_MOVE_AWAY}"
            ) from error

    def since_reset(self) -> list[Attempt]:
        """Returns the attempts that began or ended after the last reset, by their place: a clock may be set back."""
        after: set[str] = set()
        for line in read(self.path):
            after = set() if line["kind"] == _RESET else after | {line.get("run_id", "")}
        return [item for item in self.attempts() if item.run_id in after]


class Notes:
    """Small facts that a decision needs from earlier ones, in one file that is replaced as a whole."""

    def __init__(self, directory: Path):
        self.path = directory / "notes.json"

    def read(self) -> dict[str, Any]:
        """Returns them; empty where there are none.

        Raises:
            BadInputError: The file is damaged.
        """
        try:
            with undamaged(self.path, "delete it, only which spans are late is lost"):
                return dict(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return {}

    def write(self, **values: Any) -> None:
        """Replaces some of them."""
        write_whole(self.path, json.dumps(self.read() | values))


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Admits one retraining of a workspace; the lock goes with the process, however it ends.

    Raises:
        BadInputError: Another is at work.
    """
    directory.mkdir(parents=True, exist_ok=True)
    refusal = f"another retraining is at work in {directory.parent}: wait until it is done"
    with locked(directory / ".lock", lambda: refusal):
        yield
