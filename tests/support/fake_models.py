"""Stands in for what is loaded: models that answer by a text's length, in a repository without a disk."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from serving.errors import Code, RequestError
from serving.model.loaded import Answers
from serving.model.signatures import Signature, TensorInfo
from serving.repository.states import State, VersionStatus
from serving.repository.versions import Version

CLASSES = ["World", "Sports", "Business", "Sci/Tech"]
_OUTPUTS = {
    "label": TensorInfo("label:0", "DT_STRING", (-1,)),
    "label_id": TensorInfo("label_id:0", "DT_INT64", (-1,)),
    "probabilities": TensorInfo("probabilities:0", "DT_FLOAT", (-1, 4)),
}


class FakeModel:
    """A text's class is its length in bytes modulo four, moved on by ``shift``.

    ``batches`` holds what it was asked, and ``ended`` counts those that it is done with. While ``gate`` is not set, it
    does not answer; the text ``bad`` is an error of the request, ``broken`` one of the model.
    """

    def __init__(self, shift: int = 0):
        self.classes = CLASSES
        self.shift = shift
        self.batches: list[list[bytes]] = []
        self.ended = 0
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()
        self.signatures: Mapping[str, Signature] = {
            "serving_default": Signature({"text": TensorInfo("text:0", "DT_STRING", (-1,))}, _OUTPUTS, "predict"),
            "serve_examples": Signature({"examples": TensorInfo("e:0", "DT_STRING", (-1,))}, _OUTPUTS, "predict"),
        }

    def answer(self, texts: Sequence[bytes]) -> Answers:
        self.batches.append(list(texts))
        self.asked.set()
        opened = self.gate.wait(120)
        self.ended += 1
        assert opened
        if b"bad" in texts:
            raise RequestError(Code.INVALID_ARGUMENT, "a bad text")
        if b"broken" in texts:
            raise ValueError("a secret of the model")
        label_ids = np.array([(len(text) + self.shift) % 4 for text in texts], np.int64)
        probabilities = np.full((len(texts), 4), 0.125, np.float32)
        probabilities[np.arange(len(texts)), label_ids] = 0.625
        return Answers([CLASSES[number] for number in label_ids], label_ids, probabilities)

    def answer_examples(self, examples: Sequence[bytes]) -> Answers:
        return self.answer(examples)


class FakeRepository:
    """Model ``ag_news`` with the versions that it is given."""

    def __init__(self, models: Mapping[int, FakeModel], labels: Mapping[str, int] | None = None):
        self.loaded = dict(models)
        self.pointing = dict(labels or {})
        self.in_use = 0
        self.ready = True

    @contextmanager
    def use(self, model: str, version: int | None = None, label: str | None = None) -> Iterator[Version]:
        if label is not None and label not in self.pointing:
            raise RequestError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
        number = self.pointing.get(label or "champion", max(self.loaded, default=-1)) if version is None else version
        if model != "ag_news" or number not in self.loaded:
            raise RequestError(Code.NOT_FOUND, f"Servable not found for request: Latest({model})")
        self.in_use += 1
        try:
            yield self._version(number)
        finally:
            self.in_use -= 1

    def status(self, model: str, version: int | None = None, label: str | None = None) -> list[VersionStatus]:
        if model != "ag_news":
            raise RequestError(Code.NOT_FOUND, f"Could not find any versions of model {model}")
        return [VersionStatus(number, State.AVAILABLE) for number in self.loaded]

    def models(self) -> list[str]:
        return ["ag_news"]

    def labels(self, model: str) -> dict[str, int]:
        return self.pointing

    def versions(self) -> list[Version]:
        return [self._version(number) for number in self.loaded]

    def _version(self, number: int) -> Version:
        labels = frozenset(label for label, target in self.pointing.items() if target == number)
        return Version("ag_news", number, self.loaded[number], labels)


def version_of(model: FakeModel, number: int = 1) -> Version:
    """Returns a version without a repository."""
    return Version("ag_news", number, model, frozenset())
