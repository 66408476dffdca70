"""A model that batch inference can do without TensorFlow, and what its input and output are read with."""

import csv
import io
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from components.push.manifest import hash_files
from components.tables.csv import inspect_csv, read_csv
from components.tables.rows import Asked, Layout, Malformed, Place, Row
from serving.batch import classify as batch
from serving.batch.output import Output
from serving.model.loaded import Answers

CLASSES = ["World", "Sports", "Business", "Sci/Tech"]
NAMES = ("label", "probability")


class ByLength:
    """Stands in for a model: a text's class is its length in bytes modulo four."""

    made = 0
    alive: ClassVar[weakref.WeakSet["ByLength"]] = weakref.WeakSet()

    def __init__(self, directory: Path):
        type(self).made += 1
        self.alive.add(self)
        self.classes = CLASSES

    def answer(self, texts: Sequence[bytes]) -> Answers:
        label_ids = np.array([len(text) % 4 for text in texts], np.int64)
        probabilities = np.full((len(texts), 4), 0.1, np.float32)
        probabilities[np.arange(len(texts)), label_ids] = 0.7
        return Answers([CLASSES[number] for number in label_ids], label_ids, probabilities)


def label_of(text: str) -> str:
    return CLASSES[len(text.encode()) % 4]


Classify = Callable[..., tuple[batch.Summary, Output]]


def read_all(content: bytes, asked: Sequence[str] = ()) -> tuple[Layout, list[tuple[Row | Malformed, Place]]]:
    layout = inspect_csv(io.BytesIO(content), "in.csv", Asked(tuple(asked)))
    return layout, list(read_csv(io.BytesIO(content), "in.csv", layout, Place()))


def texts(content: bytes, asked: Sequence[str] = ()) -> list[str]:
    return [record.text for record, _ in read_all(content, asked)[1] if isinstance(record, Row)]


def malformed(content: bytes) -> list[tuple[int, str]]:
    return [(record.line, record.reason) for record, _ in read_all(content)[1] if isinstance(record, Malformed)]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tree(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def hash_files_without_manifest(directory: Path) -> dict[str, str]:
    return {name: value for name, value in hash_files(directory).items() if name != "MANIFEST.json"}
