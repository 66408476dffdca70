"""Turns a BERT checkpoint into a SavedModel with the interface of TF-Hub's text encoders.

Inputs ``input_word_ids``, ``input_mask``, ``input_type_ids``, int32 [N, T]; outputs ``pooled_output`` and
``default`` float32 [N, width], ``sequence_output`` float32 [N, T, width] and ``encoder_outputs``, the list of every
layer's states. The vocabulary is an asset, and ``do_lower_case`` says how it was made, as in TF-Hub's own.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from trainers.bert.checkpoint import Architecture, read_architecture, read_tensors
from trainers.bert.layers import BertBlock, BertEmbedding
from trainers.layers import drawing

INPUTS = ("input_word_ids", "input_mask", "input_type_ids")
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
"""Precision of the arithmetic to Keras policy; variables and outputs are float32 in both."""


def convert(checkpoint: Path, vocabulary: Path, lower_case: bool, precision: str, target: Path) -> None:
    """Writes a checkpoint directory as a SavedModel.

    Args:
        checkpoint: Directory with ``config.json`` and ``model.safetensors``.
        vocabulary: Its ``vocab.txt``.
        lower_case: Whether texts are lower-cased before they are split.
        precision: ``float32`` or ``bfloat16``; baked into the graph.
        target: Where to write.

    Raises:
        BadInputError: The checkpoint is not a whole BERT encoder.
    """
    architecture = read_architecture(checkpoint)
    tensors = read_tensors(checkpoint, architecture)
    model = build_encoder(architecture, precision)
    pour(model, architecture, tensors)
    save_encoder(model, vocabulary, lower_case, target)


@tf.autograph.experimental.do_not_convert  # converting the source of Keras takes seconds and changes nothing
def build_encoder(architecture: Architecture, precision: str) -> tf_keras.Model:
    """Returns an encoder with random weights; inputs and outputs as in the module's docstring."""
    sizes, policy = architecture, POLICIES[precision]
    inputs = {name: tf_keras.Input((None,), dtype=tf.int32, name=name) for name in INPUTS}
    ids, mask, types = inputs.values()
    states = BertEmbedding(
        sizes.vocab_size,
        sizes.max_position_embeddings,
        sizes.type_vocab_size,
        sizes.hidden_size,
        sizes.layer_norm_eps,
        sizes.hidden_dropout_prob,
        dtype=policy,
        name="embeddings",
    )(ids, types)
    outputs = []
    for number in range(sizes.num_hidden_layers):
        states = BertBlock(
            sizes.hidden_size,
            sizes.num_attention_heads,
            sizes.intermediate_size,
            sizes.hidden_act,
            sizes.layer_norm_eps,
            sizes.hidden_dropout_prob,
            sizes.attention_probs_dropout_prob,
            dtype=policy,
            name=f"layer_{number}",
        )(states, mask)
        outputs.append(tf_keras.layers.Activation("linear", dtype="float32", name=f"layer_{number}_output")(states))
    pooled = tf_keras.layers.Dense(sizes.hidden_size, activation="tanh", dtype="float32", name="pooler")(
        outputs[-1][:, 0]
    )
    return tf_keras.Model(
        inputs,
        {"pooled_output": pooled, "default": pooled, "sequence_output": outputs[-1], "encoder_outputs": outputs},
        name="encoder",
    )


def pour(model: tf_keras.Model, architecture: Architecture, tensors: dict[str, np.ndarray]) -> None:
    """Puts a checkpoint's tensors into the model of ``build_encoder``."""

    def dense(name: str) -> list[np.ndarray]:
        return [tensors[f"{name}.weight"].T, tensors[f"{name}.bias"]]

    def norm(name: str) -> list[np.ndarray]:
        return [tensors[f"{name}.weight"], tensors[f"{name}.bias"]]

    embeddings = model.get_layer("embeddings")
    for table, name in (
        (embeddings.word_table, "word"),
        (embeddings.position_table, "position"),
        (embeddings.type_table, "token_type"),
    ):
        table.assign(tensors[f"embeddings.{name}_embeddings.weight"])
    embeddings.layer_norm.set_weights(norm("embeddings.LayerNorm"))
    for number in range(architecture.num_hidden_layers):
        block, prefix = model.get_layer(f"layer_{number}"), f"encoder.layer.{number}."
        kernels, biases = zip(
            *(dense(f"{prefix}attention.self.{part}") for part in ("query", "key", "value")), strict=True
        )
        block.query_key_value.set_weights([np.concatenate(kernels, axis=1), np.concatenate(biases)])
        block.attention_output.set_weights(dense(f"{prefix}attention.output.dense"))
        block.attention_norm.set_weights(norm(f"{prefix}attention.output.LayerNorm"))
        block.intermediate.set_weights(dense(f"{prefix}intermediate.dense"))
        block.output_dense.set_weights(dense(f"{prefix}output.dense"))
        block.output_norm.set_weights(norm(f"{prefix}output.LayerNorm"))
    model.get_layer("pooler").set_weights(dense("pooler.dense"))


def save_encoder(model: tf_keras.Model, vocabulary: Path, lower_case: bool, target: Path) -> None:
    """Writes the encoder with what ``hub.KerasLayer`` looks for: a call with and without training, and variables."""
    spec = {name: tf.TensorSpec((None, None), tf.int32, name=name) for name in INPUTS}

    @tf.function(autograph=False)
    def call(inputs: dict[str, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        with drawing(saved.dropout_seed):
            outputs = model(inputs, training=training)
        if training:
            # For whoever gives no seed of their own.
            saved.dropout_seed.assign_add([0, 1])
        return outputs

    saved = tf.train.Checkpoint()
    saved.dropout_seed = tf.Variable([0, 0], trainable=False, dtype=tf.int64)  # not among ``variables``, the weights
    saved.__call__ = call
    for training in (True, False):
        call.get_concrete_function(spec, training=training)
    saved.variables = model.variables
    saved.trainable_variables = model.trainable_variables
    saved.regularization_losses = []
    saved.vocab_file = tf.saved_model.Asset(str(vocabulary))
    saved.do_lower_case = tf.Variable(lower_case, trainable=False, name="do_lower_case")
    tf.saved_model.save(saved, str(target))
