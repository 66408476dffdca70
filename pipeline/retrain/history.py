"""What was decided and what came of it: files of one JSON object a line that survive a kill at any moment."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock

from components.errors import BadInputError

STARTED, ENDED, RESET = "started", "ended", "reset"
PUSHED, REJECTED, FAILED, KILLED, STOPPED = "pushed", "rejected", "failed", "killed", "stopped"
UNREAD, DECIDED = "unread", "decided"
"""Outcomes of a decision without a run: the evidence could not be read, or could be again after that."""
VERDICTS = (PUSHED, REJECTED)
"""Outcomes in which a run has said what it thinks of its spans."""
_log = logging.getLogger("newsdesk.retrain")


def append(path: Path, value: Mapping[str, Any]) -> None:
    """Adds a line, all of it or, if this is killed, a piece that the next reader passes over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        torn = size and os.pread(handle, 1, size - 1) != b"\n"
        os.write(handle, b"\n" * bool(torn) + json.dumps(value).encode() + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a file, without those that a kill tore; empty where there is none.

    Raises:
        BadInputError: It cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from error
    found, torn = [], 0
    for line in filter(None, lines):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            found.append(value)
        else:
            torn += 1
    if torn:
        _log.warning("%s holds %d lines that were not written to their end; they are passed over", path, torn)
    return found


@dataclass(frozen=True)
class Attempt:
    """One retraining.

    Attributes:
        run_id: Of the run.
        moment: When it ended; when it began where that is not known.
        status: One of the constants of this module; ``started`` while it is at work, or where it was killed.
        reasons: Why it was not pushed.
        spans: Digest by name of the spans it read.
        work: Digest of everything that its model depends on.
    """

    run_id: str
    moment: datetime
    status: str
    reasons: tuple[str, ...]
    spans: Mapping[str, str]
    work: str


class History:
    """The attempts of one workspace, in ``history.jsonl``."""

    def __init__(self, directory: Path):
        self.path = directory / "history.jsonl"

    def start(self, run_id: str, moment: datetime, spans: Mapping[str, str], work: str) -> None:
        """Records that a run begins."""
        said = {"kind": STARTED, "run_id": run_id, "moment": moment.isoformat(), "spans": dict(spans), "work": work}
        append(self.path, said)

    def end(self, run_id: str, moment: datetime, status: str, reasons: tuple[str, ...] = ()) -> None:
        """Records how it ended; also for a decision that failed before a run began."""
        said = {"kind": ENDED, "run_id": run_id, "moment": moment.isoformat(), "status": status}
        append(self.path, said | {"reasons": list(reasons)})

    def reset(self, moment: datetime) -> None:
        """Records that somebody has looked: what failed before counts no more."""
        append(self.path, {"kind": RESET, "moment": moment.isoformat()})

    def attempts(self) -> list[Attempt]:
        """Returns all attempts, oldest first."""
        found: dict[str, Attempt] = {}
        for line in read(self.path):
            if line["kind"] not in (STARTED, ENDED):
                continue
            run_id, moment = line["run_id"], datetime.fromisoformat(line["moment"])
            before = found.pop(run_id, None)
            spans, work = (
                line.get("spans", before.spans if before else {}),
                line.get("work", before.work if before else ""),
            )
            found[run_id] = Attempt(
                run_id, moment, line.get("status", STARTED), tuple(line.get("reasons", ())), spans, work
            )
        return list(found.values())

    def since_reset(self) -> list[Attempt]:
        """Returns the attempts after the last reset."""
        resets = [datetime.fromisoformat(line["moment"]) for line in read(self.path) if line["kind"] == RESET]
        last = max(resets, default=None)
        return [item for item in self.attempts() if last is None or item.moment > last]


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
            found = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise BadInputError(
                f"{self.path} cannot be read ({error}): delete it, only which spans are late is lost"
            ) from error
        return found

    def write(self, **values: Any) -> None:
        """Replaces some of them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".tmp-{self.path.name}")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(self.read() | values, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Admits one retraining of a workspace; the lock goes with the process, however it ends.

    Raises:
        BadInputError: Another is at work.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(directory / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise BadInputError(f"another retraining is at work in {directory.parent}: wait until it is done") from error
    try:
        yield
    finally:
        lock.release()
