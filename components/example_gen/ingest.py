"""From input files to tf.Examples in splits: the Beam part of ingest and the decision about its outcome."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import tensorflow as tf

from components import features
from components.errors import BadInputError
from components.example_gen.reader import Malformed, read_records
from components.example_gen.source import open_lines
from components.text.scripts import length_bucket

MALFORMED = "malformed"
SUMMARY = "summary"
_HASH_RANGE = 10_000
_MOST_LABELS = 20
_SHOWN_LABELS = 5
_LABEL_CHARACTERS = 40


def eval_or_train(split_key: str, eval_fraction: float) -> str:
    """Returns the split of a training row, by a hash of its content: equal texts share a split for ever."""
    bucket = int.from_bytes(hashlib.sha256(split_key.encode()).digest()[:8], "big") % _HASH_RANGE
    return features.EVAL if bucket < eval_fraction * _HASH_RANGE else features.TRAIN


def to_example(text: str, label_id: int) -> bytes:
    """Returns a serialized tf.Example with the features ``text``, ``label`` and ``length``."""
    example = tf.train.Example()
    feature = example.features.feature
    feature[features.TEXT].bytes_list.value.append(text.encode())
    feature[features.LABEL].int64_list.value.append(label_id)
    feature[features.LENGTH].bytes_list.value.append(length_bucket(text).encode())
    return example.SerializeToString(deterministic=True)


@dataclass(frozen=True)
class InputFile:
    """One file to read. ``split`` is the one its rows go to, or None for train and eval by hash."""

    path: str
    split: str | None


class ReadFile(beam.DoFn):
    """Turns an ``InputFile`` into serialized examples, one tagged output per split.

    Malformed rows go to the output ``malformed`` as JSON, and one JSON object per file to ``summary``.
    """

    def __init__(self, class_count: int, eval_fraction: float):
        self._label_ids = {str(i + 1): i for i in range(class_count)}
        self._eval_fraction = eval_fraction

    def process(self, element: InputFile) -> Iterator[Any]:
        # A span's files are called alike, so its own name goes before theirs.
        *_, directory, file = element.path.split("/")
        name = f"{directory}/{file}" if directory.startswith("span-") else file
        counts: Counter[tuple[str, int]] = Counter()
        unknown: dict[str, dict[str, int]] = {}
        malformed = 0
        digest = hashlib.sha256()
        with open_lines(element.path, digest) as lines:
            for record in read_records(lines):
                if isinstance(record, Malformed):
                    malformed += 1
                    entry = {"file": name, "line": record.line, "reason": record.reason, "sha256": record.digest}
                    yield beam.pvalue.TaggedOutput(MALFORMED, json.dumps(entry))
                    continue
                label_id = self._label_ids.get(record.label)
                if label_id is None:
                    seen = unknown.setdefault(_shorten(record.label, unknown), {"count": 0, "line": record.line})
                    seen["count"] += 1
                    continue
                split = element.split or eval_or_train(record.split_key, self._eval_fraction)
                counts[split, label_id] += 1
                yield beam.pvalue.TaggedOutput(split, to_example(record.text, label_id))
        summary = {
            "file": name,
            "path": element.path,
            "sha256": digest.hexdigest(),
            "malformed": malformed,
            "unknown_labels": unknown,
            "counts": [[split, label_id, count] for (split, label_id), count in sorted(counts.items())],
        }
        yield beam.pvalue.TaggedOutput(SUMMARY, json.dumps(summary))


def make_report(summaries: list[dict[str, Any]], classes: tuple[str, ...], digest: str) -> dict[str, Any]:
    """Adds up the summaries of all files: rows per split and class, malformed rows, unknown labels."""
    splits = {split: dict.fromkeys(classes, 0) for split in features.SPLITS}
    unknown: list[dict[str, Any]] = []
    for summary in sorted(summaries, key=lambda item: item["file"]):
        for split, label_id, count in summary["counts"]:
            splits[split][classes[label_id]] += count
        for value, seen in summary["unknown_labels"].items():
            unknown.append({"file": summary["file"], "value": value, **seen})
    malformed = sum(summary["malformed"] for summary in summaries)
    usable = sum(sum(counts.values()) for counts in splits.values())
    rows = usable + malformed + sum(item["count"] for item in unknown)
    return {"rows": rows, "splits": splits, "malformed": malformed, "unknown_labels": unknown, "digest": digest}


def check_report(report: dict[str, Any], budget: float, quarantine: str) -> None:
    """Decides whether ingest may be used.

    Args:
        report: What ``make_report`` returned.
        budget: Largest share of malformed rows that is let pass, 0 to 1.
        quarantine: Where the malformed rows are listed, for the message.

    Raises:
        BadInputError: There is an unknown label, too many malformed rows, or an empty split.
    """
    if report["unknown_labels"]:
        found = ", ".join(_describe(item) for item in report["unknown_labels"][:_SHOWN_LABELS])
        allowed = len(report["splits"][features.TRAIN])
        raise BadInputError(
            f'unknown label {found}: the first column must be "1" to "{allowed}"; mend the rows or classes.txt'
        )
    if report["malformed"] > budget * report["rows"]:
        raise BadInputError(
            f"{report['malformed']} of {report['rows']} rows are malformed, more than the budget of {budget:.2%} "
            f"(data.malformed_budget): see {quarantine} for line and reason of each"
        )
    for split, counts in report["splits"].items():
        if not any(counts.values()):
            advice = "add rows" if split != features.EVAL else "add rows or raise data.eval_fraction"
            raise BadInputError(f"the {split} split has no usable row: {advice}")


def _shorten(label: str, known: dict[str, dict[str, int]]) -> str:
    """A file with swapped columns must not put its texts into reports."""
    label = label[:_LABEL_CHARACTERS]
    return label if label in known or len(known) < _MOST_LABELS else "(other values)"


def _describe(unknown: dict[str, Any]) -> str:
    rows = f"{unknown['count']} row{'s' * (unknown['count'] > 1)}"
    return f'"{unknown["value"]}" in {rows} (first at {unknown["file"]} line {unknown["line"]})'
