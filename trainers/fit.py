"""Fits a classifier; knows nothing of model families."""

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from trainers.checkpoints import Checkpoints
from trainers.config import FitConfig
from trainers.input import Spec, Split, to_dataset
from trainers.layers import drawing
from trainers.optimizer import LazyAdamW, WarmupLinearDecay
from trainers.progress import Meter

_log = logging.getLogger("newsdesk.trainer")
_EVAL_BATCH = 512
_LABELS = tf.TensorSpec([None], tf.int32)
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
        learning_rate=schedule, weight_decay=config.weight_decay, global_clipnorm=config.clip_norm, jit_compile=False
    )
    optimizer.exclude_from_weight_decay(var_names=[*_NO_DECAY, *tables])
    return optimizer


def fit(
    model: tf_keras.Model,
    config: FitConfig,
    train: Split,
    held_out: Split,
    tables: tuple[str, ...] = (),
    variables: Sequence[tf.Variable] | None = None,
    checkpoints: Checkpoints | None = None,
) -> History:
    """Trains ``model`` in place and leaves it with the weights of its best epoch on ``held_out``.

    Args:
        model: From a batch of inputs to logits, float32 [N, C].
        config: Epochs, rates and seed.
        train: Rows to learn from.
        held_out: Rows to choose the epoch on, by accuracy and then by loss.
        tables: Names of the weights that are looked up by row.
        variables: What to train; everything trainable if None.
        checkpoints: Where each epoch is kept, and where a fit that was killed is resumed from.

    Raises:
        TrainingDivergedError: The loss became NaN or infinite.
    """
    variables = list(model.trainable_variables if variables is None else variables)
    optimizer = make_optimizer(config, len(train), tables)
    optimizer.build(variables)
    epochs, weights = _resume(checkpoints, model, optimizer)
    step = make_train_step(model, optimizer, variables, train.spec, config)
    dataset = to_dataset(train, config.batch_size, config.seed, epoch=len(epochs) + 1)
    for number in range(len(epochs) + 1, config.epochs + 1):
        started = time.perf_counter()
        meter = Meter(f"epoch {number} of {config.epochs}", len(train), (config.epochs - number) * len(train))
        loss, accuracy = _run_epoch(step, dataset, config.learning_rate, meter)
        seconds = time.perf_counter() - started
        eval_loss, eval_accuracy = evaluate(model, held_out)
        if not math.isfinite(eval_loss):
            raise _diverged(f"eval loss is {eval_loss} after epoch {number}", config.learning_rate)
        epochs.append(Epoch(number, loss, accuracy, eval_loss, eval_accuracy, seconds))
        _log.info(
            f"epoch {number} of {config.epochs}: loss {loss:.4f}, eval loss {eval_loss:.4f}, "
            f"eval accuracy {eval_accuracy:.4f}, {seconds:.1f} s"
        )
        if _best(epochs) == number:
            weights = model.get_weights()
        if checkpoints:
            moments = [variable.numpy() for variable in optimizer.variables]
            groups = {"model": model.get_weights(), "best": weights, "optimizer": moments}
            checkpoints.write(groups, {"epochs": [asdict(epoch) for epoch in epochs]})
    model.set_weights(weights)
    return History(epochs, _best(epochs), model.count_params(), int(optimizer.iterations))


def _best(epochs: list[Epoch]) -> int:
    """Returns the number of the first epoch that no other beats."""
    return max(epochs, key=lambda epoch: (epoch.eval_accuracy, -epoch.eval_loss, -epoch.epoch)).epoch


def _resume(
    checkpoints: Checkpoints | None, model: tf_keras.Model, optimizer: LazyAdamW
) -> tuple[list[Epoch], list[np.ndarray]]:
    """Brings model and optimizer to where they were; returns the epochs done and the best weights."""
    found = checkpoints.read() if checkpoints else None
    if found is None:
        return [], []
    groups, state = found
    model.set_weights(groups["model"])
    for variable, value in zip(optimizer.variables, groups["optimizer"], strict=True):
        variable.assign(value)
    epochs = [Epoch(**epoch) for epoch in state["epochs"]]
    _log.info(f"resumed after epoch {len(epochs)}")
    return epochs, groups["best"]


def evaluate(model: tf_keras.Model, rows: Split) -> tuple[float, float]:
    """Returns mean cross-entropy and accuracy over all rows."""
    loss = correct = 0.0
    for inputs, labels in to_dataset(rows, _EVAL_BATCH):
        logits = predict(model, inputs)
        loss += float(tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)))
        correct += float(np.sum(np.argmax(logits, axis=1) == labels.numpy()))
    return loss / len(rows), correct / len(rows)


# Traced once per model. Without AutoGraph: converting the source of Keras takes ten seconds and changes nothing.
@tf.function(autograph=False, reduce_retracing=True)
def predict(model: tf_keras.Model, inputs: tf.Tensor) -> tf.Tensor:
    """Returns what a model answers to one batch."""
    return model(inputs, training=False)


def make_train_step(
    model: tf_keras.Model, optimizer: LazyAdamW, variables: list[tf.Variable], spec: Spec, config: FitConfig
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns a function that takes one gradient step.

    Args:
        model: From a batch of inputs to logits, float32 [N, C]; in training it may answer with those of K experts,
            [N, K, C], and each learns by itself.
        optimizer: Built for ``variables``.
        variables: What to train.
        spec: Of a batch of inputs.
        config: Label smoothing, and the seed: what a step draws is a function of seed and step.

    Returns:
        Function from inputs and labels, int32 [N], to the sums of losses and of right answers.
    """
    classes, smoothing = model.output_shape[-1], config.label_smoothing

    def step(inputs: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        target = tf.one_hot(labels, classes) * (1.0 - smoothing) + smoothing / classes
        with tf.GradientTape() as tape, drawing(tf.stack([tf.constant(config.seed, tf.int64), optimizer.iterations])):
            logits = model(inputs, training=True)
            if logits.shape.rank == 2:
                logits = logits[:, tf.newaxis]
            targets = tf.broadcast_to(target[:, tf.newaxis], tf.shape(logits))
            losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_mean(tf.reduce_sum(losses, axis=1))
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        right = tf.equal(tf.argmax(tf.reduce_mean(logits, axis=1), axis=1, output_type=tf.int32), labels)
        return tf.reduce_sum(tf.reduce_mean(losses, axis=1)), tf.reduce_sum(tf.cast(right, tf.float32))

    return tf.function(step, input_signature=[spec, _LABELS], autograph=False)


def _run_epoch(step: Callable, dataset: tf.data.Dataset, rate: float, meter: Meter) -> tuple[float, float]:
    """Returns mean loss and accuracy of one pass, measured while training."""
    loss = right = rows = 0.0
    for number, (inputs, labels) in enumerate(dataset, 1):
        batch_loss, batch_right = step(inputs, labels)
        loss += float(batch_loss)
        right += float(batch_right)
        rows += len(labels)
        if not math.isfinite(loss):
            raise _diverged(f"loss is {loss} after batch {number} of an epoch", rate)
        meter.add(len(labels), f", loss {loss / rows:.3f}")
    return loss / rows, right / rows


def _diverged(what: str, rate: float) -> TrainingDivergedError:
    return TrainingDivergedError(f"training diverged: the {what}; lower learning_rate (now {rate:g})")
