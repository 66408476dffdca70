"""Collects what a run left behind, and keeps its report in the workspace."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from components.addresses import redacted
from components.clean import clean
from components.errors import BadInputError
from components.evaluation.comparison import align, compare_answers
from components.evaluation.predictions import Predictions, load
from components.file_names import PREDICTIONS_FILE
from components.files import undamaged, write_whole
from components.gates.model.gate import GATE as MODEL_GATE
from components.gates.verdict import Verdict
from components.report import reading
from components.report.facts import Champion, Data, Node, RunFacts
from components.report.left_behind import VERDICT, LeftBehind
from components.report.tables import mistakes
from pipeline.config.config import flatten
from pipeline.config.families import summarize
from pipeline.run.record import NodeRun, Request, RunResult, left_behind
from pipeline.source_digest import project_digest
from pipeline.workspace.place import Workspace

PAGE_FILE, FACTS_FILE = "index.html", "run.json"
MOST_FLIPPED = 25
"""Rows listed of those that only the champion, and only the candidate, gets right."""
_MOST_NAMED = 10


def collect(result: RunResult, nodes: Sequence[NodeRun], request: Request, now: datetime | None = None) -> RunFacts:
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
    left = left_behind(nodes)
    gates = left.verdicts()
    answers = left.answers()
    registered = left.registration()
    return RunFacts(
        run_id=result.run_id,
        mlflow_run_id=result.mlflow_run_id,
        registry_version=registered.registry_version if registered else None,
        tracking=redacted(request.tracking.uri).replace("***@", ""),
        workspace=str(request.workspace.root),
        status=result.outcome.status,
        reasons=[clean(reason) for reason in result.reasons],
        finished_at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
        seconds=result.seconds,
        preset=config.preset,
        model_family=config.model,
        model_name=config.name,
        summary=summarize(config),
        model_version=result.model_version,
        pushed_as=config.push.as_ if result.model_version else None,
        model_dir=result.model_dir,
        classes=list(source.classes),
        nodes=[_node(node) for node in nodes],
        gates=gates,
        evaluation=reading.read_evaluation(left, source.classes, config.floors.model_dump(), answers),
        mistakes=None if answers is None else mistakes(answers, source.classes),
        champion=_champion(left, gates, request, answers),
        baseline=reading.read_baseline(left, source.classes, answers),
        training=reading.read_training(left),
        data=_data(left, gates, request, result.run_id),
        settings={key: clean(str(value)) for key, value in flatten(config).items()},
        versions=reading.installed_versions(project_digest()),
    )


def write_report(facts: RunFacts, workspace: Workspace) -> Path:
    """Writes the page and the facts it is drawn from, and returns the page's path."""
    from components.report.page import render_page

    if facts.run_id in ("", ".", "..") or Path(facts.run_id).name != facts.run_id:
        raise ValueError(f"run id {facts.run_id!r} is not a name of a directory")
    directory = workspace.reports / facts.run_id
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / FACTS_FILE, facts.to_json())
    write_whole(directory / PAGE_FILE, render_page(facts, directory))
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
    with undamaged(path, "repeat the run, as it may be from another version of newsdesk"):
        return RunFacts.from_json(path.read_text(encoding="utf-8"))


def _node(node: NodeRun) -> Node:
    outputs = {name: artifact.uri for name, artifact in sorted(node.outputs.items())}
    return Node(node.id, node.state, round(node.seconds, 2), round(node.peak_mb), outputs)


def _champion(
    left: LeftBehind, gates: Sequence[Verdict], request: Request, answers: Predictions | None
) -> Champion | None:
    record = left.champion()
    if record is None:
        return None
    settings = request.config.of(MODEL_GATE)
    champion = Champion(
        serving_version=record.serving_version,
        registry_version=record.registry_version,
        reason=record.reason,
        verdict=next((item.numbers.get("verdict") for item in gates if item.gate == MODEL_GATE.name), None),
        margin=settings.margin,
    )
    if answers is None or champion.registry_version is None:
        return champion
    # Where the champion's run was tested on other rows, the ModelGate had it answer these.
    places = [left.behind(MODEL_GATE.name, VERDICT, PREDICTIONS_FILE), left.of("Champion", "champion")]
    files = [place / PREDICTIONS_FILE for place in places if place]
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


def _data(left: LeftBehind, gates: Sequence[Verdict], request: Request, run_id: str) -> Data:
    source = request.source
    data = reading.read_data(left, source.directory, source.test, source.digest, gates)
    kept = request.workspace.quarantine / f"{run_id}.jsonl"
    return replace(
        data,
        spans=list(source.spans),
        left_out=[clean(line) for line in source.left_out],
        quarantine_file=str(kept) if kept.is_file() else None,
    )
