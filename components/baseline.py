"""Baseline: what a linear model does on the same rows, so that everyone sees what depth buys."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components import features
from components.artifacts import Baseline as BaselineArtifact
from components.examples import read_texts

BASELINE_FILE, LABELS_FILE = "baseline.json", "label_ids.npy"


@dataclass(frozen=True)
class BaselineRecord:
    """What ``baseline.json`` holds.

    Attributes:
        train_rows: Rows that it was fitted on.
        of_rows: Rows that there were in train.
        features: Words and word pairs it weighs.
        test_rows: Rows that it answered.
        accuracy, macro_f1: Of those answers.
        f1: By label id; None where a class has neither a row nor an answer.
    """

    train_rows: int
    of_rows: int
    features: int
    test_rows: int
    accuracy: float
    macro_f1: float
    f1: tuple[float | None, ...]


def measure_baseline(examples_uri: str, classes: int, most_rows: int) -> tuple[BaselineRecord, np.ndarray]:
    """Fits the linear model on train and answers test; eval has no part in it.

    Args:
        examples_uri: Directory of an Examples artifact.
        classes: Number of classes C.
        most_rows: Rows to fit on, evenly spread over train where that has more.

    Returns:
        The record, and the answers, int64 [N] in the order of the split.
    """
    # scikit-learn takes a second to import, for which those who only read a record need not wait.
    from sklearn.metrics import f1_score

    from components.linear import fit_linear

    train = list(read_texts(examples_uri, features.TRAIN))
    places = np.linspace(0, len(train) - 1, min(len(train), most_rows)).round().astype(int)
    fitted = fit_linear(*_columns([train[place] for place in places]))
    texts, labels = _columns(list(read_texts(examples_uri, features.TEST)))
    answers = fitted.predict(texts)
    f1 = f1_score(labels, answers, labels=range(classes), average=None, zero_division=np.nan)
    record = BaselineRecord(
        train_rows=len(places),
        of_rows=len(train),
        features=fitted.features,
        test_rows=len(texts),
        accuracy=float((answers == labels).mean()),
        macro_f1=float(np.nanmean(f1)),
        f1=tuple(None if np.isnan(value) else float(value) for value in f1),
    )
    return record, answers


def write_baseline(directory: Path, record: BaselineRecord, answers: np.ndarray) -> None:
    """Writes what ``measure_baseline`` returned into the node's artifact."""
    directory.mkdir(parents=True, exist_ok=True)
    np.save(directory / LABELS_FILE, answers)
    (directory / BASELINE_FILE).write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")


def read_baseline(uri: str | Path) -> tuple[BaselineRecord, np.ndarray]:
    """Returns what ``write_baseline`` wrote."""
    values = json.loads((Path(uri) / BASELINE_FILE).read_text(encoding="utf-8"))
    return BaselineRecord(**values | {"f1": tuple(values["f1"])}), np.load(Path(uri) / LABELS_FILE, allow_pickle=False)


@component
def Baseline(
    examples: InputArtifact[standard_artifacts.Examples],
    baseline: OutputArtifact[BaselineArtifact],
    classes: Parameter[int],
    most_rows: Parameter[int],
    code_digest: Parameter[str],
) -> None:
    """Fits a linear model on the train split and keeps its answers to the test split."""
    write_baseline(Path(baseline.uri), *measure_baseline(examples.uri, classes, most_rows))


def _columns(rows: list[tuple[bytes, int]]) -> tuple[list[str], np.ndarray]:
    return [text.decode("utf-8", "replace") for text, _ in rows], np.array([label for _, label in rows], np.int64)
