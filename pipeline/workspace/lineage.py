"""What ML Metadata knows of a workspace's runs, and which of it is still of use."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.workspace.metadata import MetadataPlace

Place = tuple[str, str, int]
"""Node, output and execution: where an artifact is, below the directory of artifacts."""


@dataclass(frozen=True)
class PastRun:
    """One run of one pipeline."""

    id: str
    pipeline: str | None
    executions: frozenset[int]


@dataclass(frozen=True)
class Use:
    """What stays and what does not.

    Attributes:
        staying: Ids of the runs that stay.
        finished: Executions of those runs that completed or were answered from the cache.
        places: Where the artifacts are that those runs made or used.
        deleted: Where the artifacts are that are, or are to be, called deleted.
        marks: Ids of the artifacts that are to be called deleted.
        resumable: Whether a checkpoint may be of use: a new run, or another pipeline's last one, has not ended well.
    """

    staying: frozenset[str]
    finished: frozenset[int]
    places: frozenset[Place]
    deleted: frozenset[Place]
    marks: tuple[int, ...]
    resumable: bool


class Lineage:
    """The runs of one workspace, as a metadata store knows them.

    Attributes:
        runs: Oldest first.
        run_of: The run of each execution.
    """

    def __init__(self, place: MetadataPlace, artifacts: Path):
        """Reads the store, if there is one.

        Args:
            place: The store. A file's runs are all of one workspace; a server's may be of several.
            artifacts: Where this workspace's are.

        Raises:
            BadInputError: It does not open.
        """
        self._place, self._root = place, artifacts
        self.runs: list[PastRun] = []
        self._finished: frozenset[int] = frozenset()
        self._artifacts: dict[int, Any] = {}
        self._artifacts_of: dict[int, set[int]] = {}
        if place.exists():
            self._read()
        self.run_of = {execution: run.id for run in self.runs for execution in run.executions}

    def of(self, pipeline: str) -> list[PastRun]:
        """Returns the runs of one pipeline, oldest first."""
        return [run for run in self.runs if run.pipeline == pipeline]

    def use(self, pipeline: str, keep: int, versions: Iterable[int]) -> Use:
        """Tells what is of use.

        Args:
            pipeline: Of whose runs the old ones go; those of others stay.
            keep: The number of newest runs that stay in any case.
            versions: Pushed versions that stay, and with them the runs that pushed them or were told of them.
        """
        from ml_metadata.proto.metadata_store_pb2 import Artifact

        ours = self.of(pipeline)
        versions = set(versions)
        pushes = {number: self._artifacts[number] for number in self._artifacts_in(ours) if self._is_push(number)}
        standing = {number for number, item in pushes.items() if _pushed_version(item) in versions}
        others = [run for run in self.runs if run.pipeline != pipeline]
        last = [*{run.pipeline: run for run in others}.values(), *ours[-keep:]]
        staying = others + ours[-keep:] + [run for run in ours if standing & self._artifacts_in([run])]
        executions = {execution for run in staying for execution in run.executions}
        used = self._artifacts_in(staying) - (pushes.keys() - standing)
        gone = {number for number, item in self._artifacts.items() if item.state == Artifact.DELETED}
        marks = self._artifacts_in(ours) - used - gone
        return Use(
            frozenset(run.id for run in staying),
            frozenset(executions & self._finished),
            self._places(used - gone),
            self._places(gone | marks),
            tuple(sorted(marks)),
            any(run.executions - self._finished for run in last),
        )

    def mark_deleted(self, artifact_ids: Collection[int]) -> None:
        """Calls artifacts deleted. No other is written: the cache's keys hold the time when an input was last."""
        from ml_metadata.proto.metadata_store_pb2 import Artifact

        if not artifact_ids:
            return
        with self._place.answering():
            store = self._place.open()
            artifacts = store.get_artifacts_by_id(list(artifact_ids))
            for artifact in artifacts:
                artifact.state = Artifact.DELETED
            store.put_artifacts(artifacts)

    def _read(self) -> None:
        from ml_metadata.proto.metadata_store_pb2 import Execution

        with self._place.answering():
            store = self._place.open()
        executions = store.get_executions()
        done = (Execution.COMPLETE, Execution.CACHED)
        self._finished = frozenset(item.id for item in executions if item.last_known_state in done)
        self._artifacts = {item.id: item for item in store.get_artifacts()}
        for event in store.get_events_by_execution_ids([item.id for item in executions]) if executions else []:
            self._artifacts_of.setdefault(event.execution_id, set()).add(event.artifact_id)
        pipeline_of = {
            execution.id: context.name
            for context in store.get_contexts_by_type("pipeline")
            for execution in store.get_executions_by_context(context.id)
        }
        contexts = store.get_contexts_by_type("pipeline_run")
        for context in sorted(contexts, key=lambda item: item.id):
            members = frozenset(item.id for item in store.get_executions_by_context(context.id))
            pipeline = next((pipeline_of[member] for member in sorted(members) if member in pipeline_of), None)
            run = PastRun(context.name, pipeline, members)
            if self._is_ours(run):
                self.runs.append(run)

    def _is_ours(self, run: PastRun) -> bool:
        """Returns whether a run is of this workspace; the name of a pipeline says nothing on a server."""
        if self._place.server is None:
            return True
        uris = [self._artifacts[number].uri for number in self._artifacts_in([run])]
        return any(uri.startswith(f"{self._root}/") for uri in uris)

    def _artifacts_in(self, runs: list[PastRun]) -> set[int]:
        return {
            number for run in runs for execution in run.executions for number in self._artifacts_of.get(execution, ())
        }

    def _is_push(self, number: int) -> bool:
        return "pushed_version" in self._artifacts[number].custom_properties

    def _places(self, numbers: Iterable[int]) -> frozenset[Place]:
        found = (parse_place(self._artifacts[number].uri) for number in numbers)
        return frozenset(place for place in found if place is not None)


def parse_place(uri: str) -> Place | None:
    """Returns where an artifact is, by the end of its address: a workspace may have been moved since.

    None if the address is none of TFX's, ``.../<node>/<output>/<execution>`` with perhaps ``/value`` behind it.
    """
    parts = uri.rstrip("/").split("/")
    if parts[-1] == "value":
        parts = parts[:-1]
    return (parts[-3], parts[-2], int(parts[-1])) if len(parts) >= 3 and parts[-1].isdecimal() else None


def _pushed_version(artifact: Any) -> int | None:
    text = artifact.custom_properties["pushed_version"].string_value
    return int(text) if text.isdecimal() else None
