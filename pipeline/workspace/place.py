"""Where a workspace keeps things, and the lock that admits one run at a time."""

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from components.clean import clean
from components.errors import BadInputError, check_address
from components.files import TEMPORARY, locked, undamaged, write_whole

# TensorFlow lists files by patterns, in which these are no letters.
_PATTERN = re.compile(r"[*?\[\\]")


class _Below:
    """A path below a workspace's root."""

    def __init__(self, name: str):
        self._name = name

    def __get__(self, workspace: "Workspace", _: type) -> Path:
        return workspace.root / self._name


@dataclass(frozen=True)
class Workspace:
    """Paths below one directory; the contract of names is in ``docs/architecture.md``.

    Raises:
        BadInputError: The directory's path is one that TensorFlow or ML Metadata cannot take.
    """

    root: Path

    artifacts = _Below("artifacts")
    metadata = _Below("metadata.sqlite")
    mlflow_store = _Below("mlflow.db")
    mlflow_artifacts = _Below("mlartifacts")
    serving = _Below("serving")
    quarantine = _Below("quarantine")
    predictions = _Below("predictions")
    spool = _Below("spool")
    reports = _Below("reports")
    logs = _Below("logs")

    def __post_init__(self) -> None:
        check_address("the workspace", str(self.root), "name a directory of this machine")
        if wrong := _PATTERN.search(str(self.root)):
            raise BadInputError(
                f"workspace {self.root} has {wrong[0]} in its path, which TensorFlow takes for a pattern: name another "
                "with --workspace"
            )
        if clean(str(self.root)) != str(self.root):
            raise BadInputError(
                f"workspace {self.root} has a path that is not UTF-8, or not in this locale: name another with "
                "--workspace, or set LC_ALL=C.UTF-8"
            )

    def owner(self) -> str:
        """Returns what tells this workspace from every other and from its copies: an id of its own, and where it is."""
        path = self.root / ".id"
        if not path.exists():
            write_whole(path, uuid.uuid4().hex)
        with undamaged(path, "delete it, and newsdesk models adopt makes the models those of this workspace again"):
            return f"{uuid.UUID(path.read_text(encoding='utf-8')).hex} {self.root}"

    def model_base(self, name: str) -> Path:
        """Returns the directory of a model's pushed versions."""
        return self.serving / name


def open_workspace(root: Path) -> Workspace:
    """Returns the workspace at ``root``, made if missing.

    Raises:
        BadInputError: It cannot be made or written to.
    """
    try:
        workspace = Workspace(root.resolve())
        for directory, others in (
            # Servers run as another user, and must reach what is served, whatever this process's umask.
            (workspace.root, 0o111),
            (workspace.serving, 0o555),
            (workspace.artifacts, 0),
            (workspace.logs, 0),
        ):
            if not directory.is_dir():
                directory.mkdir(parents=True, exist_ok=True)
                directory.chmod(directory.stat().st_mode | others)
        probe = workspace.root / f"{TEMPORARY}writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, RuntimeError) as error:  # Python 3.11 calls a loop of links a RuntimeError
        why = getattr(error, "strerror", None) or error
        raise BadInputError(f"workspace {root} cannot be written to ({why}): name another with --workspace") from error
    return workspace


@contextmanager
def exclusive(workspace: Workspace, run_id: str) -> Iterator[None]:
    """Holds the workspace for one run; the lock goes with the process, however it ends.

    Raises:
        BadInputError: Another run holds it.
    """
    holder = workspace.root / ".run.json"

    def refusal() -> str:
        who = _describe(holder)
        return f"workspace {workspace.root} is in use by {who}: wait for it, or name another with --workspace"

    with locked(workspace.root / ".run.lock", refusal):
        # For the sentence alone, which a full disk spares: gc frees it.
        with suppress(OSError):
            holder.write_text(json.dumps({"pid": os.getpid(), "run_id": run_id}), encoding="utf-8")
        yield
        holder.unlink(missing_ok=True)


def _describe(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text(encoding="utf-8"))
        return f"run {found['run_id']} (process {found['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
