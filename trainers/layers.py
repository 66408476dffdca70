"""Layers that every model family uses.

Arguments of a layer are plain values: Keras makes the layer's configuration of them.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from components import features

_LARGE = 1e9
seeds = [(tf.random.uniform([2], maxval=tf.int64.max, dtype=tf.int64) for _ in itertools.count())]
"""The last yields one for each stateless operation that draws in training."""


@contextmanager
def drawing(seed: tf.Tensor) -> Iterator[None]:
    """Lets layers draw what follows from ``seed``, int64 [2], alone: no state that a checkpoint would have to hold."""
    fold_in = tf.random.experimental.stateless_fold_in
    seeds.append(fold_in(seed, tf.constant(number, tf.int64)) for number in itertools.count())
    try:
        yield
    finally:
        seeds.pop()


@tf_keras.utils.register_keras_serializable("newsdesk")
class Dropout(tf_keras.layers.Dropout):
    """Keras's, but for its draws: their counter is in the process, where no checkpoint can hold it."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or not self.rate:
            return inputs
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, next(seeds[-1]))


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


@tf_keras.utils.register_keras_serializable("newsdesk")
class WideNgrams(tf_keras.layers.Layer):
    """Linear model over words and hashed bigrams, the wide part of a wide and deep model (Cheng et al. 2016).

    A text's weights are summed and divided by the square root of its length. In training, ``word_dropout`` of
    the words are hidden, and with them the bigrams that start there. Adam moves every weight by about the learning
    rate, however large it is, so the factor ``gain`` behind the table is its own learning rate: rare rows are seen a
    few times only and must go further each time.

    Call: ids int [N, T], 0 for padding -> float32 [N, classes].
    """

    def __init__(
        self, vocab_size: int, buckets: int, classes: int, gain: float, word_dropout: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.buckets = buckets
        self.classes = classes
        self.gain = gain
        self.word_dropout = word_dropout

    def build(self, input_shape: tf.TensorShape) -> None:
        self.ngrams = self.add_weight("ngrams", (self.vocab_size + self.buckets, self.classes), initializer="zeros")

    def adapt(self, batches: Iterable[tuple[np.ndarray, np.ndarray]], strength: float) -> None:
        """Begins with naive Bayes: each weight is ``strength`` times its n-gram's log ratio between class and rest.

        Most n-grams are too rare to be learned in a few steps, but can be counted (Wang & Manning 2012). One that never
        occurs keeps zeros.

        Args:
            batches: Ids, int [N, T], and labels, int [N], of the rows to count.
            strength: Of the ratios, before the sum is divided by the root of the length.
        """
        counts = np.zeros(self.ngrams.shape, np.float64)
        for ids, labels in batches:
            rows, present = (part.numpy() for part in self._features(tf.constant(ids), real_tokens(ids, 0.0)))
            cells = rows[present > 0] * self.classes + np.repeat(labels, np.count_nonzero(present, axis=1))
            np.add.at(counts.reshape(-1), cells, 1.0)
        inside = counts + 1.0
        rest = inside.sum(axis=1, keepdims=True) - inside
        ratios = np.log(inside / inside.sum(axis=0)) - np.log(rest / rest.sum(axis=0))
        self.ngrams.assign(strength / self.gain * ratios * counts.any(axis=1, keepdims=True))

    def call(self, ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        kept = real_tokens(ids, self.word_dropout if training else 0.0) / (1.0 - self.word_dropout * float(training))
        rows, weights = self._features(ids, kept)
        total = tf.reduce_sum(tf.nn.embedding_lookup(self.ngrams, rows) * weights[..., tf.newaxis], axis=1)
        length = tf.maximum(tf.reduce_sum(real_tokens(ids, 0.0), axis=1, keepdims=True), 1.0)
        return self.gain * total * tf.math.rsqrt(length)

    def _features(self, ids: tf.Tensor, kept: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the rows of words and of the bigrams that start with them, and how much each counts; [N, 2T]."""
        bigrams, present = hash_bigrams(ids, self.buckets)
        return tf.concat([ids, self.vocab_size + bigrams], axis=1), tf.concat([kept, kept * present], axis=1)


@tf_keras.utils.register_keras_serializable("newsdesk")
class Experts(tf_keras.layers.Layer):
    """Answers with the mean of several experts' logits, a product of experts (Hinton 2002).

    In training they stay apart, so that each learns by itself: trained on their sum, the quick one would leave the
    others little to learn. ``shares`` are what each has in the mean, equal ones if None.

    Call: K tensors float32 [N, C] -> float32 [N, C]; in training [N, K, C].
    """

    def __init__(self, shares: list[float] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.shares = shares

    def call(self, logits: list[tf.Tensor], training: bool = False) -> tf.Tensor:
        apart = tf.stack(logits, axis=1)
        if training:
            return apart
        shares = tf.constant(self.shares or [1.0] * len(logits))
        return tf.reduce_sum(apart * shares[:, tf.newaxis], axis=1) / tf.reduce_sum(shares)


def real_tokens(ids: tf.Tensor, hidden: float) -> tf.Tensor:
    """Returns 1.0 for real tokens, a share ``hidden`` of them left out at random; float32 [N, T]."""
    mask = tf.cast(tf.not_equal(ids, features.PADDING_ID), tf.float32)
    if not hidden:
        return mask
    return mask * tf.cast(tf.random.stateless_uniform(tf.shape(mask), next(seeds[-1])) >= hidden, tf.float32)


def hash_bigrams(ids: tf.Tensor, buckets: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Hashes each token and its successor.

    Args:
        ids: int [N, T], 0 for padding.
        buckets: Number of hash buckets.

    Returns:
        Bucket numbers, int32 [N, T], and 1.0 where both tokens of the pair are real, float32 [N, T].
    """
    following = tf.concat([ids[:, 1:], tf.zeros_like(ids[:, :1])], axis=1)
    mixed = tf.cast(ids, tf.int64) * 1_000_003 + tf.cast(following, tf.int64) * 8_191
    mixed = tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, tf.constant(7, tf.int64)))
    return tf.cast(tf.math.floormod(mixed, buckets), tf.int32), tf.cast((ids > 0) & (following > 0), tf.float32)
