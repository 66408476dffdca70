"""Rows per second of an encoder on this machine: precision, layers that learn, dropout, XLA; training and inference.

    .venv/bin/python benchmarks/bert_speed.py [--encoder minilm-l6] [--rounds 3] [--variant NAME]...

Random word pieces in the lengths of AG News (eight lengths, 52 pieces on average), batches of one length. The variants
take turns, each in a process of its own, so that what else the machine does falls on all of them; printed are the
median and the range over rounds. XLA compiles once per length, which is not counted.

The operations of a row are those of the encoder's matrix products: forward, and twice that again for each layer that
learns. The peak is the best product of two square matrices in the same process and the variant's precision.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import multiprocessing
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from experiment import prepare
from step_speed import measure_peak

from components.text.vocabulary import read_vocabulary
from pipeline.config.config import override
from pipeline.config.presets import make_config
from trainers.bert.family import FAMILY as BERT
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


@dataclass(frozen=True)
class Rates:
    """What one process measured, rows per second and GFLOP/s.

    Attributes:
        training, inference: Rows per second.
        training_flops, inference_flops: Of their matrix products.
        peak: Of a product of two square matrices.
    """

    training: float
    inference: float
    training_flops: float
    inference_flops: float
    peak: float


def count_operations(model: tf_keras.Model, learned: list[tf.Variable]) -> tuple[float, float]:
    """Returns the GFLOP of one row, the mean over the lengths, of training and of inference."""
    learns = {variable.ref() for variable in learned}
    training = inference = 0.0
    for kernel in (variable for variable in model.variables if re.match(r"layer_\d+/.*kernel", variable.name)):
        # Attention compares every word with every other and adds up as many, over the width of its output's kernel.
        attention = 2 * int(kernel.shape[0]) if "attention_output" in kernel.name else 0
        size = int(np.prod(kernel.shape))
        forward = sum(2 * length * (size + length * attention) for length in LENGTHS) / len(LENGTHS)
        inference += forward
        training += forward * (3 if kernel.ref() in learns else 1)
    return training / 1e9, inference / 1e9


def make_passes(name: str, encoder: str) -> tuple[Callable[[], float], Callable[[], float], tuple[float, float]]:
    """Returns two functions, of training and inference, that run once over the lengths and return rows per second.

    And what ``count_operations`` says of both.
    """
    settings = {"encoder": encoder, "precision": "bfloat16", "batch_size": "16", "encoder_dropout": "true"}
    settings = {f"bert.{key}": value for key, value in (settings | VARIANTS[name]).items()}
    config = override(make_config("ag-news"), {"model": "bert"} | settings)
    own = BERT.of(config).bert
    tf_keras.utils.set_random_seed(1)
    prepared = prepare(config)
    vocab_size = len(read_vocabulary(prepared["vocabulary"]))
    model = build(own, prepared["training"], vocab_size, CLASSES).whole
    variables = trained_variables(own, model)
    optimizer = make_optimizer(own, 1_000_000, TABLES)
    optimizer.build(variables)
    step: Any = make_train_step(model, optimizer, variables, Rows.spec, own)
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
        timed(step, make_batches(own.batch_size), labelled=True),
        timed(infer, make_batches(INFERENCE_BATCH), labelled=False),
        count_operations(model, variables),
    )


def measure(name: str, encoder: str) -> Rates:
    """Returns the rates of one variant."""
    train, infer, (training_cost, inference_cost) = make_passes(name, encoder)
    training, inference = train(), infer()
    precision = VARIANTS[name].get("precision", "bfloat16")
    return Rates(
        training, inference, training * training_cost, inference * inference_cost, measure_peak(tf.as_dtype(precision))
    )


def main() -> None:
    """Times every variant and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="minilm-l6")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), dest="variants")
    arguments = parser.parse_args()
    names = arguments.variants or list(VARIANTS)
    rates: dict[str, list[Rates]] = {name: [] for name in names}
    # What one variant traced and compiled must not weigh on the next.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=fresh, max_tasks_per_child=1) as pool:
        for name in names * arguments.rounds:
            rates[name].append(pool.submit(measure, name, arguments.encoder).result())
    print("| variant | training, rows/s | GFLOP/s | of the peak | inference, rows/s | GFLOP/s | of the peak |")
    print("|---|---|---|---|---|---|---|")
    for name, found in rates.items():
        peak = max(rate.peak for rate in found)
        shown = []
        for kind in ("training", "inference"):
            rows = [getattr(rate, kind) for rate in found]
            flops = median(getattr(rate, f"{kind}_flops") for rate in found)
            shown += [f"{median(rows):.0f} ({min(rows):.0f} to {max(rows):.0f})", f"{flops:.0f}", f"{flops / peak:.0%}"]
        print(f"| {name} | {' | '.join(shown)} |")
    print()
    for precision in ("float32", "bfloat16"):
        same = [rate.peak for name in names for rate in rates[name]
                if VARIANTS[name].get("precision", "bfloat16") == precision]  # fmt: skip
        if same:
            print(f"peak in {precision}: {max(same):.0f} GFLOP/s ({min(same):.0f} in the slowest process)")


if __name__ == "__main__":
    main()
