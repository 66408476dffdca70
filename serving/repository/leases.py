"""Tells those who delete old versions which ones this process holds.

A lease is ``<base>/.loaded/<hostname>-<pid>.json`` with ``{"versions": [3], "at": ISO time}``.
``components.push.garbage`` reads it: it goes by the process where that runs on the same host, else by the time.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

from components.file_names import LEASES
from components.files import write_whole

# Well within the 24 hours after which the lease of another host no longer counts.
_REFRESH_SECONDS = 3600.0


class Leases:
    """The leases of this process, one per model base; for one thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """Takes none yet.

        Args:
            clock: Seconds; passes while a lease grows old.
        """
        self._clock = clock
        self._name = f"{socket.gethostname()}-{os.getpid()}.json"
        self._written: dict[Path, tuple[list[int], float]] = {}

    def hold(self, base: Path, versions: Collection[int]) -> None:
        """Says that this process holds just these versions of a model base; none of them is read before.

        The file is written when it would say something else, is an hour old, or is gone.

        Args:
            base: Model base, which must be there.
            versions: Their numbers; none lets go of the base.

        Raises:
            OSError: The file cannot be written, as on a disk mounted to be read only.
        """
        numbers, now = sorted(versions), self._clock()
        path = base / LEASES / self._name
        if not numbers:
            if base in self._written:
                path.unlink(missing_ok=True)
                del self._written[base]
            return
        said, at = self._written.get(base, ([], now))
        if said == numbers and now - at < _REFRESH_SECONDS and path.exists():
            return
        lease = {"versions": numbers, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        # Not by write_whole, which would make a base that was deleted.
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps(lease))
        self._written[base] = (numbers, now)

    @property
    def bases(self) -> list[Path]:
        """Model bases of which something is held."""
        return list(self._written)

    def release(self) -> None:
        """Lets go of everything.

        Raises:
            OSError: A lease cannot be removed; the others are.
        """
        failed = None
        for base in self.bases:
            del self._written[base]
            try:
                (base / LEASES / self._name).unlink(missing_ok=True)
            except OSError as error:
                failed = error
        if failed:
            raise failed
