"""Loads a model and asks it, in a process that has TensorFlow and tensorflow-text and nothing of this project.

``components.gates.serving.process`` runs this file as ``python -I probe.py``. A JSON request comes on stdin;
the JSON reply goes into the file that it names, since TensorFlow writes on stdout and stderr what it likes.
"""

import base64
import importlib.abc
import json
import math
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_OF_THIS_PROJECT = (
    "IPython apache_beam components matplotlib mlflow pandas pipeline serving sklearn tensorflow_data_validation "
    "tensorflow_hub tensorflow_model_analysis tensorflow_transform tf_keras tfx tfx_bsl trainers"
)
ABSENT = frozenset(_OF_THIS_PROJECT.split())
"""What a server does not have, and this environment may."""
_STATUS = Path("/proc/self/status")
_REASON_CHARACTERS = 300
# Ends the lines with which TensorFlow begins whatever went wrong in a graph; the reason comes behind them.
_PREAMBLE_END = "<stack traces unavailable>"


class Absence(importlib.abc.MetaPathFinder):
    """Makes packages that are installed look as if they were not."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Raises ``ModuleNotFoundError`` for whatever belongs to ``ABSENT``; leaves the rest to others."""
        if fullname.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: a server has TensorFlow and tensorflow-text only", name=fullname
            )


def examine(request: dict[str, Any]) -> dict[str, Any]:
    """Loads the model and asks it all texts: each alone, then all in one batch of each signature, then against time.

    Args:
        request: ``model`` directory; ``texts`` in base64; ``signatures``, name to input, the one for texts first and
            the one for serialized tf.Examples second; ``feature`` of those; ``outputs``: label, label id and
            probabilities; ``timed``, indices of the texts that are timed.

    Returns:
        ``import_seconds``, ``load_seconds`` until the first answer, ``memory_mb`` at the peak, ``signatures`` as
        found, ``alone`` and ``together`` (answers, or an object with ``error``), and ``latencies_ms``. If a signature
        is missing, nothing is asked.
    """
    started = time.perf_counter()
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the ops of text models

    reply: dict[str, Any] = {"import_seconds": time.perf_counter() - started, "tensorflow": tf.__version__}
    texts = [base64.b64decode(text) for text in request["texts"]]
    started = time.perf_counter()
    model = tf.saved_model.load(request["model"])
    reply["signatures"] = {name: _describe(function) for name, function in model.signatures.items()}
    reply |= {"alone": [], "together": {}, "latencies_ms": []}
    if request["signatures"].keys() <= model.signatures.keys():

        def ask(signature: str, values: Sequence[bytes]) -> dict[str, Any]:
            batch = {request["signatures"][signature]: tf.constant(values, tf.string)}
            return _answer(lambda: model.signatures[signature](**batch), request["outputs"], len(values))

        plain, serialized = request["signatures"]
        ask(plain, texts[:1])
        reply["load_seconds"] = time.perf_counter() - started
        reply["alone"] = [ask(plain, [text]) for text in texts]
        examples = [_serialize(tf, request["feature"], text) for text in texts]
        reply["together"] = {plain: ask(plain, texts), serialized: ask(serialized, examples)}
        for index in request["timed"]:
            started = time.perf_counter()
            ask(plain, [texts[index]])
            reply["latencies_ms"].append((time.perf_counter() - started) * 1000)
    else:
        reply["load_seconds"] = time.perf_counter() - started
    reply["memory_mb"] = _peak_memory_mb()
    return reply


def _describe(function: Any) -> dict[str, Any]:
    _, inputs = function.structured_input_signature
    return {
        side: {
            name: {"dtype": spec.dtype.name, "shape": None if spec.shape.rank is None else spec.shape.as_list()}
            for name, spec in specs.items()
        }
        for side, specs in (("inputs", inputs), ("outputs", function.structured_outputs))
    }


def _answer(call: Callable[[], dict[str, Any]], outputs: Sequence[str], rows: int) -> dict[str, Any]:
    try:
        found = call()
        labels, label_ids, probabilities = (found[name].numpy() for name in outputs)
    except Exception as error:  # whatever a model raises is its answer, for the gate to judge
        return {"error": _in_one_line(error)}
    if labels.shape != (rows,) or label_ids.shape != (rows,) or probabilities.ndim != 2 or len(probabilities) != rows:
        shapes = ", ".join(str(list(array.shape)) for array in (labels, label_ids, probabilities))
        return {"error": f"{rows} texts got {', '.join(outputs)} of the shapes {shapes}"}
    return {
        "labels": [
            label.decode("utf-8", "backslashreplace") if isinstance(label, bytes) else str(label) for label in labels
        ],
        "label_ids": label_ids.tolist(),
        "probabilities": probabilities.tolist(),
    }


def _in_one_line(error: Exception) -> str:
    reason = " ".join(str(error).rpartition(_PREAMBLE_END)[2].split())
    return f"{type(error).__name__}: {reason}"[:_REASON_CHARACTERS]


def _serialize(tf: Any, feature: str, text: bytes) -> bytes:
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
    return tf.train.Example(features=tf.train.Features(feature={feature: value})).SerializeToString()


def _peak_memory_mb() -> float:
    # The kernel hands the parent's peak down through exec into ru_maxrss; only this one is of this process alone.
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # a kernel that does not tell its peak


def main() -> None:
    """Answers the request on stdin."""
    request = json.load(sys.stdin)
    # Should the gate be killed, nobody else ends this process.
    signal.alarm(math.ceil(request["seconds"]) + 1)
    sys.meta_path.insert(0, Absence())
    try:
        reply = examine(request)
    except Exception as error:
        # The gate shows the last line of stderr; TensorFlow's errors have many.
        sys.exit(_in_one_line(error))
    Path(request["reply"]).write_text(json.dumps(reply), encoding="utf-8")


if __name__ == "__main__":
    main()
