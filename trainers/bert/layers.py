"""BERT's layers (Devlin et al. 2019), with the weights and the arithmetic of the published checkpoints.

Every layer computes in the precision of its dtype policy and keeps its variables in float32.
"""

from typing import Any

import tensorflow as tf
import tf_keras

from trainers.layers import Dropout

_MASKED = -10_000.0


@tf_keras.utils.register_keras_serializable("newsdesk")
class BertEmbedding(tf_keras.layers.Layer):
    """Normed sum of word, position and type embeddings.

    Call: word ids and type ids, int32 [N, T] -> [N, T, width].
    """

    def __init__(
        self, vocab_size: int, positions: int, types: int, width: int, epsilon: float, dropout: float, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.positions = positions
        self.types = types
        self.width = width
        policy = self.dtype_policy
        self.layer_norm = tf_keras.layers.LayerNormalization(epsilon=epsilon, dtype=policy, name="layer_norm")
        self.drop = Dropout(dropout, dtype=policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.word_table = self.add_weight("word_embeddings", (self.vocab_size, self.width))
        self.position_table = self.add_weight("position_embeddings", (self.positions, self.width))
        self.type_table = self.add_weight("type_embeddings", (self.types, self.width))
        _build(self.layer_norm, self.width)

    def call(self, ids: tf.Tensor, types: tf.Tensor, training: bool = False) -> tf.Tensor:
        summed = (
            tf.nn.embedding_lookup(self.word_table, ids)
            + self.position_table[: tf.shape(ids)[1]]
            + tf.nn.embedding_lookup(self.type_table, types)
        )
        return self.drop(self.layer_norm(summed), training=training)


@tf_keras.utils.register_keras_serializable("newsdesk")
class BertBlock(tf_keras.layers.Layer):
    """Self-attention and feed-forward, each with a residual and a layer norm behind it.

    Query, key and value share one matrix product. Call: states [N, T, width], mask int32 [N, T], 0 for tokens
    that nobody attends to -> [N, T, width].
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int,
        activation: str,
        epsilon: float,
        dropout: float,
        attention_dropout: float,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.width = width
        self.heads = heads
        self.feed_forward = feed_forward
        self.activation = activation
        policy = self.dtype_policy
        self.query_key_value = tf_keras.layers.Dense(3 * width, dtype=policy, name="query_key_value")
        self.attention_output = tf_keras.layers.Dense(width, dtype=policy, name="attention_output")
        self.attention_norm = tf_keras.layers.LayerNormalization(
            epsilon=epsilon, dtype=policy, name="attention_layer_norm"
        )
        self.intermediate = tf_keras.layers.Dense(feed_forward, dtype=policy, name="intermediate")
        self.output_dense = tf_keras.layers.Dense(width, dtype=policy, name="output")
        self.output_norm = tf_keras.layers.LayerNormalization(epsilon=epsilon, dtype=policy, name="output_layer_norm")
        self.drop = Dropout(dropout, dtype=policy)
        self.drop_attention = Dropout(attention_dropout, dtype=policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        inner = (self.query_key_value, self.attention_output, self.attention_norm, self.intermediate, self.output_norm)
        for layer in inner:
            _build(layer, self.width)
        _build(self.output_dense, self.feed_forward)

    def call(self, states: tf.Tensor, mask: tf.Tensor, training: bool = False) -> tf.Tensor:
        attended = self.drop(self.attention_output(self._attend(states, mask, training)), training=training)
        states = self.attention_norm(states + attended)
        hidden = activate(self.activation, self.intermediate(states))
        return self.output_norm(states + self.drop(self.output_dense(hidden), training=training))

    def _attend(self, states: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        rows, tokens = tf.shape(states)[0], tf.shape(states)[1]
        size = self.width // self.heads
        projected = tf.reshape(self.query_key_value(states), (rows, tokens, 3, self.heads, size))
        query, key, value = tf.unstack(tf.transpose(projected, (2, 0, 3, 1, 4)))
        scores = tf.matmul(query * size**-0.5, key, transpose_b=True)
        scores += tf.cast((1 - mask)[:, tf.newaxis, tf.newaxis, :], scores.dtype) * _MASKED
        weights = self.drop_attention(tf.nn.softmax(scores), training=training)
        return tf.reshape(tf.transpose(tf.matmul(weights, value), (0, 2, 1, 3)), (rows, tokens, self.width))


def activate(name: str, x: tf.Tensor) -> tf.Tensor:
    """Applies an activation by the name that checkpoints give it."""
    if name == "relu":
        return tf.nn.relu(x)
    return tf.nn.gelu(x, approximate=name != "gelu")


def _build(layer: tf_keras.layers.Layer, width: int) -> None:
    """Makes a sub-layer's weights, with its name in theirs."""
    with tf.name_scope(layer.name):
        layer.build((None, None, width))
