"""Layers of the from-scratch transformer. Every one honours the mask of real tokens."""

from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras.initializers import RandomNormal

from trainers.layers import Dropout, real_tokens

# Adam moves every weight by about the learning rate, however large it is. A factor behind a table is its own
# learning rate: rare rows are seen a few times only and must go further each time.
_WORD_GAIN = 3.0


@tf_keras.utils.register_keras_serializable("newsdesk")
class TokenAndPositionEmbedding(tf_keras.layers.Layer):
    """Sum of a word and a position embedding.

    In training, ``word_dropout`` of the words are hidden: they leave the sum and the mask, so that no later
    layer sees them (word dropout as in Iyyer et al. 2015).

    Call: ids int [N, T], 0 for padding -> embeddings float32 [N, T, width], mask float32 [N, T].
    """

    def __init__(self, vocab_size: int, width: int, max_tokens: int, word_dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.width = width
        self.max_tokens = max_tokens
        self.word_dropout = word_dropout

    def build(self, input_shape: tf.TensorShape) -> None:
        self.words = self.add_weight(
            "words", (self.vocab_size, self.width), initializer=RandomNormal(stddev=0.05 / _WORD_GAIN)
        )
        self.positions = self.add_weight(
            "positions", (self.max_tokens, self.width), initializer=RandomNormal(stddev=0.02)
        )

    def call(self, ids: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        mask = real_tokens(ids, self.word_dropout if training else 0.0)
        embedded = _WORD_GAIN * tf.nn.embedding_lookup(self.words, ids) * mask[..., tf.newaxis]
        return embedded + self.positions[: tf.shape(ids)[1]], mask


@tf_keras.utils.register_keras_serializable("newsdesk")
class EncoderBlock(tf_keras.layers.Layer):
    """Self-attention and feed-forward with residuals, normed before (``pre``) or after (``post``) each.

    Call: states float32 [N, T, width], mask float32 [N, T] -> float32 [N, T, width]. Masked tokens are
    attended to by none. Source: Vaswani et al. 2017; pre-norm as in Xiong et al. 2020.
    """

    def __init__(
        self, width: int, heads: int, head_width: int, feed_forward: int, dropout: float, norm: str, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.norm = norm
        self.attention = tf_keras.layers.MultiHeadAttention(heads, head_width, name="attention")
        self.expand = tf_keras.layers.Dense(feed_forward, activation="relu", name="expand")
        self.contract = tf_keras.layers.Dense(width, name="contract")
        self.attention_norm = tf_keras.layers.LayerNormalization(epsilon=1e-6, name="attention_norm")
        self.feed_forward_norm = tf_keras.layers.LayerNormalization(epsilon=1e-6, name="feed_forward_norm")
        self.drop = Dropout(dropout)

    def call(self, states: tf.Tensor, mask: tf.Tensor, training: bool = False) -> tf.Tensor:
        def attend(x: tf.Tensor) -> tf.Tensor:
            return self.drop(self.attention(x, x, attention_mask=mask[:, tf.newaxis, :]), training=training)

        def feed(x: tf.Tensor) -> tf.Tensor:
            return self.drop(self.contract(self.expand(x)), training=training)

        if self.norm == "pre":
            states += attend(self.attention_norm(states))
            return states + feed(self.feed_forward_norm(states))
        states = self.attention_norm(states + attend(states))
        return self.feed_forward_norm(states + feed(states))
