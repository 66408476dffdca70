"""Garbage collection of a workspace: pushed versions and pipeline artifacts that nobody needs any more.

The cache never answers with what ML Metadata calls deleted, so artifacts are marked first and deleted then. What goes
is found on disk, by the layout ``artifacts/<node>/<output>/<execution>``: a collection that was stopped half-way is
finished by the next.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.errors import BadInputError
from components.file_names import LEASES, VERDICT_FILE
from components.files import TEMPORARY, size_of
from components.push.garbage import discard, kept_versions, read_leases
from components.push.model_base import ALIASES_LOCK, delete, locked, present_versions, record_versions
from components.registry.registry import COLLECTED, Registry
from pipeline.workspace.abandoned import unfinished_jobs
from pipeline.workspace.lineage import Lineage, Use
from pipeline.workspace.metadata import MetadataPlace
from pipeline.workspace.place import Workspace, exclusive
from pipeline.workspace.stores import find_metadata, find_stores

VERSION, RUN, LEFTOVER, LEASE, REGISTERED = "version", "run", "leftover", "lease", "registered model"
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_STATEFUL = ".system/stateful_working_dir"
_CHECKPOINT, _PART = ".checkpoint", ".checkpoint.part"
_YOUNG_SECONDS = 3600.0


@dataclass
class Item:
    """Something that goes.

    Attributes:
        kind: ``version``, ``run``, ``leftover``, ``lease`` or ``registered model``.
        name: Number of a version, in the registry's own count for a registered model; run id, or path from the
            workspace.
        why: In words.
        paths: Its files and directories.
        size: Bytes.
    """

    kind: str
    name: str
    why: str
    paths: list[Path] = field(default_factory=list)
    size: int = 0

    def add(self, path: Path) -> "Item":
        """Takes a file or directory with all that is in it."""
        self.paths.append(path)
        self.size += size_of(path)
        return self


@dataclass(frozen=True)
class Collection:
    """What went, or would go.

    Attributes:
        model_name: Of which model and pipeline.
        dry_run: Whether nothing was deleted.
        items: What goes.
        kept: Versions that stay, each with the reason.
        marks: Artifacts that ML Metadata calls deleted from now on.
    """

    model_name: str
    dry_run: bool
    items: list[Item]
    kept: dict[int, str]
    marks: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of all items."""
        return sum(item.size for item in self.items)

    def to_dict(self, root: Path) -> dict[str, Any]:
        """Returns plain values for JSON; paths are from the workspace."""
        return {
            "model_name": self.model_name,
            "dry_run": self.dry_run,
            "mb": to_mb(self.size),
            "items": [
                {
                    "kind": item.kind,
                    "name": item.name,
                    "why": item.why,
                    "mb": to_mb(item.size),
                    "paths": [str(path.relative_to(root)) for path in item.paths],
                }
                for item in self.items
            ],
            "artifacts_marked": len(self.marks),
            "kept": {str(version): why for version, why in self.kept.items()},
        }


def to_mb(size: int) -> float:
    """Returns bytes in MB, 2**20 each, to three digits."""
    return round(size / 2**20, 3)


