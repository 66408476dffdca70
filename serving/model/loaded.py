"""Finds and loads pushed models."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from components import features
from components.errors import BadInputError
from components.file_names import CLASSES_FILE
from components.push.aliases import read_aliases
from components.push.model_files import read_classes
from components.push.model_graph import check_model_graph
from serving.errors import RequestError, code_of, message_of
from serving.model.graph_session import GraphSession
from serving.model.signatures import Signature, read_signatures

if TYPE_CHECKING:
    import numpy as np

# Of several lengths, so that the first long request finds its kernels warm as well; a rollback waits for all of them.
_WARM_UP_TEXTS = ("Ministers meet.", "The coach praised a late goal. " * 6, "Shares rose after the report " * 3)


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


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers for N texts, in their order.

    Attributes:
        labels: Class names, N.
        label_ids: int64 [N].
        probabilities: float32 [N, C], columns in label-id order.
    """

    labels: list[str]
    label_ids: "np.ndarray"
    probabilities: "np.ndarray"


class Model(Protocol):
    """What the server asks of a loaded model; two threads may ask at once."""

    directory: Path
    classes: list[str]

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """By name, as the SavedModel declares them."""

    def answer(self, texts: Sequence[bytes]) -> Answers:
        """Classifies texts in UTF-8."""

    def answer_examples(self, examples: Sequence[bytes]) -> Answers:
        """Classifies serialized tf.Examples with the bytes feature ``text``."""


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
    """A pushed SavedModel in memory. Two threads may ask at once.

    Attributes:
        directory: Where it was read from.
        classes: Names in label-id order.
        signatures: By name, as the SavedModel declares them.
    """

    def __init__(self, directory: Path, batches: int = 0, op_threads: int = 0):
        """Loads a version; needs only TensorFlow and tensorflow-text.

        Args:
            directory: Of the version.
            batches: That run at a time, each on a thread of its own; 0 leaves threads to TensorFlow.
            op_threads: Threads within one op; 0 leaves that to TensorFlow.

        Raises:
            BadInputError: Its graph could reach more than its own files, or it does not answer as a pushed model does.
        """
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the ops of text models

        check_model_graph(directory)
        self._error = tf.errors.OpError
        self.directory = directory
        self.signatures = read_signatures(directory)
        self.classes = list(read_classes(directory))
        _check_signatures(directory, self.signatures, len(self.classes))
        asked = {name: self.signatures[name] for name in features.INPUTS}
        self._session = GraphSession(directory, asked, batches, op_threads)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Classifies texts in one batch."""
        answers = self.answer([text.encode() for text in texts])
        rows = zip(texts, answers.labels, answers.label_ids.tolist(), answers.probabilities.tolist(), strict=True)
        return [
            Prediction(text, label, label_id, row[label_id], dict(zip(self.classes, row, strict=True)))
            for text, label, label_id, row in rows
        ]

    def answer(self, texts: Sequence[bytes]) -> Answers:
        """Classifies texts in UTF-8 in one batch.

        Raises:
            RequestError: TensorFlow could not, as when memory is short.
        """
        return self._ask(features.SERVING_SIGNATURE, texts)

    def answer_examples(self, examples: Sequence[bytes]) -> Answers:
        """Classifies serialized tf.Examples with the bytes feature ``text`` in one batch.

        Raises:
            RequestError: One of them is no such example, for which none is answered; or TensorFlow could not.
        """
        return self._ask(features.EXAMPLES_SIGNATURE, examples)

    def _ask(self, signature: str, values: Sequence[bytes]) -> Answers:
        try:
            found = self._session.run(signature, values)
        except self._error as error:
            raise RequestError(code_of(error), message_of(error)) from error
        return Answers(
            [label.decode() for label in found[features.OUTPUT_LABEL].tolist()],
            found[features.OUTPUT_LABEL_ID],
            found[features.OUTPUT_PROBABILITIES],
        )


def warm_up(model: Model, most_rows: int = 64) -> None:
    """Asks a model once for every size of batch that is a power of two, and through both signatures.

    What TensorFlow does at a first call, no live request waits for. Behind the signatures is one computation, so the
    second is asked for a single row.

    Args:
        model: Just loaded.
        most_rows: Largest batch to ask for, 1 or more.

    Raises:
        RequestError: It does not answer.
        BadInputError: It answers for another number of texts or classes than it was asked.
    """
    from tensorflow.core.example import example_pb2

    texts = [text.encode() for text in _WARM_UP_TEXTS]
    example = example_pb2.Example()
    example.features.feature[features.TEXT].bytes_list.value.append(texts[0])
    _check_shape(model, model.answer_examples([example.SerializeToString()]), 1)
    rows = 1
    while rows <= most_rows:
        _check_shape(model, model.answer([texts[number % len(texts)] for number in range(rows)]), rows)
        rows *= 2


def _check_shape(model: Model, answers: Answers, rows: int) -> None:
    shape, right = answers.probabilities.shape, (rows, len(model.classes))
    if shape != right:
        raise BadInputError(
            f"the model answers {rows} texts with probabilities of shape {shape}, not of {right}: train it again"
        )


def _check_signatures(directory: Path, signatures: Mapping[str, Signature], classes: int) -> None:
    if not classes:
        raise BadInputError(f"{directory} has a {CLASSES_FILE} without a class: push it again")
    for name, only_input in features.INPUTS.items():
        if name not in signatures:
            raise BadInputError(f"{directory} has no signature {name}: train it again")
        signature = signatures[name]
        if set(signature.inputs) != {only_input} or not signature.outputs.keys() >= set(features.OUTPUTS):
            given, answered = ", ".join(signature.inputs) or "nothing", ", ".join(signature.outputs)
            raise BadInputError(
                f"{directory} has a signature {name} from {given} to {answered}, not from {only_input} to "
                f"{', '.join(sorted(features.OUTPUTS))}: train it again"
            )
        shape = signature.outputs[features.OUTPUT_PROBABILITIES].shape
        if shape is not None and shape[-1:] not in ((classes,), (-1,)):
            raise BadInputError(
                f"{directory} has a signature {name} whose probabilities have shape {shape}, but {classes} classes: "
                "push it again"
            )
