"""Which pushed versions may go, and how a directory goes so that a crash leaves nothing half deleted in its place.

A server says what it holds in a lease, ``<base>/.loaded/<hostname>-<pid>.json``: ``{"versions": [3], "at": ISO time}``.
It writes the lease before it reads the version and sees afterwards that the version still stands there; whoever
deletes looks at the leases last.
"""

import json
import os
import re
import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from pydantic import StrictInt, TypeAdapter

from components.errors import BadInputError
from components.file_names import LEASES
from components.files import TEMPORARY, undamaged
from components.push.aliases import read_aliases
from components.push.manifest import MANIFEST
from components.push.model_base import delete, present_versions

GARBAGE = f"{TEMPORARY}gc-"
# Whether a process on another host lives cannot be seen from here.
FOREIGN_LEASE_HOURS = 24
_LONGEST_PATH = 4096
_STOP = "it does not say which versions a server holds; stop that server, then delete the file"
_VERSIONS = TypeAdapter(list[StrictInt])
_LEASE = re.compile(r"(?P<host>.+)-(?P<pid>[1-9][0-9]*)\.json")


@dataclass(frozen=True)
class Lease:
    """What a server holds; it ``counts`` while the server lives, as far as can be told, and else holds no version."""

    path: Path
    holder: str
    versions: tuple[int, ...]
    counts: bool


def read_leases(base: Path, host: str | None = None, now: datetime | None = None) -> list[Lease]:
    """Returns the leases on a model base, in the order of their names.

    By default ``host`` is this host's name and ``now``, with its time zone, the present.

    Raises:
        BadInputError: A lease that counts cannot be understood, so that nobody knows what it holds.
    """
    directory = base / LEASES
    if not directory.is_dir():
        return []
    host, now = host or socket.gethostname(), now or datetime.now(UTC)
    # A name with a dot in front is a lease that is being written.
    paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    return [_read_lease(path, host, now) for path in paths]


def kept_versions(base: Path, keep: int, leases: list[Lease]) -> dict[int, str]:
    """Returns the versions that stay, lowest first, each with the reason in words.

    The newest ``keep`` stay in any case.

    Raises:
        BadInputError: ``aliases.json`` is damaged.
        ValueError: ``keep`` is less than 1.
    """
    if keep < 1:
        raise ValueError(f"the newest version stays: keep at least 1, not {keep}")
    present = present_versions(base)
    reasons: dict[int, list[str]] = {version: [] for version in present}
    for version in present[-keep:]:
        reasons[version].append(f"among the newest {keep}")
    for alias, version in sorted(read_aliases(base).items()):
        if version in reasons:
            reasons[version].append(alias)
    for lease in leases:
        for version in set(lease.versions) & reasons.keys():
            reasons[version].append(f"loaded by {lease.holder}")
    for version in present:
        # A link leads elsewhere, and what has no manifest was not pushed: neither is ours to delete.
        place = base / str(version)
        if place.is_symlink():
            reasons[version].append("a link")
        elif not (place / MANIFEST).is_file():
            reasons[version].append("put there by hand")
    staying = [number for number, found in reasons.items() if found]
    for version in staying:
        for read in sorted(_vocabularies_read(base, version) & reasons.keys()):
            if not reasons[read]:
                staying.append(read)
            reasons[read].append(f"version {version} reads its vocabulary")
    return {version: ", ".join(found) for version, found in reasons.items() if found}


def _vocabularies_read(base: Path, version: int) -> set[int]:
    """Returns the other versions whose vocabulary a version opens by its path.

    newsdesk once exported models that were trained further in this way. A graph of today names the path as well, but
    only in the name of a table: a path that is opened stands there as ``string_val`` (field 8) of a TensorProto.
    """
    path = base / str(version) / "saved_model.pb"
    graph = path.read_bytes() if path.is_file() else b""
    found = set()
    for match in re.finditer(rb"/%s/([1-9][0-9]*)/assets/vocabulary" % re.escape(base.name.encode()), graph):
        for start in range(match.start(), max(match.end() - _LONGEST_PATH, 0), -1):
            length = match.end() - start
            said = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
            if graph[start - 3 : start].endswith(b"B" + said):
                found.add(int(match[1]))
    return found - {version}


def discard(path: Path) -> None:
    """Deletes a file or a directory: under its own name it is there whole or not at all, whenever this is stopped.

    What was moved aside and not deleted, ``.tmp-gc-*`` beside it, is removed by whoever cleans up next.
    """
    aside = path.with_name(f"{GARBAGE}{uuid.uuid4().hex}")
    os.rename(path, aside)
    delete(aside)


def _read_lease(path: Path, host: str, now: datetime) -> Lease:
    named = _LEASE.fullmatch(path.name)
    if named is None:
        raise BadInputError(f"{path} is damaged: {_STOP}")
    here, pid = named["host"] == host, int(named["pid"])
    holder = f"process {pid}" + ("" if here else f" on {named['host']}")
    if here and not _lives(pid):
        return Lease(path, holder, (), counts=False)
    try:
        with undamaged(path, _STOP):
            found = json.loads(path.read_bytes())
            versions = _VERSIONS.validate_python(found["versions"])
            old = now - datetime.fromisoformat(found["at"]) > timedelta(hours=FOREIGN_LEASE_HOURS)
    except FileNotFoundError:
        # Its server has let go meanwhile.
        return Lease(path, holder, (), counts=False)
    if not here and old:
        return Lease(path, holder, (), counts=False)
    return Lease(path, holder, tuple(versions), counts=True)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
