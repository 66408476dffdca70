"""Rows per second of an encoder on this machine: precision, layers that learn, dropout, XLA; training and inference.

    .venv/bin/python benchmarks/bert_speed.py [--encoder minilm-l6] [--rounds 3] [--variant NAME]...

Random word pieces in the lengths of AG News (eight lengths, 52 pieces on average), batches of one length. The variants
take turns, each in a process of its own, so that what else the machine does falls on all of them; printed are the
median and the range over rounds. XLA compiles once per length, which is not counted.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from statistics import median

import numpy as np
import tensorflow as tf
import tf_keras
from experiment import prepare

from components.vocabulary import read_vocabulary
from pipeline.config import override
from pipeline.presets import make_config
from trainers.bert.model import TABLES, build, trained_variables
from trainers.fit import make_optimizer, make_train_step
from trainers.input import Rows

LENGTHS = (33, 40, 44, 47, 51, 55, 62, 84)
CLASSES, VOCABULARY, INFERENCE_BATCH = 4, 1000, 64

VARIANTS = {
    "float32": {"precision": "float32", "train": "full"},
    "full": {"train": "full"},
    "top 6": {"top_layers": "6"},
    "top 6, no dropout": {"top_layers": "6", "encoder_dropout": "false"},
    "top 6, no dropout, XLA": {"top_layers": "6", "encoder_dropout": "false"},
    "top 4, no dropout": {"top_layers": "4", "encoder_dropout": "false"},
    "top 4, no dropout, batch 32": {"top_layers": "4", "encoder_dropout": "false", "batch_size": "32"},
    "top 2, no dropout": {"top_layers": "2", "encoder_dropout": "false"},
}
"""Settings of the BERT family beside its defaults; bfloat16, batches of 16 and dropout in the encoder unless said."""


def make_batches(size: int) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Returns one batch per length: ids int32 [size, T] and labels int32 [size]."""
    rng = np.random.default_rng(0)
    return [
        (
            tf.constant(rng.integers(1, VOCABULARY, (size, length)), tf.int32),
            tf.constant(rng.integers(0, CLASSES, size), tf.int32),
        )
        for length in LENGTHS
    ]


def make_passes(name: str, encoder: str) -> tuple[Callable[[], float], Callable[[], float]]:
    """Returns two functions, of training and inference, that run once over the lengths and return rows per second."""
    settings = {"encoder": encoder, "precision": "bfloat16", "batch_size": "16", "encoder_dropout": "true"}
    settings = {f"bert.{key}": value for key, value in (settings | VARIANTS[name]).items()}
    config = override(make_config("ag-news"), {"model": "bert"} | settings)
    tf_keras.utils.set_random_seed(1)
    prepared = prepare(config)
    vocab_size = len(read_vocabulary(prepared["vocabulary"]))
    model = build(config.bert, prepared["training"], vocab_size, CLASSES).whole
    variables = trained_variables(config.bert, model)
    optimizer = make_optimizer(config.bert, 1_000_000, TABLES)
    optimizer.build(variables)
    step = make_train_step(model, optimizer, variables, Rows.spec, config.bert.label_smoothing)
    infer = tf.function(lambda ids: model(ids, training=False), autograph=False, input_signature=[Rows.spec])
    if name.endswith("XLA"):
        step = tf.function(step.python_function, autograph=False, jit_compile=True)
        infer = tf.function(infer.python_function, autograph=False, jit_compile=True)

    def timed(run: Callable, batches: list[tuple[tf.Tensor, tf.Tensor]], labelled: bool) -> Callable[[], float]:
        def once() -> float:
            started = time.perf_counter()
            for ids, labels in batches:
                tf.nest.map_structure(lambda it: it.numpy(), run(ids, labels) if labelled else run(ids))
            return len(batches) * int(batches[0][0].shape[0]) / (time.perf_counter() - started)

        once()  # traces and compiles
        return once

    return (
        timed(step, make_batches(config.bert.batch_size), labelled=True),
        timed(infer, make_batches(INFERENCE_BATCH), labelled=False),
    )


def measure(name: str, encoder: str) -> tuple[float, float]:
    """Returns rows per second of training and of inference."""
    training, inference = make_passes(name, encoder)
    return training(), inference()


def main() -> None:
    """Times every variant and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="minilm-l6")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), dest="variants")
    arguments = parser.parse_args()
    names = arguments.variants or list(VARIANTS)
    rates: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}
    # What one variant traced and compiled must not weigh on the next.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=fresh, max_tasks_per_child=1) as pool:
        for name in names * arguments.rounds:
            for found, rate in zip(rates[name], pool.submit(measure, name, arguments.encoder).result(), strict=True):
                found.append(rate)
    print("| variant | training, rows/s | inference, rows/s |\n|---|---|---|")
    for name, columns in rates.items():
        shown = [f"{median(found):.0f} ({min(found):.0f} to {max(found):.0f})" for found in columns]
        print(f"| {name} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
