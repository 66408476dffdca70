"""Fits a classifier; knows nothing of model families."""

import json
import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from trainers.config import FitConfig
from trainers.input import Rows, to_dataset
from trainers.optimizer import LazyAdamW, WarmupLinearDecay

_log = logging.getLogger("newsdesk.trainer")
_EVAL_BATCH = 512
_NO_DECAY = ("bias", "gamma", "beta")


@dataclass(frozen=True)
class Epoch:
    """Losses are mean cross-entropies in nats; accuracies are shares."""

    epoch: int
    loss: float
    accuracy: float
    eval_loss: float
    eval_accuracy: float
    seconds: float


@dataclass(frozen=True)
class History:
    """What a fit did. ``best_epoch`` is the one whose weights the model has now."""

    epochs: list[Epoch]
    best_epoch: int
    parameters: int
    steps: int

    def save(self, path: Path) -> None:
        """Writes the history as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a finite number."""


def make_optimizer(config: FitConfig, rows: int, tables: tuple[str, ...]) -> LazyAdamW:
    """Returns AdamW whose warm-up and decay count batches.

    Args:
        config: Rates and sizes.
        rows: Rows of the train split.
        tables: Names of weights that are looked up by row; like biases and norms they take no decay.
    """
    total = math.ceil(rows / config.batch_size) * config.epochs
    schedule = WarmupLinearDecay(config.learning_rate, int(total * config.warmup_fraction), total)
    optimizer = LazyAdamW(
        learning_rate=schedule,
        weight_decay=config.weight_decay,
        global_clipnorm=config.clip_norm,
        epsilon=1e-7,
        jit_compile=False,
    )
    optimizer.exclude_from_weight_decay(var_names=[*_NO_DECAY, *tables])
    return optimizer


def fit(
    model: tf_keras.Model, config: FitConfig, train: Rows, held_out: Rows, tables: tuple[str, ...] = ()
) -> History:
    """Trains ``model`` in place and leaves it with the weights of its best epoch on ``held_out``.

    Args:
        model: From token ids, int32 [N, T], to logits, float32 [N, C].
        config: Epochs, rates and seed.
        train: Rows to learn from.
        held_out: Rows to choose the epoch on, by accuracy and then by loss.
        tables: Names of the weights that are looked up by row.

    Raises:
        TrainingDivergedError: The loss became NaN or infinite.
    """
    classes = model.output_shape[-1]
    model.compile(
        optimizer=make_optimizer(config, len(train), tables),
        loss=_cross_entropy(classes, config.label_smoothing),
        metrics=[tf_keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
    keeper = _KeepBest(held_out)
    dataset = to_dataset(train, config.batch_size, seed=config.seed)
    model.fit(dataset, epochs=config.epochs, verbose=0, callbacks=[_StopOnDivergence(config), keeper])
    keeper.restore()
    steps = math.ceil(len(train) / config.batch_size) * config.epochs
    return History(keeper.epochs, keeper.best.epoch, model.count_params(), steps)


def evaluate(model: tf_keras.Model, rows: Rows) -> tuple[float, float]:
    """Returns mean cross-entropy and accuracy over all rows."""
    loss = correct = 0.0
    for ids, labels in to_dataset(rows, _EVAL_BATCH):
        logits = model(ids, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        loss += float(tf.reduce_sum(losses))
        correct += float(np.sum(np.argmax(logits, axis=1) == labels.numpy()))
    return loss / len(rows), correct / len(rows)


def _cross_entropy(classes: int, smoothing: float) -> Any:
    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        target = tf.one_hot(tf.cast(tf.reshape(labels, [-1]), tf.int32), classes)
        target = target * (1.0 - smoothing) + smoothing / classes
        return tf.nn.softmax_cross_entropy_with_logits(target, logits)

    return loss


class _StopOnDivergence(tf_keras.callbacks.Callback):
    def __init__(self, config: FitConfig):
        super().__init__()
        self._rate = config.learning_rate

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        loss = (logs or {})["loss"]
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"training diverged: the loss is {loss} after {batch + 1} batches; lower learning_rate (now {self._rate:g})"
            )


class _KeepBest(tf_keras.callbacks.Callback):
    def __init__(self, held_out: Rows):
        super().__init__()
        self._held_out = held_out
        self._weights: list[np.ndarray] = []
        self._started = 0.0
        self.epochs: list[Epoch] = []
        self.best: Epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        seconds = time.perf_counter() - self._started
        loss, accuracy = evaluate(self.model, self._held_out)
        done = Epoch(epoch + 1, logs["loss"], logs["accuracy"], loss, accuracy, seconds)  # type: ignore[index]
        _log.info(
            "epoch %d of %d: loss %.4f, eval loss %.4f, eval accuracy %.4f, %.1f s",
            done.epoch,
            self.params["epochs"],
            done.loss,
            loss,
            accuracy,
            seconds,
        )
        self.epochs.append(done)
        if len(self.epochs) == 1 or (accuracy, -loss) > (self.best.eval_accuracy, -self.best.eval_loss):
            self.best = done
            self._weights = self.model.get_weights()

    def restore(self) -> None:
        self.model.set_weights(self._weights)
