"""The from-scratch transformer classifier."""

import tensorflow as tf
import tf_keras

from trainers.input import Split
from trainers.layers import Dropout, Experts, MaskedPooling, WideNgrams
from trainers.transformer.config import TransformerConfig
from trainers.transformer.layers import EncoderBlock, TokenAndPositionEmbedding

TABLES = ("words", "positions", "ngrams")
"""Weights that are looked up by row; they take no weight decay."""
_WIDE = "wide"
_WIDE_GAIN = 10.0
_COUNT_BATCH = 4096


@tf.autograph.experimental.do_not_convert  # converting the source of Keras takes seconds and changes nothing
def build(config: TransformerConfig, vocab_size: int, max_tokens: int, classes: int) -> tf_keras.Model:
    """Builds the model: one or more transformers and a linear part over n-grams, experts that learn apart.

    Args:
        config: Architecture.
        vocab_size: Number of token ids, padding and out-of-vocabulary included.
        max_tokens: Longest row.
        classes: Number of classes C.

    Returns:
        Model from token ids, int32 [N, T] with T up to ``max_tokens`` and 0 for padding, to logits, float32 [N, C];
        in training to those of its K experts, [N, K, C], if there is more than one.
    """
    ids = tf_keras.Input((None,), dtype=tf.int32, name="token_ids")
    experts = [_transformer(config, ids, vocab_size, max_tokens, classes, n) for n in range(config.transformers)]
    shares = [1.0] * config.transformers
    if config.wide_buckets:
        wide = WideNgrams(vocab_size, config.wide_buckets, classes, _WIDE_GAIN, config.wide_dropout, name=_WIDE)
        experts.append(wide(ids))
        # As much as all transformers together: they err alike.
        shares.append(float(config.transformers))
    logits = Experts(shares, name="experts")(experts) if len(experts) > 1 else experts[0]
    return tf_keras.Model(ids, logits, name="transformer")


def begin_with_counts(config: TransformerConfig, model: tf_keras.Model, train: Split) -> None:
    """Gives the linear part the weights that it begins with, from counts of the rows to learn from."""
    if config.wide_buckets and config.wide_prior:
        model.get_layer(_WIDE).adapt(train.batches(_COUNT_BATCH), config.wide_prior)


def _transformer(
    config: TransformerConfig, ids: tf.Tensor, vocab_size: int, max_tokens: int, classes: int, number: int
) -> tf.Tensor:
    """Returns the logits of one transformer; all have the same layers, and weights of their own."""

    def named(layer: str) -> str:
        return f"{layer}_of_{number + 1}" if number else layer

    embedding = TokenAndPositionEmbedding(
        vocab_size, config.width, max_tokens, config.word_dropout, name=named("embedding")
    )
    states, mask = embedding(ids)
    states = Dropout(config.dropout)(states)
    for block in range(config.blocks):
        states = EncoderBlock(
            config.width,
            config.heads,
            config.head_width,
            config.feed_forward,
            config.dropout,
            config.norm,
            name=named(f"block_{block}"),
        )(states, mask)
    if config.norm == "pre":
        states = tf_keras.layers.LayerNormalization(epsilon=1e-6, name=named("final_norm"))(states)
    pooled = MaskedPooling(config.pooling, name=named("pooling"))(states, mask)
    pooled = Dropout(config.dropout)(pooled)
    if config.hidden:
        pooled = tf_keras.layers.Dense(config.hidden, activation="relu", name=named("hidden"))(pooled)
        pooled = Dropout(config.dropout)(pooled)
    return tf_keras.layers.Dense(classes, name=named("logits"))(pooled)
