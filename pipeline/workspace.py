"""Where a workspace keeps things, and the lock that admits one run at a time."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.errors import BadInputError


@dataclass(frozen=True)
class Workspace:
    """Paths below one directory; the contract of names is in ``docs/architecture.md``."""

    root: Path

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def metadata(self) -> Path:
        return self.root / "metadata.sqlite"

    @property
    def mlflow_store(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.root / "mlartifacts"

    @property
    def serving(self) -> Path:
        return self.root / "serving"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

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
        for directory in (workspace.root, workspace.artifacts, workspace.serving, workspace.logs):
            directory.mkdir(parents=True, exist_ok=True)
        probe = workspace.root / f".writable-{os.getpid()}"
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
    import filelock

    holder = workspace.root / ".run.json"
    lock = filelock.FileLock(workspace.root / ".run.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        who = _describe(holder)
        raise BadInputError(
            f"workspace {workspace.root} is in use by {who}: wait for it, or name another with --workspace"
        ) from error
    try:
        holder.write_text(json.dumps({"pid": os.getpid(), "run_id": run_id}), encoding="utf-8")
        yield
        holder.unlink(missing_ok=True)
    finally:
        lock.release()


def _describe(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "another process"
    return f"run {found['run_id']} (process {found['pid']})"
