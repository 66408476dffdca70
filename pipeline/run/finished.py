"""Finds a finished run and what it left behind: its model and its test rows."""

from dataclasses import dataclass
from pathlib import Path

from components import features
from components.errors import BadInputError
from components.outcomes import NodeState
from components.push.model_files import read_classes
from components.registry.tracking import FoundRun, Store, find_runs

_MOST_NAMED = 4
_REASON_CHARACTERS = 200


@dataclass(frozen=True)
class FinishedRun:
    """A run that trained a model, pushed or not.

    Attributes:
        run: As tracked.
        model_dir: SavedModel: the pushed one, or the Trainer's where nothing was pushed or the push is deleted.
        examples_uri: Directory of the Examples artifact that holds its test split.
        classes: Names in label-id order.
    """

    run: FoundRun
    model_dir: Path
    examples_uri: str
    classes: tuple[str, ...]


def find_run(store: Store, wanted: str) -> FoundRun:
    """Returns the one run whose run id or MLflow id is ``wanted`` or alone begins with it.

    Raises:
        BadInputError: There is none or more than one, or the store does not answer.
    """
    found = find_runs(store, wanted)
    found = [run for run in found if wanted in (run.name, run.id)] or found
    if not found:
        raise BadInputError(f"there is no run {wanted!r} in {store.uri}: newsdesk ui lists the runs")
    if len(found) > 1:
        named = ", ".join(f"{run.name} (MLflow {run.id[:8]})" for run in found[:_MOST_NAMED])
        more = ", ..." if len(found) > _MOST_NAMED else ""
        raise BadInputError(f"{wanted!r} may be any of {len(found)} runs, {named}{more}: give more of the id")
    return found[0]


def open_run(store: Store, wanted: str) -> FinishedRun:
    """Returns the run that ``find_run`` finds, with what it left behind.

    Raises:
        BadInputError: There is no such run or more than one, it trained no model, or model or rows are deleted.
    """
    run = find_run(store, wanted)
    tags = run.tags
    if not {"model_uri", "examples_uri"} <= set(tags):
        raise BadInputError(_why_nothing(run))
    places = [Path(tags[tag]) for tag in ("model_dir", "model_uri") if tag in tags]
    model_dir = next((place for place in places if (place / "saved_model.pb").is_file()), None)
    if model_dir is None:
        raise BadInputError(
            f"the model of run {run.name} is no longer at {' or '.join(map(str, places))}: "
            "choose another run, or repeat that one with --no-cache"
        )
    rows = Path(tags["examples_uri"]) / f"Split-{features.TEST}"
    if not rows.is_dir():
        raise BadInputError(
            f"the test rows of run {run.name} are no longer at {rows}: "
            "choose another run, or repeat that one with --no-cache"
        )
    return FinishedRun(run, model_dir, tags["examples_uri"], read_classes(model_dir))


def _why_nothing(run: FoundRun) -> str:
    if run.tags.get("node.Trainer") in (NodeState.RAN, NodeState.CACHED):
        return f"run {run.name} does not say where its model is, as an older newsdesk made it: repeat that run"
    if run.seconds is None:
        return f"run {run.name} is not finished or was killed: wait for its end, or choose another"
    reason = " ".join(run.tags.get("reason", "no reason is known").split())[:_REASON_CHARACTERS]
    return f"run {run.name} trained no model ({reason}): choose one that did"