def collect(workspace: Workspace, name: str, keep: int, dry_run: bool = False) -> Collection:
    """Deletes the versions and the runs of one model that are older than the newest ``keep``.

    Versions that an alias names or a server has loaded stay, and so do the runs that pushed a version that stays,
    whatever another model's runs use, and reports. Nothing outside the workspace is touched and no link followed.

    Args:
        workspace: Where.
        name: Of the model, which is that of its pipeline too.
        keep: 1 or more.
        dry_run: Whether only to tell.

    Raises:
        BadInputError: There is no such workspace, or model in it, a run is on or an orchestrator's has not finished, a
            directory of the workspace is a link, or what says which versions are in use is damaged.
        OSError: Something cannot be read or deleted.
    """
    base = workspace.model_base(name)
    _check(workspace, base, name)
    with ExitStack() as held:
        held.enter_context(exclusive(workspace, "gc"))
        # Its steps hold no lock.
        for run_id, directory in unfinished_jobs(workspace).items():
            raise BadInputError(
                f"run {run_id} of an orchestrator has not finished, and gc could delete what it needs: wait for it, or "
                f"delete {directory} if it never will"
            )
        if base.is_dir():
            held.enter_context(locked(base))
            held.enter_context(locked(base, ALIASES_LOCK))
        lineage = Lineage(MetadataPlace(find_metadata(workspace)), workspace.artifacts)
        if not base.is_dir() and not lineage.of(name):
            raise BadInputError(
                f"workspace {workspace.root} holds no model {name}: name another with --name or --workspace"
            )
        registry = _own_registry(workspace, name)
        found = _plan(workspace, base, lineage, registry, name, keep, dry_run)
        if not dry_run:
            _apply(base, lineage, registry, found)
    return found


def _check(workspace: Workspace, base: Path, name: str) -> None:
    if not workspace.root.is_dir():
        raise BadInputError(f"there is no workspace {workspace.root}: name another with --workspace")
    if not _MODEL_NAME.fullmatch(name):
        raise BadInputError(f"{name!r} is no name of a model: it is made of letters, digits, dots, _ and -")
    for place in (workspace.artifacts, workspace.serving, base):
        if place.is_symlink():
            raise BadInputError(
                f"{place} is a link, and gc touches nothing outside the workspace: put a directory there"
            )


def _own_registry(workspace: Workspace, name: str) -> Registry | None:
    """Returns the model's registry where it is the workspace's own; what a server keeps is not ours to delete."""
    store = find_stores(workspace, os.environ).tracking
    return Registry(store, name) if store.artifacts and workspace.mlflow_store.exists() else None


def _plan(
    workspace: Workspace, base: Path, lineage: Lineage, registry: Registry | None, name: str, keep: int, dry_run: bool
) -> Collection:
    leases = read_leases(base)
    kept = kept_versions(base, keep, leases)
    use = lineage.use(name, keep, kept)
    items = [
        Item(VERSION, str(version), "not new, in no alias, not loaded").add(base / str(version))
        for version in present_versions(base)
        if version not in kept
    ]
    ours = {run.id for run in lineage.of(name)}
    # Without a metadata store nobody knows whose the artifacts are, nor which runs are new.
    items += _artifacts(workspace, lineage, use, ours) if lineage.runs else []
    for version, path in registry.kept_models(workspace.mlflow_artifacts) if registry and lineage.runs else ():
        if version.serving_version not in kept and version.tags.get("run") not in use.staying:
            items.append(Item(REGISTERED, version.version, "in no alias, and of a run that goes").add(path))
    items += [_leftover(workspace, path, "half made or half deleted") for path in _temporaries(workspace, base)]
    if not (base / LEASES).is_symlink():
        gone = [lease for lease in leases if not lease.counts]
        items += [_leftover(workspace, path, "half written") for path in _old_temporaries(base / LEASES)]
        items += [
            Item(LEASE, _name(workspace, lease.path), f"of {lease.holder}, gone").add(lease.path) for lease in gone
        ]
    return Collection(name, dry_run, items, kept, use.marks)


def _artifacts(workspace: Workspace, lineage: Lineage, use: Use, ours: set[str]) -> list[Item]:
    runs: dict[str, Item] = {}
    leftovers = []
    for node, output, path in _outputs(workspace.artifacts):
        execution = int(path.name) if path.name.isdecimal() else None
        run = lineage.run_of.get(execution) if execution is not None else None
        if run is None or run in use.staying:
            why = _why_leftover(node, output, path, run, use, ours)
            leftovers += [_leftover(workspace, path, why)] if why else []
        elif execution is not None and (node, output, execution) not in use.places:
            runs.setdefault(run, Item(RUN, run, "not new, and pushed no version that stays")).add(path)
    return [*(runs[run] for run in sorted(runs)), *leftovers]


