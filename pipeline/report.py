"""Collects what a run left behind, and keeps its report in the workspace."""

import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError

from components.comparison import align, compare_answers
from components.errors import BadInputError
from components.predictions import Predictions, load
from components.report import reading
from components.report.facts import Champion, Data, Gate, Node, RunFacts
from components.report.measures import Evaluation
from components.report.tables import mistakes
from pipeline.config import flatten
from pipeline.nodes import CACHED, FAILED, RAN, NodeRun
from pipeline.source_digest import project_digest
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.run import Request, RunResult

PAGE_FILE, FACTS_FILE = "index.html", "run.json"
MOST_FLIPPED = 25
"""Rows listed of those that only the champion, and only the candidate, gets right."""
_CHAMPION_FILE, _PREDICTIONS_FILE, _REGISTRATION_FILE = "champion.json", "predictions.npz", "registration.json"
_MOST_NAMED = 10


def collect(result: "RunResult", nodes: Sequence[NodeRun], request: "Request", now: datetime | None = None) -> RunFacts:
    """Returns the facts of a run that has just ended, however it ended.

    What is missing because the run stopped before it is None; what a finished node ought to have left and did not is
    an error.

    Args:
        result: What the run returns.
        nodes: As its runner left them, with their outputs.
        request: What was asked for.
        now: When it ended.

    Raises:
        OSError, ValueError: A finished node's output is gone or damaged.
    """
    config, source = request.config, request.source
    left = _Left(nodes)
    gates = [gate for node in nodes if (gate := left.gate(node.id))]
    directory = left.of("Answers", "answers")
    answers = load(directory / _PREDICTIONS_FILE) if directory else None
    history = left.of("Trainer", "model_run")
    baseline = left.of("Baseline", "baseline")
    return RunFacts(
        run_id=result.run_id,
        mlflow_run_id=result.mlflow_run_id,
        registry_version=_registered(left),
        tracking=_without_password(request.tracking.uri),
        workspace=str(request.workspace.root),
        status=result.status,
        reasons=[reading.clean(reason) for reason in result.reasons],
        finished_at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
        seconds=result.seconds,
        preset=config.preset,
        model_family=config.model,
        model_name=config.name,
        encoder=config.encoder,
        model_version=result.model_version,
        pushed_as=config.push.as_ if result.model_version else None,
        model_dir=result.model_dir,
        classes=list(source.classes),
        nodes=[_node(node) for node in nodes],
        gates=gates,
        evaluation=_evaluation(left, request, answers),
        mistakes=None if answers is None else mistakes(answers, source.classes),
        champion=_champion(left, gates, request, answers),
        baseline=reading.read_baseline(baseline, source.classes, answers) if baseline else None,
        training=reading.read_training(history) if history else None,
        data=_data(left, gates, request, result.run_id),
        settings={key: reading.clean(str(value)) for key, value in flatten(config).items()},
        versions=reading.installed_versions(project_digest()),
    )


def write_report(facts: RunFacts, workspace: Workspace) -> Path:
    """Writes the page and the facts it is drawn from, and returns the page's path."""
    from components.report.page import render_page

    directory = workspace.reports / _plain_name(facts.run_id)
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / FACTS_FILE, facts.to_json())
    _write(directory / PAGE_FILE, render_page(facts, directory))
    return directory / PAGE_FILE


def read_facts(workspace: Workspace, wanted: str | None = None) -> RunFacts:
    """Returns the facts that a run's report was drawn from.

    Args:
        workspace: Where.
        wanted: Run id, or the beginning of one; the newest run if None.

    Raises:
        BadInputError: There is no report of such a run, or of more than one, or it cannot be read.
    """
    kept = sorted(path.parent.name for path in (workspace.reports).glob(f"*/{FACTS_FILE}"))
    if not kept:
        raise BadInputError(f"workspace {workspace.root} has no report yet: newsdesk run makes the first")
    # Run ids sort by time.
    found = [name for name in kept if name == wanted] or [name for name in kept if name.startswith(wanted or kept[-1])]
    if len(found) != 1:
        names = found or kept
        more = ", ..." if len(names) > _MOST_NAMED else ""
        listed = ", ".join(names[: -_MOST_NAMED - 1 : -1]) + more
        if not found:
            raise BadInputError(f"there is no report of a run {wanted!r}: there is one of {listed}")
        raise BadInputError(f"{wanted!r} may be any of {len(found)} runs, {listed}: give more of the id")
    path = workspace.reports / found[0] / FACTS_FILE
    try:
        return RunFacts.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise BadInputError(
            f"{path} cannot be read, as it is damaged or from another version of newsdesk: repeat the run"
        ) from error


