"""Baseline: what a linear model does on the same rows, so that everyone sees what depth buys."""

from pathlib import Path

import numpy as np
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components import features
from components.artifacts import Baseline as BaselineArtifact
from components.example_gen.examples import read_texts
from components.records import BaselineRecord, write_baseline


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

    from components.evaluation.linear import fit_linear

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
