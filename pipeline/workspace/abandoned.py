"""What ML Metadata and MLflow call running though its process is gone: killed, or cut off from its store."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.workspace.metadata import MetadataPlace
from pipeline.workspace.place import Workspace, exclusive
from pipeline.workspace.stores import find_metadata, find_stores

if TYPE_CHECKING:
    from components.registry.tracking import Store

WORKSPACE = "workspace"
"""MLflow's tag that names a run's workspace."""
REASON = "abandoned: its process ended without a word"


@dataclass(frozen=True)
class Abandoned:
    """One execution, or with no id MLflow's record of a run. ``since`` is when it began, in ISO 8601."""

    execution_id: int | None
    node: str
    run: str
    since: str

    @property
    def sentence(self) -> str:
        """What is to be said of it."""
        return f"{self.node} of run {self.run} is called running since {self.since}, but nothing runs it"


def find_abandoned(workspace: Workspace, mark: bool = False) -> list[Abandoned]:
    """Returns the abandoned executions of a workspace, oldest first, and then the runs that are open in MLflow.

    Those of a job of an orchestrator that has not finished are left out: its steps hold no lock. So are, on a server,
    those that have left no trace in this workspace. ``mark`` calls them cancelled from now on, with the reason.

    Raises:
        BadInputError: A run is on, or a store does not open.
    """
    place = MetadataPlace(find_metadata(workspace))
    if not workspace.root.is_dir() or not place.exists():
        return []
    with exclusive(workspace, "doctor"):
        with place.answering():
            store = place.open()
            found = list(_find(store, workspace, place))
            if mark and found:
                _mark(store, {item.execution_id for item in found if item.execution_id})
        tracking = find_stores(workspace, os.environ).tracking
        if tracking.artifacts is None or workspace.mlflow_store.exists():
            found += close_killed(workspace, tracking, mark)
    return found


def close_killed(workspace: Workspace, tracking: "Store", mark: bool = True) -> list[Abandoned]:
    """Returns the runs of a workspace that MLflow calls running, and closes them there with ``mark``; the caller holds
    the workspace, so that nothing runs them. Errors: ``open_runs``."""
    from components.registry.tracking import open_runs

    busy, root = unfinished_jobs(workspace), str(workspace.root)
    # Runs of earlier versions name their metadata store alone, by default a file of the workspace.
    found = open_runs(
        tracking,
        lambda run: (
            run.name not in busy and root == run.tags.get(WORKSPACE, os.path.dirname(run.tags.get("mlmd_store", "")))
        ),
        mark,
    )
    return [Abandoned(None, "MLflow's record", run.name, _moment(run.started)) for run in found]


def _find(store: Any, workspace: Workspace, place: MetadataPlace) -> Iterator[Abandoned]:
    from ml_metadata.proto.metadata_store_pb2 import Execution

    active = (Execution.NEW, Execution.RUNNING)
    running = [item for item in store.get_executions() if item.last_known_state in active]
    busy = unfinished_jobs(workspace)
    for item in sorted(running, key=lambda item: item.id):
        if place.server and not list(workspace.artifacts.glob(f"*/*/{item.id}")):
            continue
        kinds = {context.type: context.name for context in store.get_contexts_by_execution(item.id)}
        run, node = kinds.get("pipeline_run", "unknown"), kinds.get("node", "unknown").rpartition(".")[2]
        if run not in busy:
            yield Abandoned(item.id, node, run, _moment(item.create_time_since_epoch))


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def unfinished_jobs(workspace: Workspace) -> dict[str, Path]:
    """Returns the jobs that orchestrators have begun here and not finished: run id to directory."""
    begun = (workspace.root / "runs").glob("*/run-id")
    return {
        path.read_text("utf-8", "replace"): path.parent for path in begun if not (path.parent / "result.json").is_file()
    }


def _mark(store: Any, execution_ids: Collection[int]) -> None:
    from ml_metadata.proto.metadata_store_pb2 import Execution

    executions = store.get_executions_by_id(list(execution_ids))
    for item in executions:
        item.last_known_state = Execution.CANCELED
        item.custom_properties["reason"].string_value = REASON
    store.put_executions(executions)
