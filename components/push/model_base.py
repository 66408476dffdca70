"""A model base: which versions stand there, which numbers were ever given out, and the lock over both.

A version is a directory named by its number, ``<base>/<version>/``. ``<base>/versions.json`` is the ledger of numbers.
Names that begin with ``.tmp-`` are half made or half deleted.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from components import files
from components.errors import BadInputError
from components.files import TEMPORARY, undamaged, write_whole
from components.push.aliases import ALIASES_FILE, FILE_MODE, MODELS_CONFIG, is_settled, render_models_config

LEDGER = "versions.json"
LOCK = ".lock"
ALIASES_LOCK = ".aliases.lock"
"""Held while an alias moves."""
MOST_VERSIONS = 2**63 - 1
"""The highest version that TensorFlow Serving reads."""
_LOCK_SECONDS = 60
_GIVEN = TypeAdapter(list[Annotated[int, Field(strict=True, ge=0)]])
_LEDGER_REMEDY = 'write into it the numbers ever used, as in {"given": [1, 2]}, lest one be used again'
# A version of ours has one spelling, and so one directory; TensorFlow Serving reads leading zeros too.
_VERSION = re.compile(r"0|[1-9][0-9]{0,18}")
_ANY_SPELLING = re.compile(r"[0-9]+")


def locked(base: Path, name: str = LOCK) -> AbstractContextManager[None]:
    """Holds a model base against other pushes and deletions, or with another lock's name against what that guards.

    Raises:
        BadInputError: Another process held it for a minute.
    """
    busy = f"another process has been at work in {base} for {_LOCK_SECONDS} s: try again when it is done"
    return files.locked(base / name, lambda: busy, _LOCK_SECONDS)


def parse_version(name: str) -> int | None:
    """Returns the version that a directory's name stands for, or None if it is no version."""
    return int(name) if _VERSION.fullmatch(name) and int(name) <= MOST_VERSIONS else None


def present_versions(base: Path) -> list[int]:
    """Returns the versions that stand in a model base, lowest first."""
    if not base.is_dir():
        return []
    found = ((parse_version(path.name), path) for path in base.iterdir())
    return sorted(version for version, path in found if version is not None and path.is_dir())


def given_versions(base: Path) -> list[int]:
    """Returns every version ever given out in a model base, lowest first.

    Raises:
        BadInputError: The ledger is damaged.
    """
    ledger = base / LEDGER
    try:
        with undamaged(ledger, _LEDGER_REMEDY):
            return sorted(_GIVEN.validate_python(json.loads(ledger.read_bytes())["given"]))
    except FileNotFoundError:
        return []


def removed_versions(base: Path) -> list[int]:
    """Returns the versions that were given out once and are gone, lowest first."""
    return sorted(set(given_versions(base)) - set(present_versions(base)))


def next_version(base: Path, taken: Iterable[int]) -> int:
    """Returns the lowest number above all that are taken or stand in the base, however they are spelled.

    Raises:
        BadInputError: There is no higher number.
    """
    standing = (int(path.name) for path in base.iterdir() if _ANY_SPELLING.fullmatch(path.name) and path.is_dir())
    version = max([0, *taken, *(number for number in standing if number <= MOST_VERSIONS)]) + 1
    while os.path.lexists(base / str(version)):
        version += 1
    if version > MOST_VERSIONS:
        raise BadInputError(f"{base} holds version {MOST_VERSIONS}, the last there is: push to another base")
    return version


def record_versions(base: Path, versions: Iterable[int]) -> None:
    """Adds numbers to the ledger, all of them or none."""
    given = given_versions(base)
    both = sorted({*given, *versions})
    # A full disk can be freed where nothing is to be written.
    if both != given:
        write_whole(base / LEDGER, json.dumps({"given": both}))


def settle_models_config(serving: Path) -> bool:
    """Writes ``models.config`` anew where it ``is_settled`` not once every move has ended; returns whether it did."""
    if is_settled(serving):
        return False
    with ExitStack() as held:
        for path in sorted(serving.glob(f"*/{ALIASES_FILE}")):
            held.enter_context(locked(path.parent, ALIASES_LOCK))
        if is_settled(serving):
            return False
        write_whole(serving / MODELS_CONFIG, render_models_config(serving), FILE_MODE)
    return True


def sweep(base: Path) -> None:
    """Removes what a dead push or deletion left half done; the caller holds the lock, so nobody is at work on it."""
    for leftover in sorted(base.glob(f"{TEMPORARY}*")):
        delete(leftover)


def delete(path: Path) -> None:
    """Deletes a file, a link, or a directory with what is in it; what a link points at stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
