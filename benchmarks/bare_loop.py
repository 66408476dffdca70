"""Texts a second of a loop over a SavedModel and nothing else: the ceiling of any server in this language.

    python -P benchmarks/bare_loop.py VERSION_DIR ROWS SECONDS [--session] < texts.json

The model is loaded with ``tf.saved_model.load``, or with ``--session`` the way the server does it.

``-P`` because ``serving.py`` beside this file has the name of the package. Texts come as a JSON list; they go through
in batches of ``ROWS`` on average, those of similar length together, as the server brings them together.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from serving.config import make_config
from serving.http.server import load_model

Answer = Callable[[list[bytes]], object]


def _saved_model(version: Path) -> Answer:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the ops of text models

    loaded = tf.saved_model.load(str(version))
    signature = loaded.signatures["serving_default"]

    def answer(texts: list[bytes]) -> None:
        for output in signature(text=tf.constant(texts, tf.string)).values():
            output.numpy()
        assert loaded

    return answer


def _session(version: Path) -> Answer:
    return load_model(make_config({"model_dir": version}), version).answer


def main() -> None:
    """Measures and prints one number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", type=Path)
    parser.add_argument("rows", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--session", action="store_true")
    arguments = parser.parse_args()
    answer = _session(arguments.version) if arguments.session else _saved_model(arguments.version)
    texts = sorted((text.encode() for text in json.load(sys.stdin)), key=len)
    ends = [round(number * arguments.rows) for number in range(int(len(texts) / arguments.rows) + 1)]
    batches = [texts[start:end] for start, end in pairwise(ends)]
    for batch in batches:
        answer(batch)
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < arguments.seconds:
        for batch in batches:
            answer(batch)
            done += len(batch)
    print(done / (time.perf_counter() - begun))


if __name__ == "__main__":
    main()