def _why_leftover(node: str, output: str, path: Path, run: str | None, use: Use, ours: set[str]) -> str | None:
    """Returns why an output goes though its run, if any, stays; None where it stays too."""
    if path.name.isdecimal():
        execution = int(path.name)
        if run is None:
            return "of no known run"
        if run not in ours:
            return None
        if (node, output, execution) in use.deleted:
            return "called deleted by ML Metadata"
        # A gate that says no has not finished either, and its outputs say why: earlier versions kept the verdict alone.
        kept = (node, output, execution) in use.places or (path / VERDICT_FILE).is_file()
        if execution not in use.finished and not kept:
            return "of a node that did not finish"
        return None
    if output == _STATEFUL:
        return "of a node that did not finish"
    if path.name.endswith(_PART):
        return "half a checkpoint"
    if path.name.endswith(_CHECKPOINT) and not use.resumable:
        return "a checkpoint, and every new run has ended well"
    return None


def _outputs(artifacts: Path) -> Iterator[tuple[str, str, Path]]:
    """Yields node, output and path of whatever lies where executions put their outputs."""
    for node in _directories(artifacts):
        for output in _directories(node):
            if output.name == ".system":
                for part in _directories(output):
                    yield from ((node.name, f".system/{part.name}", path) for path in sorted(part.iterdir()))
            else:
                yield from ((node.name, output.name, path) for path in sorted(output.iterdir()))


def _temporaries(workspace: Workspace, base: Path) -> Iterator[Path]:
    places = [base, workspace.artifacts]
    for node in _directories(workspace.artifacts):
        places += [node, *(output for output in _directories(node))]
        places += _directories(node / ".system")
    for place in places:
        yield from sorted(place.glob(f"{TEMPORARY}*"))
    others = [item for item in _directories(workspace.root) if item not in (workspace.artifacts, workspace.serving)]
    below = [Path(parent) for directory in others for parent, _, _ in os.walk(directory)]
    for place in (workspace.root, workspace.serving, *below):
        yield from _old_temporaries(place)


def _old_temporaries(place: Path) -> list[Path]:
    # A young one is perhaps being written: a server, a page and a log take no lock.
    long_ago = time.time() - _YOUNG_SECONDS
    return [path for path in sorted(place.glob(f"{TEMPORARY}*")) if path.lstat().st_mtime < long_ago]


def _directories(place: Path) -> list[Path]:
    if not place.is_dir() or place.is_symlink():
        return []
    found = (path for path in place.iterdir() if not path.name.startswith(TEMPORARY))
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def _leftover(workspace: Workspace, path: Path, why: str) -> Item:
    return Item(LEFTOVER, _name(workspace, path), why).add(path)


def _name(workspace: Workspace, path: Path) -> str:
    return str(path.relative_to(workspace.root))


def _apply(base: Path, lineage: Lineage, registry: Registry | None, found: Collection) -> None:
    # What was never whole goes before anything is written: on a full disk there is no room for a mark.
    half = [item for item in found.items if all(path.name.startswith(TEMPORARY) for path in item.paths)]
    for item in half:
        _remove(base, item)
    lineage.mark_deleted(found.marks)
    if base.is_dir():
        # A number that is gone stays given out, even where the ledger was lost.
        record_versions(base, present_versions(base))
    for item in found.items:
        if item.kind == REGISTERED and registry:
            registry.tag(item.name, {COLLECTED: "true"})
        if item not in half:
            _remove(base, item)


def _remove(base: Path, item: Item) -> None:
    if item.kind == VERSION:
        _refuse_if_loaded(base, int(item.name))
    for path in item.paths:
        if item.kind == LEASE or path.name.startswith(TEMPORARY):
            delete(path)
        else:
            discard(path)


def _refuse_if_loaded(base: Path, version: int) -> None:
    holders = [lease.holder for lease in read_leases(base) if version in lease.versions]
    if holders:
        raise BadInputError(f"version {version} has just been loaded by {holders[0]}: run gc again, which keeps it")
