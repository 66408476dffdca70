"""Tells MLflow of decisions: one run each, in an experiment of their own. What it missed it is told later."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.errors import BadInputError
from components.registry.spool import Spool
from components.registry.tracking import Store, start_run
from pipeline.retrain.history import Attempt, Notes

EXPERIMENT = "{name}-retrain"
_log = logging.getLogger("newsdesk.retrain")


def tell(
    store: Store,
    name: str,
    spool: Path,
    notes: Notes,
    decisions: Sequence[Mapping[str, Any]],
    attempts: Sequence[Attempt],
) -> int:
    """Writes each decision that MLflow does not have to a run; returns how many it took.

    Decisions stand in ``decisions.jsonl`` first, so that nothing is lost while MLflow is away: it is told of them the
    next time. A kill between the two may tell it of one decision twice, under one name.

    Args:
        store: MLflow's.
        name: Of the model.
        spool: Directory that keeps what MLflow stops taking in mid-run.
        notes: Where the last one told is kept.
        decisions: Lines of ``decisions.jsonl``, oldest first.
        attempts: What came of them.
    """
    # The file only grows, so a count says which.
    told = notes.read().get("told", 0)
    waiting = decisions[told:]
    outcome = {attempt.run_id: attempt for attempt in attempts}
    for number, line in enumerate(waiting):
        try:
            with start_run(store, EXPERIMENT.format(name=name), line["id"], Spool(spool)) as run:
                run.tags(_tags(line, outcome.get(line.get("run_id") or "")))
                run.metrics(_metrics(line))
                run.json("decision.json", line)
        except BadInputError as error:
            _log.warning("%s; %d decisions wait for it in decisions.jsonl", error, len(waiting) - number)
            return number
        notes.write(told=told + number + 1)
    return len(waiting)


def _tags(line: Mapping[str, Any], attempt: Attempt | None) -> dict[str, str]:
    tags = {
        "decision": "retrain" if line["retrain"] else "refused" if line.get("refused") else "no",
        "reason": "; ".join(line["reasons"]),
        "decided_at": line["moment"],
        "circuit": line["circuit"],
    }
    if attempt:
        tags |= {"retrained_run": attempt.run_id, "outcome": attempt.outcome}
    return tags


def _metrics(line: Mapping[str, Any]) -> dict[str, float]:
    evidence = line.get("evidence") or {}
    newest, champion = evidence.get("newest") or {}, evidence.get("champion") or {}
    found: dict[str, float | None] = {
        "window_spans": len(evidence.get("window", ())),
        "new_spans": len(evidence.get("new", ())),
    }
    found |= {f"newest/{name}": item["value"] for name, item in (newest.get("drift") or {}).items()}
    if newest.get("accuracy"):
        found["newest/champion_accuracy"] = newest["accuracy"]["share"]
    found["champion_days"] = champion.get("days")
    return {name: value for name, value in found.items() if value is not None}
