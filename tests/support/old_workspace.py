"""Workspaces that earlier versions made, from ``tests/golden/old_workspace``; ``make_old_workspace.py`` adds one."""

import json
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOME = Path("/tmp/old-newsdesk")
"""Where each was made, below which no machine has anything."""
KEPT = Path(__file__).parents[1] / "golden" / "old_workspace"
NAMES = sorted(path.stem for path in KEPT.glob("*.json"))


@dataclass(frozen=True)
class OldWorkspace:
    """One of them, as it stands on this machine.

    Attributes:
        root: Of the workspace.
        spans: The spans it was trained on, a day each.
        made: How it was made and what the commands answered then.
    """

    root: Path
    spans: Path
    made: dict[str, Any]


def unpack(name: str, home: Path) -> OldWorkspace:
    """Unpacks one below ``home``, as if it had been made there."""
    with tarfile.open(KEPT / f"{name}.tar.xz") as archive:
        archive.extractall(home, filter="data")
    workspace = home / "workspace"
    write_over(workspace, str(HOME), str(home))
    made = (KEPT / f"{name}.json").read_text(encoding="utf-8").replace(str(HOME), str(home))
    return OldWorkspace(workspace, home / "spans", json.loads(made))


def write_over(root: Path, old: str, new: str) -> None:
    """Writes ``new`` over ``old`` in all text below ``root``: in files, and in text columns of sqlite databases.

    Pushed versions stay as their manifests have them: only their cards name the place, and nothing reads those. Graphs
    stay too: a model's names, for people, where it was traced, and a job's is read only by nodes that have not run.
    """
    pushed = {manifest.parent for manifest in root.rglob("MANIFEST.json")}
    for path in root.rglob("*"):
        if not path.is_file() or path.suffix == ".pb" or pushed.intersection(path.parents):
            continue
        content = path.read_bytes()
        if content.startswith(b"SQLite format 3\0"):
            _write_over_columns(path, old, new)
        elif old.encode() in content:
            path.write_text(content.decode().replace(old, new), encoding="utf-8")


def _write_over_columns(path: Path, old: str, new: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for column in [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]:
                database.execute(
                    f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) '
                    f'WHERE typeof("{column}") = \'text\' AND instr("{column}", ?)',
                    (old, new, old),
                )
