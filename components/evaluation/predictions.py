"""What a SavedModel answers on every row of a split, kept in a file so that it is computed once.

Importing this module does not load TensorFlow, and neither do answers that are in the cache.
"""

import hashlib
import logging
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components import features
from components.errors import BadInputError
from components.files import replacing, sha256_of
from components.push.model_files import read_classes

BATCH = 256
_FORMAT = "newsdesk predictions 1"
# What TensorFlow loads, so that a pushed copy, which carries a manifest beside it, is the same model.
_MODEL_PARTS = ("saved_model.pb", "variables", "assets", "assets.extra")
_REASON_CHARACTERS = 100
# What numpy raises on files of other kinds, and on damaged ones.
_UNREADABLE = (AttributeError, EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)
_log = logging.getLogger("newsdesk.predictions")


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's answers on N rows of C classes, in the order of the examples.

    Attributes:
        texts: UTF-8 bytes, N of them.
        labels: True class ids, int64 [N].
        label_ids: Class ids the model answered, int64 [N].
        probabilities: float32 [N, C], columns in label-id order.
        rows_per_second: Speed of this scoring, start-up left out; None where the answers come from a file.
    """

    texts: list[bytes]
    labels: np.ndarray
    label_ids: np.ndarray
    probabilities: np.ndarray
    rows_per_second: float | None = None


def score(model_dir: Path, examples_uri: str, split: str) -> Predictions:
    """Runs the served computation, the signature ``serve_examples``, on every row of a split.

    Rows go through in batches of similar length, since a batch is padded to its longest text, and come back in
    the order of the examples.

    Args:
        model_dir: SavedModel with ``serve_examples`` and ``classes.txt``.
        examples_uri: Directory of an Examples artifact.

    Raises:
        BadInputError: The model does not load or has no such signature, its answers are not probabilities of its
            classes, or the split holds no rows.
    """
    import tensorflow as tf

    from components.example_gen.examples import read_texts

    classes = read_classes(model_dir)
    rows = list(read_texts(examples_uri, split))
    if not rows:
        raise BadInputError(f"the {split} split at {examples_uri} holds no rows: run newsdesk on data that has some")
    texts = [text for text, _ in rows]
    _log.info("scoring %s rows with %s", f"{len(rows):,}", model_dir)
    # A signature lives only as long as its model.
    model = _load_model(model_dir)
    serve = model.signatures[features.EXAMPLES_SIGNATURE]
    examples = np.array([_serialise(text) for text in texts], dtype=object)
    order = np.argsort([len(text) for text in texts], kind="stable")
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    label_ids = np.empty(len(texts), np.int64)
    probabilities = np.empty((len(texts), len(classes)), np.float32)
    # The first call compiles; that is not the model's speed.
    serve(**{features.EXAMPLES_INPUT: tf.constant(examples[batches[0]], tf.string)})
    started = time.perf_counter()
    for batch in batches:
        answer = serve(**{features.EXAMPLES_INPUT: tf.constant(examples[batch], tf.string)})
        shares, ids = (answer[name].numpy() for name in (features.OUTPUT_PROBABILITIES, features.OUTPUT_LABEL_ID))
        whole = shares.shape == (len(batch), len(classes)) and np.isfinite(shares).all()
        if not whole or not np.isin(ids, range(len(classes))).all():
            raise BadInputError(
                f"model {model_dir} does not answer with one of its {len(classes)} classes and a probability for each: "
                "train it again"
            )
        probabilities[batch], label_ids[batch] = shares, ids
    speed = len(texts) / (time.perf_counter() - started)
    return Predictions(texts, np.array([label for _, label in rows], np.int64), label_ids, probabilities, speed)


def score_cached(model_dir: Path, examples_uri: str, split: str, cache: Path, refresh: bool = False) -> Predictions:
    """Returns what ``score`` does, from a file in ``cache`` where the same model has answered the same rows before.

    It raises the errors of ``score`` too. ``refresh`` scores anew and replaces the file.
    """
    path = cache / f"{cache_key(model_dir, examples_uri, split)}.npz"
    if path.is_file() and not refresh:
        try:
            return load(path)
        except ValueError as error:
            _log.warning("%s, so the rows are scored again", error)
    found = score(model_dir, examples_uri, split)
    try:
        save(found, path)
    except OSError as error:
        _log.warning("%s cannot be written (%s), so the next time the rows are scored again", path, error.strerror)
    return found


def cache_key(model_dir: Path, examples_uri: str, split: str) -> str:
    """Returns 32 hex digits for the content of a SavedModel and of a split, wherever and whenever they were written."""
    digest = hashlib.sha256(_FORMAT.encode())
    for part in _MODEL_PARTS:
        _add(digest, model_dir / part)
    digest.update(examples_digest(examples_uri, split).encode())
    return digest.hexdigest()[:32]


def examples_digest(examples_uri: str, split: str) -> str:
    """Returns 64 hex digits for the files of a split."""
    digest = hashlib.sha256()
    _add(digest, Path(examples_uri) / f"Split-{split}")
    return digest.hexdigest()


def save(predictions: Predictions, path: Path) -> None:
    """Writes predictions to a file, all of it or nothing."""
    with replacing(path) as file:
        np.savez_compressed(
            file,
            # One run of bytes and where each text ends: numpy's own strings drop zero bytes at their end.
            text=np.frombuffer(b"".join(predictions.texts), np.uint8),
            ends=np.cumsum([len(text) for text in predictions.texts]),
            labels=predictions.labels,
            label_ids=predictions.label_ids,
            probabilities=predictions.probabilities,
        )


def load(path: Path) -> Predictions:
    """Reads what ``save`` wrote.

    Raises:
        ValueError: The file is damaged or something else.
    """
    try:
        # numpy leaves open what it opened itself and cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            text, ends = held["text"].tobytes(), held["ends"].tolist()
            texts = [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
            return Predictions(texts, held["labels"], held["label_ids"], held["probabilities"])
    except _UNREADABLE as error:
        raise ValueError(f"{path} does not hold predictions") from error


def _load_model(directory: Path) -> Any:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the ops of text models

    try:
        model = tf.saved_model.load(str(directory))
        model.signatures[features.EXAMPLES_SIGNATURE]
    except (AttributeError, KeyError, OSError, ValueError, tf.errors.OpError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:_REASON_CHARACTERS]
        raise BadInputError(
            f"model {directory} does not load with the signature {features.EXAMPLES_SIGNATURE} ({why}): train it again"
        ) from error
    return model


def _serialise(text: bytes) -> bytes:
    import tensorflow as tf

    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
    return tf.train.Example(features=tf.train.Features(feature={features.TEXT: value})).SerializeToString()


def _add(digest: "hashlib._Hash", path: Path) -> None:
    """Adds a file, or every file below a directory with its place there."""
    for file in [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file()):
        digest.update(f"\n{file.relative_to(path.parent)}\n".encode())
        digest.update(bytes.fromhex(sha256_of(file)))
