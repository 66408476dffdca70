"""Executions that ML Metadata calls running though their process is gone: killed, or cut off from its store."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.workspace.metadata import MetadataPlace
from pipeline.workspace.place import Workspace, exclusive
from pipeline.workspace.stores import find_metadata

REASON = "abandoned: its process ended without a word"


@dataclass(frozen=True)
class Abandoned:
    """One execution. ``since`` is when it began, in ISO 8601."""

    execution_id: int
    node: str
    run: str
    since: str

    @property
    def sentence(self) -> str:
        """What is to be said of it."""
        return f"{self.node} of run {self.run} is called running since {self.since}, but nothing runs it"


def find_abandoned(workspace: Workspace, mark: bool = False) -> list[Abandoned]:
    """Returns the abandoned executions of a workspace, oldest first.

    Those of a job of an orchestrator that has not finished are left out: its steps hold no lock. So are, on a server,
    those that have left no trace in this workspace. ``mark`` calls them cancelled from now on, with the reason.

    Raises:
        BadInputError: A run is on, or the metadata store does not open.
    """
    place = MetadataPlace(find_metadata(workspace))
    if not workspace.root.is_dir() or not place.exists():
        return []
    with exclusive(workspace, "doctor"):
        place.check()
        store = place.open()
        found = list(_find(store, workspace, place))
        if mark and found:
            _mark(store, {item.execution_id for item in found})
    return found


def _find(store: Any, workspace: Workspace, place: MetadataPlace) -> Iterator[Abandoned]:
    from ml_metadata.proto.metadata_store_pb2 import Execution

    active = (Execution.NEW, Execution.RUNNING)
    running = [item for item in store.get_executions() if item.last_known_state in active]
    busy = _unfinished_jobs(workspace)
    for item in sorted(running, key=lambda item: item.id):
        if place.server and not list(workspace.artifacts.glob(f"*/*/{item.id}")):
            continue
        kinds = {context.type: context.name for context in store.get_contexts_by_execution(item.id)}
        run, node = kinds.get("pipeline_run", "unknown"), kinds.get("node", "unknown").rpartition(".")[2]
        if run not in busy:
            since = datetime.fromtimestamp(item.create_time_since_epoch / 1000, UTC)
            yield Abandoned(item.id, node, run, since.isoformat(timespec="seconds"))


def _unfinished_jobs(workspace: Workspace) -> set[str]:
    """Returns the run ids of jobs that orchestrators have begun here and not finished."""
    begun = (workspace.root / "runs").glob("*/run-id")
    return {path.read_text(encoding="utf-8") for path in begun if not (path.parent / "result.json").is_file()}


def _mark(store: Any, execution_ids: Collection[int]) -> None:
    from ml_metadata.proto.metadata_store_pb2 import Execution

    executions = store.get_executions_by_id(list(execution_ids))
    for item in executions:
        item.last_known_state = Execution.CANCELED
        item.custom_properties["reason"].string_value = REASON
    store.put_executions(executions)
