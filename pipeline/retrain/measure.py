"""Measures one span against the champion: its data against the champion's data, its rows by the champion's answers."""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from components import features
from components.errors import changed
from components.evaluation.paired import wilson_interval
from components.example_gen.reader import Malformed, read_records
from components.example_gen.source import open_lines
from components.example_gen.spans import Span
from components.gates.data import drift_checks
from components.gates.data.checks import check_data
from components.gates.data.facts import Data, gather
from components.gates.data.gate import DataGateConfig
from components.gates.data.profile import Profile
from components.gates.gate import Limit
from pipeline.config.retrain import DriftConfig
from pipeline.retrain.evidence import Accuracy, Measured

_MEASURES = {
    "class_drift": drift_checks.class_drift,
    "length_drift": drift_checks.length_drift,
    "vocabulary_drift": drift_checks.vocabulary_drift,
    "oov_rate": drift_checks.new_words,
}
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class SpanRows:
    """The rows of one span.

    Attributes:
        rows: Texts in UTF-8 with class ids, of each split.
        malformed: Rows that cannot be read.
        unknown: Labels that no class has, and how often each occurs.
    """

    rows: dict[str, list[tuple[bytes, int]]]
    malformed: int
    unknown: dict[str, int]


def read_span(directory: Path | str, span: Span, classes: tuple[str, ...], eval_fraction: float) -> SpanRows:
    """Reads a span as ingest does.

    Raises:
        BadInputError: A file became unreadable, or another one.
    """
    # It brings TensorFlow, which a decision without new spans need not wait for.
    from components.example_gen.ingest import eval_or_train

    ids = {str(number + 1): number for number in range(len(classes))}
    rows: dict[str, list[tuple[bytes, int]]] = {split: [] for split in features.SPLITS}
    malformed, unknown = 0, Counter[str]()
    for name, fixed, expected in ((span.train, None, span.digests[0]), (span.test, features.TEST, span.digests[1])):
        digest = hashlib.sha256()
        with open_lines(f"{directory}/{span.name}/{name}", digest) as lines:
            for record in read_records(lines):
                if isinstance(record, Malformed):
                    malformed += 1
                elif record.label not in ids:
                    unknown[record.label[:_SHOWN_CHARACTERS]] += 1
                else:
                    split = fixed or eval_or_train(record.split_key, eval_fraction)
                    rows[split].append((record.text.encode(), ids[record.label]))
        if digest.digest() != expected:
            raise changed(f"{directory}/{span.name}/{name}")
    return SpanRows(rows, malformed, dict(unknown))


def judge(
    found: SpanRows,
    classes: tuple[str, ...],
    champion: Profile | None,
    gate: DataGateConfig,
    malformed_budget: float,
    least_rows: int,
) -> tuple[str, ...]:
    """Returns why a span must not be trained on: what ingest and the DataGate would say of it alone.

    One bad span among many good ones would pass them unseen. A span is smaller than a window, so its number of rows is
    not held against the champion's.

    Args:
        found: The span.
        classes: What classes are called.
        champion: Profile of the data behind the champion, if there is one.
        gate: Limits of the DataGate; one that only warns is no reason.
        malformed_budget: Largest share of malformed rows.
        least_rows: A split of train with fewer rows is too small for the DataGate's limits.
    """
    reasons = []
    if found.unknown:
        label, count = max(found.unknown.items(), key=lambda item: item[1])
        reasons.append(f'label "{label}" in {count} rows is unknown: the first column must be "1" to "{len(classes)}"')
    rows = sum(map(len, found.rows.values())) + found.malformed + sum(found.unknown.values())
    if found.malformed > malformed_budget * rows:
        reasons.append(
            f"{found.malformed} of {rows} rows are malformed, more than the budget of {malformed_budget:.2%} "
            "(data.malformed_budget)"
        )
    if len(found.rows[features.TRAIN]) >= least_rows and all(found.rows.values()):
        off = Limit(severity="off", threshold=0)
        checks = check_data(gather(found.rows, classes), champion, gate.model_copy(update={"row_collapse": off}))
        reasons += [check.sentence for check in checks if not check.passed and check.severity == "fail"]
    return tuple(reasons)


def measure_drift(
    found: SpanRows, classes: tuple[str, ...], champion: Profile, limits: DriftConfig
) -> dict[str, Measured]:
    """Returns how far a span is from the data behind the champion, for each limit that is not none."""
    data: Data = gather(found.rows, classes)
    measured = {}
    for name, measure in _MEASURES.items():
        if getattr(limits, name) is not None:
            finding = measure(data, champion)
            measured[name] = Measured(finding.value, finding.said)
    return measured


def score(model: Path, rows: list[tuple[bytes, int]], most_rows: int, examples: Path, cache: Path) -> Accuracy:
    """Returns the accuracy of a model on labelled rows.

    Args:
        model: SavedModel directory.
        rows: Texts in UTF-8 with class ids, at least one.
        most_rows: If there are more, as many are scored, evenly spread over all.
        examples: Directory that is made into an Examples artifact of these rows.
        cache: Where answers are kept, so that the same model answers the same rows once.

    Raises:
        BadInputError: The model does not load, or does not answer.
    """
    import tensorflow as tf

    from components.evaluation.predictions import score_cached
    from components.example_gen.ingest import to_example

    step = max(1, math.ceil(len(rows) / most_rows))
    place = examples / f"Split-{features.TEST}"
    place.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(place / "data_tfrecord-00000-of-00001")) as writer:
        for text, label in rows[::step]:
            writer.write(to_example(text.decode(), label))
    answers = score_cached(model, str(examples), features.TEST, cache)
    right = int((answers.label_ids == answers.labels).sum())
    count = len(answers.labels)
    return Accuracy(right / count, count, *wilson_interval(right, count))
