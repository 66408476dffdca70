"""Two finished runs, A and B, side by side: their answers to the same test rows, their cost and their settings."""

from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from components import features
from components.clean import to_json
from components.errors import BadInputError
from components.evaluation.comparison import Comparison, Metric, align, compare_answers
from components.evaluation.paired import Estimate
from components.evaluation.predictions import cache_key, examples_digest, score_cached
from components.outcomes import NodeState
from components.registry.tracking import FoundRun, Store
from pipeline.run.finished import FinishedRun, open_run

# An answer may change with the batch a row is in, where two classes tie to the last digit.
_ROWS_OFF = 2
_ALSO_SETTINGS = ("data_digest", "code_version")
_SHOWN_ABOVE = ("preset", "model")


@dataclass(frozen=True)
class Side:
    """One of the two runs and what it took; None where a number does not apply or was not tracked.

    Attributes:
        model_version: Pushed version.
        trainer_seconds: Of the node Trainer, unless it was answered from the cache.
        epochs_seconds: Of the passes over the train split, when the model was trained.
        run_seconds: Of the whole run, with ``cached_nodes`` nodes from the cache.
        peak_mb: Largest resident memory of the run's process, in MiB.
        model_mb: Size of the SavedModel on disk, in MiB.
        parameters: Weights of the model.
        rows_per_second: Speed of the answers given for this comparison, unless they come from a file.
    """

    run_id: str
    mlflow_run_id: str
    model_family: str | None
    preset: str | None
    model_version: str | None
    model_dir: str
    trainer_seconds: float | None
    epochs_seconds: float | None
    run_seconds: float | None
    cached_nodes: int
    peak_mb: float | None
    model_mb: float
    parameters: int | None
    rows_per_second: float | None


@dataclass(frozen=True)
class RunComparison:
    """What ``newsdesk compare --json`` prints, the fields of ``answers`` on the same level as the others.

    Attributes:
        a, b: The runs.
        answers: Their models on the same test rows.
        settings: Those that differ, preset and model aside, with both values; None where a run does not have it.
        notes: What to know before relying on a number.
    """

    a: Side
    b: Side
    answers: Comparison
    settings: dict[str, tuple[str | None, str | None]]
    notes: list[str]

    def to_json(self) -> str:
        """Returns one JSON object."""
        values = asdict(self)
        answers = values.pop("answers")
        return to_json(values | answers, ensure_ascii=False)


def compare(
    store: Store, cache: Path, first: str, second: str, most_rows: int = 10, refresh: bool = False
) -> RunComparison:
    """Compares two finished runs on the test rows they share.

    Args:
        store: Where runs are tracked.
        cache: Directory that keeps models' answers.
        first, second: A and B: run ids, MLflow ids, or prefixes that one run alone has.
        most_rows: Disagreements listed per direction.
        refresh: Ask both models anew, and so measure their speed.

    Raises:
        BadInputError: A run is unknown, ambiguous, without a model, or the same as the other; its model or rows are
            deleted; classes or test rows differ; or a model does not answer as it must.
    """
    runs = [open_run(store, wanted) for wanted in (first, second)]
    _check_same_ground(*runs)
    answers = [score_cached(run.model_dir, run.examples_uri, features.TEST, cache, refresh) for run in runs]
    result = compare_answers(answers[0], align(answers[1], answers[0]), runs[0].classes, most_rows)
    result = replace(result, metrics=result.metrics | {"calibration_error": _tracked(runs, "calibration_error")})
    a, b = (_side(run, found.rows_per_second) for run, found in zip(runs, answers, strict=True))
    return RunComparison(a, b, result, _differing_settings(*runs), _notes(runs, result))


def _check_same_ground(a: FinishedRun, b: FinishedRun) -> None:
    if a.run.id == b.run.id:
        raise BadInputError(f"both names stand for run {a.run.name}: name two runs")
    if a.classes != b.classes:
        raise BadInputError(
            f"runs {a.run.name} and {b.run.name} tell different classes apart ({', '.join(a.classes)}; "
            f"{', '.join(b.classes)}): compare runs on data with the same classes"
        )
    if examples_digest(a.examples_uri, features.TEST) == examples_digest(b.examples_uri, features.TEST):
        return
    from components.example_gen.examples import read_texts

    rows = [Counter(read_texts(run.examples_uri, features.TEST)) for run in (a, b)]
    if rows[0] != rows[1]:
        raise BadInputError(
            f"runs {a.run.name} and {b.run.name} were tested on different rows ({rows[0].total():,} and "
            f"{rows[1].total():,}, of which {(rows[0] & rows[1]).total():,} are the same): compare runs on one data set"
        )


def _side(found: FinishedRun, rows_per_second: float | None) -> Side:
    run, metrics, tags = found.run, found.run.metrics, found.run.tags
    parameters = metrics.get("parameters")
    return Side(
        run_id=run.name,
        mlflow_run_id=run.id,
        model_family=tags.get("model_family"),
        preset=run.params.get("preset"),
        model_version=tags.get("serving_version"),
        model_dir=str(found.model_dir),
        trainer_seconds=metrics.get("seconds/Trainer") if tags.get("node.Trainer") == NodeState.RAN else None,
        epochs_seconds=metrics.get("training_seconds"),
        run_seconds=run.seconds,
        cached_nodes=sum(key.startswith("node.") and state == NodeState.CACHED for key, state in tags.items()),
        peak_mb=max((value for key, value in metrics.items() if key.startswith("peak_mb/")), default=None),
        model_mb=sum(path.stat().st_size for path in found.model_dir.rglob("*") if path.is_file()) / 2**20,
        parameters=None if parameters is None else int(parameters),
        rows_per_second=rows_per_second,
    )


def _tracked(runs: list[FinishedRun], name: str) -> Metric:
    """Returns a metric as the Evaluator measured it, without intervals."""
    a, b = (run.run.metrics.get(f"test/{name}") for run in runs)
    return Metric(Estimate(a), Estimate(b), Estimate(None if a is None or b is None else b - a))


def _differing_settings(a: FinishedRun, b: FinishedRun) -> dict[str, tuple[str | None, str | None]]:
    def settings(run: FoundRun) -> dict[str, str]:
        return run.params | {key: run.tags[key] for key in _ALSO_SETTINGS if key in run.tags}

    ours, theirs = settings(a.run), settings(b.run)
    keys = [key for key in {**ours, **theirs} if key not in _SHOWN_ABOVE]
    return {key: (ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)}


def _notes(runs: list[FinishedRun], result: Comparison) -> list[str]:
    notes = []
    keys = {cache_key(run.model_dir, run.examples_uri, features.TEST) for run in runs}
    if len(keys) == 1:
        notes.append("both runs hold the same model")
    for name, run, metric in zip("AB", runs, (result.metrics["accuracy"].a, result.metrics["accuracy"].b), strict=True):
        tracked = run.run.metrics.get("test/accuracy")
        if tracked is not None and metric.value is not None and abs(tracked - metric.value) * result.rows > _ROWS_OFF:
            notes.append(
                f"the Evaluator measured an accuracy of {tracked:.4f} in run {name}, its model now reaches "
                f"{metric.value:.4f}: model or rows have changed since"
            )
        if run.run.tags.get("node.Trainer") == NodeState.CACHED:
            notes.append(
                f"{name}'s Trainer was answered from the cache, so its run's seconds and peak are not of training"
            )
    return notes
