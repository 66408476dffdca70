"""One line of JSON per request: who asked what of which version, how it ended and how long it took. Never the text."""

import logging
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

import orjson

_LOGGER = logging.getLogger("newsdesk")
MOST_FILE_BYTES = 64 << 20
"""Above it the file becomes ``<name>.1``, in place of an older one."""
_MOST_PENDING = 20_000
MOST_LOGGED = 200
"""Characters of what a client sent that a line holds."""


class AccessLog:
    """Collects lines on the event loop and writes them in a thread: a pipe that nobody reads must not stop answers."""

    def __init__(self, target: str):
        """Opens the log.

        Args:
            target: File, ``-`` for standard output, ``none``.

        Raises:
            OSError: The file cannot be written to.
        """
        self._path = Path(target) if target not in ("-", "none") else None
        self.on = target != "none"
        self.lost = 0
        self._pending: list[bytes] = []
        self._file = -1
        if self.on:
            self._file = sys.stdout.fileno() if self._path is None else _open(self._path)
        self._blocks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._told = False
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        if self.on:
            self._thread.start()

    def add(self, record: dict[str, Any]) -> None:
        """Takes one line; drops it, and counts that, while too many wait to be written."""
        if len(self._pending) >= _MOST_PENDING:
            self.lost += 1
            return
        self._pending.append(orjson.dumps(record))

    def flush(self) -> None:
        """Hands the lines to the thread; the event loop does so a few times a second."""
        if not self._pending or self._blocks.qsize() > 1:
            return
        self._blocks.put(b"\n".join(self._pending) + b"\n")
        self._pending = []

    def close(self, seconds: float = 2.0) -> None:
        """Writes what is left, unless nobody takes it within ``seconds``."""
        if not self.on:
            return
        self.flush()
        self._blocks.put(None)
        self._thread.join(seconds)

    def _write(self) -> None:
        while (block := self._blocks.get()) is not None:
            try:
                self._rotate()
                while block:
                    block = block[os.write(self._file, block) :]
            except OSError as error:
                # A full disk or a closed pipe ends the log, not the service.
                self.lost += block.count(b"\n")
                if not self._told:
                    self._told = True
                    _LOGGER.warning("the access log cannot be written (%s): lines are lost", error.strerror)

    def _rotate(self) -> None:
        if self._path and os.fstat(self._file).st_size > MOST_FILE_BYTES:
            os.replace(self._path, self._path.with_name(f"{self._path.name}.1"))
            old, self._file = self._file, _open(self._path)
            os.close(old)


_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, _FLAGS, 0o640)
