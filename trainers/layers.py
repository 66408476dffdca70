"""Layers that every model family uses."""

from typing import Any

import tensorflow as tf
import tf_keras

_LARGE = 1e9


@tf_keras.utils.register_keras_serializable("newsdesk")
class MaskedPooling(tf_keras.layers.Layer):
    """Mean, or mean and maximum side by side, over real tokens; zeros for a text without any.

    Call: states float32 [N, T, width], mask float32 [N, T] -> float32 [N, width or 2 * width].
    """

    def __init__(self, kind: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.kind = kind

    def call(self, states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        weights = mask[..., tf.newaxis]
        count = tf.reduce_sum(weights, axis=1)
        mean = tf.reduce_sum(states * weights, axis=1) / tf.maximum(count, 1.0)
        if self.kind == "mean":
            return mean
        highest = tf.reduce_max(states - _LARGE * (1.0 - weights), axis=1)
        return tf.concat([mean, tf.where(count > 0, highest, 0.0)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"kind": self.kind}