class _Left:
    """Where the nodes of a run left their outputs."""

    def __init__(self, nodes: Sequence[NodeRun]):
        self._nodes = {node.id: node for node in nodes}

    def of(self, node_id: str, output: str) -> Path | None:
        """Returns an output's directory, None unless the node finished."""
        node = self._nodes.get(node_id)
        return Path(node.outputs[output].uri) if node and node.state in (RAN, CACHED) else None

    def behind(self, node_id: str, output: str, file: str) -> Path | None:
        """Returns an output's directory, also of a node that failed, if that had written ``file`` by then."""
        node = self._nodes.get(node_id)
        if node is None or node.state != FAILED:
            return self.of(node_id, output)
        directory = Path(node.outputs[output].uri) if output in node.outputs else None
        return directory if directory and (directory / file).is_file() else None

    def gate(self, node_id: str) -> Gate | None:
        """Returns a gate's verdict, None if the node is no gate or came to none."""
        directory = self.behind(node_id, "verdict", reading.VERDICT_FILE) if node_id.endswith("Gate") else None
        return reading.read_gate(directory) if directory else None


def _node(node: NodeRun) -> Node:
    outputs = {name: artifact.uri for name, artifact in sorted(node.outputs.items())}
    return Node(node.id, node.state, round(node.seconds, 2), round(node.peak_mb), outputs)


def _registered(left: _Left) -> str | None:
    directory = left.of("Register", "registration")
    if directory is None:
        return None
    return json.loads((directory / _REGISTRATION_FILE).read_text(encoding="utf-8"))["registry_version"]


def _evaluation(left: _Left, request: "Request", answers: Predictions | None) -> Evaluation | None:
    directory = left.of("Evaluator", "evaluation")
    if directory is None:
        return None
    return reading.read_evaluation(directory, request.source.classes, request.config.floors.model_dump(), answers)


def _champion(left: _Left, gates: Sequence[Gate], request: "Request", answers: Predictions | None) -> Champion | None:
    directory = left.of("Champion", "champion")
    if directory is None:
        return None
    record = json.loads((directory / _CHAMPION_FILE).read_text(encoding="utf-8"))
    settings = request.config.model_gate
    champion = Champion(
        serving_version=record["serving_version"],
        registry_version=record["registry_version"],
        reason=record["reason"],
        verdict=next((gate.numbers.get("verdict") for gate in gates if gate.name == "ModelGate"), None),
        margin=settings.margin,
    )
    if answers is None or champion.registry_version is None:
        return champion
    # Where the champion's run was tested on other rows, the ModelGate had it answer these.
    places = [left.behind("ModelGate", "verdict", _PREDICTIONS_FILE), directory]
    files = [place / _PREDICTIONS_FILE for place in places if place]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        return replace(champion, note="The champion's run kept no answers that could be compared row by row.")
    theirs, classes = load(path), request.source.classes
    if theirs.probabilities.shape[1] != len(classes):
        return replace(champion, note="The champion tells other classes apart, so that no answers can be compared.")
    try:
        theirs = align(theirs, answers)
    except ValueError:
        return replace(champion, note="The champion's run kept answers to other test rows, which cannot be compared.")
    return replace(champion, comparison=compare_answers(theirs, answers, classes, MOST_FLIPPED, settings.confidence))


def _data(left: _Left, gates: Sequence[Gate], request: "Request", run_id: str) -> Data:
    source = request.source
    directory = left.behind("ExampleGen", "report", "report.json")
    data = reading.read_data(directory, source.directory, source.test, source.digest, gates)
    kept = request.workspace.quarantine / f"{run_id}.jsonl"
    return replace(
        data,
        spans=list(source.spans),
        left_out=[reading.clean(line) for line in source.left_out],
        quarantine_file=str(kept) if kept.is_file() else None,
    )


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri


def _plain_name(run_id: str) -> str:
    if run_id in ("", ".", "..") or Path(run_id).name != run_id:
        raise ValueError(f"run id {run_id!r} is not a name of a directory")
    return run_id


def _write(path: Path, text: str) -> None:
    """Writes a file, all of it or nothing."""
    temporary = path.with_name(f".tmp-{path.name}-{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
