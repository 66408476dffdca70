"""The BERT classifier: a pretrained encoder behind ``hub.KerasLayer``, pooling and a head."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from components import features
from trainers.bert.config import BertConfig
from trainers.fit import predict
from trainers.input import Encoded, Rows, length_batches, pad
from trainers.layers import Dropout, Experts, MaskedPooling, WideNgrams, seeds
from trainers.progress import Meter

TABLES = ("embeddings", "ngrams")
"""Weights that are looked up by row; they take no weight decay."""
_LAYER = re.compile(r"\blayer_(\d+)/")
_POOLER = re.compile(r"\bpooler")
_ENCODE_BATCH = 128
_HEAD = ("hidden/", "logits/", "wide/")


@dataclass(frozen=True)
class Bert:
    """One model and its two halves, which share its weights.

    Attributes:
        whole: From token ids, int32 [N, T], 0 for padding, to logits, float32 [N, C].
        encoder: From token ids to pooled states, float32 [N, width].
        head: From pooled states and token ids to logits.
    """

    whole: tf_keras.Model
    encoder: tf_keras.Model
    head: tf_keras.Model


class Encoder(hub.KerasLayer):
    """An encoder; its own dropout follows from the step if ``convert`` made it, else from a state of its own."""

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        if training and hasattr(self.resolved_object, "dropout_seed"):
            self.resolved_object.dropout_seed.assign(next(seeds[-1]))
        return super().call(inputs, training)


@tf.autograph.experimental.do_not_convert  # converting the source of Keras takes seconds and changes nothing
def build(config: BertConfig, encoder: str, vocab_size: int, classes: int) -> Bert:
    """Builds the model.

    Args:
        config: Pooling, head and what is trained.
        encoder: Directory of a SavedModel with the interface of TF-Hub's text encoders.
        vocab_size: Number of its word pieces.
        classes: Number of classes C.
    """
    ids = tf_keras.Input((None,), dtype=tf.int32, name="token_ids")
    mask = tf.cast(tf.not_equal(ids, features.PADDING_ID), tf.int32)
    inputs = {"input_word_ids": ids, "input_mask": mask, "input_type_ids": tf.zeros_like(ids)}
    layer = Encoder(encoder, trainable=config.train != "frozen", name="encoder")
    # The layer would overrule a ``training`` among its own ``arguments``.
    outputs = layer(inputs) if config.encoder_dropout else layer(inputs, training=False)
    if config.pooling == "pooled":
        pooled = outputs["pooled_output"]
    else:
        pooled = MaskedPooling("mean", name="pooling")(outputs["sequence_output"], tf.cast(mask, tf.float32))
    head = _build_head(config, pooled.shape[-1], vocab_size, classes)
    return Bert(
        tf_keras.Model(ids, head([pooled, ids]), name="bert"), tf_keras.Model(ids, pooled, name="bert_encoder"), head
    )


def _build_head(config: BertConfig, width: int, vocab_size: int, classes: int) -> tf_keras.Model:
    """Returns the part behind the encoder; a second expert, linear in word pieces and pairs of them, reads the ids."""
    pooled = tf_keras.Input((width,), name="pooled")
    ids = tf_keras.Input((None,), dtype=tf.int32, name="token_ids")
    states = Dropout(config.dropout)(pooled)
    if config.hidden:
        states = tf_keras.layers.Dense(config.hidden, activation="relu", name="hidden")(states)
        states = Dropout(config.dropout)(states)
    logits = tf_keras.layers.Dense(classes, name="logits")(states)
    if config.wide_buckets:
        rate = config.head_learning_rate if config.train == "frozen" else config.learning_rate
        gain = config.wide_learning_rate / rate
        wide = WideNgrams(vocab_size, config.wide_buckets, classes, gain, config.wide_dropout, name="wide")(ids)
        logits = Experts(name="experts")([logits, wide])
    return tf_keras.Model([pooled, ids], logits, name="head")


def encode(encoder: tf_keras.Model, rows: Rows, split: str) -> Encoded:
    """Runs a frozen encoder once over a split, batches of similar length.

    Args:
        encoder: From token ids to pooled states.
        rows: The split.
        split: Its name, for the progress.
    """
    values = np.empty((len(rows), encoder.output_shape[-1]), np.float32)
    meter = Meter(f"encoding {split}", len(rows))
    for batch in length_batches(rows.lengths, _ENCODE_BATCH):
        values[batch] = predict(encoder, tf.constant(pad(rows, batch)[0]))
        meter.add(len(batch))
    return Encoded(values, rows)


def depth(names: Sequence[str]) -> int:
    """Returns the number of layers, read from the names of an encoder's variables; 0 if they do not tell."""
    return 1 + max((int(found[1]) for name in names if (found := _LAYER.search(name))), default=-1)


def trained_variables(config: BertConfig, model: tf_keras.Model) -> list[tf.Variable]:
    """Returns the variables that ``config.train`` lets learn.

    ``top`` leaves out the embeddings and all but the last ``top_layers`` layers. The head always learns, and the
    pooler where its output is used.
    """
    variables = [
        variable
        for variable in model.trainable_variables
        if config.pooling == "pooled" or not _POOLER.search(variable.name)
    ]
    if config.train != "top":
        return variables
    first = depth([variable.name for variable in variables]) - config.top_layers

    def learns(name: str) -> bool:
        found = _LAYER.search(name)
        return int(found[1]) >= first if found else bool(_POOLER.search(name)) or name.startswith(_HEAD)

    return [variable for variable in variables if learns(variable.name)]
