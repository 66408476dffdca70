"""A gradient step of the from-scratch transformer: examples a second, GFLOP/s, their share of the machine's peak.

    .venv/bin/python benchmarks/step_speed.py [--preset NAME] [--set KEY=VALUE]... [--rounds 5]

Random token ids in the lengths of AG News, batches of one length, the training code of a run. Operations are counted by
TensorFlow's profiler in the traced step, forward and backward, where it knows the shapes: einsums whose gradients have
none are missing, up to half. The peak is the best of several products of square matrices. What is missing to the peak
goes into small products, lookups in tables, their sparse updates, and the time between operations.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import contextlib
import io
import platform
import time
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from pipeline.config.config import override
from pipeline.config.presets import make_config
from trainers.fit import make_optimizer, make_train_step
from trainers.input import Rows
from trainers.transformer.family import FAMILY as TRANSFORMER
from trainers.transformer.model import TABLES, build

WORDS = (25, 32, 36, 39, 42, 46, 51, 68)
"""Eight lengths of AG News."""
CLASSES, SIDE, PASSES = 4, 2048, 12


def make_batches(size: int, vocab_size: int) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Returns one batch per length: ids int32 [size, T] and labels int32 [size]; words are as frequent as words are."""
    rng = np.random.default_rng(0)
    return [
        (
            tf.constant(np.minimum(rng.zipf(1.2, (size, length)) + 1, vocab_size - 1), tf.int32),
            tf.constant(rng.integers(0, CLASSES, size), tf.int32),
        )
        for length in WORDS
    ]


def count_operations(step: Any, batches: list[tuple[tf.Tensor, tf.Tensor]]) -> float:
    """Returns the floating-point operations of one example, the mean over the batches, by TensorFlow's profiler."""
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation()).with_empty_output()
    total = 0
    for ids, labels in batches:
        fixed = tf.function(step.python_function, autograph=False).get_concrete_function(
            tf.TensorSpec(ids.shape, tf.int32), tf.TensorSpec(labels.shape, tf.int32)
        )
        with contextlib.redirect_stdout(io.StringIO()):
            total += profiler.profile(fixed.graph, options=options.build()).total_float_ops
    return total / sum(len(labels) for _, labels in batches)


def measure_peak(dtype: tf.DType = tf.float32) -> float:
    """Returns the best rate of a product of square matrices, GFLOP/s."""
    matrix = tf.cast(tf.random.stateless_uniform((SIDE, SIDE), (1, 2)), dtype)
    product = tf.function(lambda: tf.matmul(matrix, matrix), autograph=False)
    best = 0.0
    for _ in range(PASSES):
        started = time.perf_counter()
        product()  # On a CPU it is done when it returns.
        best = max(best, 2 * SIDE**3 / (time.perf_counter() - started) / 1e9)
    return best


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="ag-news")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    config = override(make_config(arguments.preset), dict(item.split("=", 1) for item in arguments.settings))
    own = TRANSFORMER.of(config)
    settings, vocab_size = own.transformer, own.text.vocab_size
    tf_keras.utils.set_random_seed(1)
    model = build(settings, vocab_size, own.text.max_tokens, CLASSES)
    variables = list(model.trainable_variables)
    optimizer = make_optimizer(settings, 1_000_000, TABLES)
    optimizer.build(variables)
    step = make_train_step(model, optimizer, variables, Rows.spec, settings)
    batches = make_batches(settings.batch_size, vocab_size)
    operations = count_operations(step, batches)
    rates, peaks = [], []
    for number in range(arguments.rounds + 1):
        started = time.perf_counter()
        for ids, labels in batches:
            tf.nest.map_structure(lambda it: it.numpy(), step(ids, labels))
        seconds = time.perf_counter() - started
        if number:  # The first round traces.
            rates.append(len(batches) * settings.batch_size / seconds)
            peaks.append(measure_peak())
    rate, peak = median(rates), max(peaks)
    achieved = rate * operations / 1e9
    print(f"Python {platform.python_version()}, TensorFlow {tf.__version__}, {os.cpu_count()} cores")
    print("| what | measured |\n|---|---|")
    print(f"| examples/s, batches of {settings.batch_size} | {rate:,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) |")
    print(f"| MFLOP per example, forward and backward | {operations / 1e6:,.1f} |")
    print(f"| achieved | {achieved:,.1f} GFLOP/s |")
    print(f"| peak, {SIDE} by {SIDE}, float32 | {peak:,.0f} GFLOP/s |")
    print(f"| share of the peak | {achieved / peak:.1%} |")
    taken, needed = 1e3 * settings.batch_size / rate, 1e3 * settings.batch_size * operations / 1e9 / peak
    print(f"| milliseconds per step, and what its operations would take at the peak | {taken:.1f}, {needed:.1f} |")


if __name__ == "__main__":
    main()
