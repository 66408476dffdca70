"""Finds and loads pushed models."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components import features
from components.aliases import read_aliases


@dataclass(frozen=True)
class Prediction:
    """The answer for one text. ``probabilities`` maps class name to probability, in label-id order."""

    text: str
    label: str
    label_id: int
    probability: float
    probabilities: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)


class NoModelError(LookupError):
    """There is no model that serves."""


def champion_version(serving: Path, name: str) -> Path:
    """Returns the directory of the version that serves.

    Args:
        serving: Directory of all models.
        name: Model name.

    Raises:
        NoModelError: None has been promoted under that name, or its directory is gone.
        BadInputError: The file that names it is damaged.
    """
    version = read_aliases(serving / name).get("champion")
    if version is None:
        raise NoModelError(f"no model {name} serves from {serving}")
    directory = serving / name / str(version)
    if not (directory / "saved_model.pb").is_file():
        raise NoModelError(f"the champion of {name}, version {version}, is no longer at {directory}")
    return directory


class LoadedModel:
    """A pushed SavedModel in memory."""

    def __init__(self, directory: Path):
        """Loads a version; needs only TensorFlow and tensorflow-text."""
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the ops of text models

        self._tf = tf
        self._loaded = tf.saved_model.load(str(directory))
        self._signature = self._loaded.signatures[features.SERVING_SIGNATURE]
        classes = directory / "assets.extra" / features.CLASSES_FILE
        self.classes = classes.read_text(encoding="utf-8").splitlines()

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Classifies texts in one batch."""
        answer = self._signature(text=self._tf.constant(list(texts), self._tf.string))
        labels = answer[features.OUTPUT_LABEL].numpy()
        label_ids = answer[features.OUTPUT_LABEL_ID].numpy().tolist()
        probabilities = answer[features.OUTPUT_PROBABILITIES].numpy().tolist()
        return [
            Prediction(text, label.decode(), label_id, row[label_id], dict(zip(self.classes, row, strict=True)))
            for text, label, label_id, row in zip(texts, labels, label_ids, probabilities, strict=True)
        ]
