"""Adapter between TFX's Trainer node and the toy family."""

import tensorflow as tf
import tf_keras
from tfx.components.trainer.fn_args_utils import FnArgs

from components import features
from trainers.config import FitConfig
from trainers.fit import fit
from trainers.task import Task
from trainers.toy.config import ToyConfig
from trainers.warm_start import load_weights, read_weights


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports; ``custom_config`` holds ``toy``, ``hash`` and ``classes``."""
    task = Task.open(fn_args)
    config = ToyConfig.model_validate(task.settings["toy"])
    tf_keras.utils.set_random_seed(1)
    ids = tf_keras.Input((None,), dtype=tf.int32, name="token_ids")
    scores = tf_keras.layers.Embedding(config.buckets + 1, len(task.classes), name="scores")(ids)
    model = tf_keras.Model(ids, tf_keras.layers.Lambda(_sum, name="sum")([ids, scores]), name="toy")
    if begin := task.settings.get("warm_start"):
        assert begin["hash"] == task.settings["hash"]
        load_weights(model, read_weights(begin["model"]), begin["model"])
    settings = FitConfig(epochs=config.passes, batch_size=16, learning_rate=config.rate)
    history = fit(model, settings, task.train, task.held_out, ("scores",), checkpoints=task.checkpoints)
    task.finish(model, history)


def _sum(inputs: list[tf.Tensor]) -> tf.Tensor:
    """Adds up the scores of a row's trigrams; padding has none."""
    ids, scores = inputs
    return tf.reduce_sum(tf.where((ids != features.PADDING_ID)[..., tf.newaxis], scores, 0.0), axis=1)
