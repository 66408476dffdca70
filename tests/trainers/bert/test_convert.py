"""Tests of the conversion: the answers of the reference implementation, in the form of TF-Hub's text encoders."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras
from tiny_bert import ARCHITECTURE, VOCABULARY, make_tensors, write_checkpoint, write_saved_encoder

from components.errors import BadInputError
from components.text.vocabulary import read_vocabulary
from components.text.wordpiece import WordPiece
from trainers.bert.checkpoint import read_architecture, read_tensors
from trainers.bert.convert import INPUTS, build_encoder, convert, pour
from trainers.bert.fetch import fetch_encoder
from trainers.family import Downloads

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))
FEED = {
    name: tf.constant(GOLDEN["inputs"][key], tf.int32)
    for name, key in zip(INPUTS, ("ids", "mask", "types"), strict=True)
}
CLOSE = 1e-4
# Query, key and value are one kernel and one bias here, and six tensors there.
VARIABLES = len(make_tensors()) - 4 * ARCHITECTURE["num_hidden_layers"]

Outputs = dict[str, Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint as a SavedModel, with much dropout in training."""
    directory = tmp_path_factory.mktemp("convert") / "saved"
    return write_saved_encoder(directory, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)


@pytest.fixture(scope="module")
def loaded(saved: Path) -> Any:
    return tf.saved_model.load(str(saved))


def make_model(checkpoint: Path, precision: str = "float32") -> tf_keras.Model:
    """Returns the model of a checkpoint, not saved and loaded again."""
    architecture = read_architecture(checkpoint)
    model = build_encoder(architecture, precision)
    pour(model, architecture, read_tensors(checkpoint, architecture))
    return model


def largest_difference(outputs: Outputs, golden: Outputs) -> float:
    """Returns by how much the worst number of all outputs is off."""
    assert set(golden) == {"pooled_output", "sequence_output", "encoder_outputs"}
    differences = [np.abs(np.subtract(outputs[name], golden[name])).max() for name in golden]
    return float(max(differences))


def equal(first: Outputs, second: Outputs) -> bool:
    return bool(np.array_equal(first["sequence_output"], second["sequence_output"]))


def test_golden_numbers_tell_activations_apart() -> None:
    assert GOLDEN["versions"].keys() == {"torch", "transformers"}
    assert 0 in GOLDEN["inputs"]["mask"][1]
    assert any(map(any, GOLDEN["inputs"]["types"]))
    answers = GOLDEN["tiny"]
    for first, second in (("gelu", "gelu_new"), ("gelu", "relu"), ("gelu_new", "relu")):
        assert largest_difference(answers[first], answers[second]) > 3 * CLOSE
    states = np.array(answers["gelu"]["encoder_outputs"])
    assert states.std() > 0.5
    assert np.abs(states[0] - states[1]).max() > 0.5


@pytest.mark.parametrize(
    ("activation", "reference"),
    [("gelu", "gelu"), ("gelu_new", "gelu_new"), ("gelu_pytorch_tanh", "gelu_new"), ("relu", "relu")],
)
def test_every_state_is_that_of_the_reference(tmp_path: Path, activation: str, reference: str) -> None:
    outputs = make_model(write_checkpoint(tmp_path, hidden_act=activation))(FEED)
    assert largest_difference(outputs, GOLDEN["tiny"][reference]) < CLOSE


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("old_names", [False, True], ids=["weight_and_bias", "gamma_and_beta"])
def test_names_of_older_checkpoints_give_the_same_states(tmp_path: Path, prefix: str, old_names: bool) -> None:
    outputs = make_model(write_checkpoint(tmp_path, prefix=prefix, old_names=old_names))(FEED)
    assert largest_difference(outputs, GOLDEN["tiny"]["gelu"]) < CLOSE


def test_a_wide_epsilon_is_obeyed(tmp_path: Path) -> None:
    outputs = make_model(write_checkpoint(tmp_path, layer_norm_eps=0.5))(FEED)
    assert largest_difference(outputs, GOLDEN["tiny"]["gelu"]) > 0.1


@pytest.mark.parametrize("trainable", [True, False], ids=["trainable", "frozen"])
def test_hub_layer_answers_as_the_reference(saved: Path, trainable: bool) -> None:
    layer = hub.KerasLayer(str(saved), trainable=trainable)
    outputs = layer(FEED, training=False)
    assert largest_difference(outputs, GOLDEN["tiny"]["gelu"]) < CLOSE
    np.testing.assert_array_equal(outputs["default"], outputs["pooled_output"])
    assert len(layer.trainable_weights) == (VARIABLES if trainable else 0)
    assert len(layer.weights) == VARIABLES
    # A frozen layer has no dropout in training either.
    assert equal(layer(FEED, training=True), outputs) != trainable


def test_shapes_and_types_are_those_of_a_text_encoder(loaded: Any) -> None:
    rows, tokens, width = 3, 5, ARCHITECTURE["hidden_size"]
    ids = tf.fill((rows, tokens), 7)
    outputs = loaded(dict.fromkeys(INPUTS, ids) | {"input_type_ids": tf.zeros_like(ids)}, training=False)
    assert set(outputs) == {"pooled_output", "default", "sequence_output", "encoder_outputs"}
    assert outputs["pooled_output"].shape == outputs["default"].shape == (rows, width)
    assert outputs["sequence_output"].shape == (rows, tokens, width)
    assert [states.shape for states in outputs["encoder_outputs"]] == [(rows, tokens, width)] * 2
    assert {output.dtype for output in tf.nest.flatten(outputs)} == {tf.float32}


def test_variables_are_there_under_names_that_tell_their_layer(loaded: Any) -> None:
    names = [variable.name for variable in loaded.variables]
    assert len(set(names)) == VARIABLES
    assert [variable.name for variable in loaded.trainable_variables] == names
    assert {variable.dtype for variable in loaded.variables} == {tf.float32}
    assert loaded.regularization_losses == []
    for number in range(2):
        assert sum(f"layer_{number}/" in name for name in names) == (VARIABLES - 7) // 2
    for norm in ("embeddings/layer_norm", "layer_0/attention_layer_norm", "layer_1/output_layer_norm"):
        assert {f"{norm}/gamma:0", f"{norm}/beta:0"} <= set(names)


@pytest.mark.parametrize("lower_case", [True, False])
def test_vocabulary_and_casing_lie_in_the_saved_model(
    tmp_path: Path, saved: Path, loaded: Any, lower_case: bool
) -> None:
    if not lower_case:
        saved = write_saved_encoder(tmp_path / "saved", lower_case=False, num_hidden_layers=1)
        loaded = tf.saved_model.load(str(saved))
    assert bool(loaded.do_lower_case.numpy()) is lower_case
    assert not loaded.do_lower_case.trainable
    asset = Path(loaded.vocab_file.asset_path.numpy().decode())
    assert asset == saved / "assets" / "vocab.txt"
    assert read_vocabulary(asset) == VOCABULARY


def test_saved_dropout_is_on_in_training_only(loaded: Any) -> None:
    assert equal(loaded(FEED, training=False), loaded(FEED, training=False))
    assert equal(loaded(FEED), loaded(FEED, training=False))
    assert not equal(loaded(FEED, training=True), loaded(FEED, training=True))


@pytest.mark.parametrize(
    ("hidden", "attention", "dropouts"), [(0.5, 0.0, 5), (0.0, 0.5, 2), (0.5, 0.5, 7), (0.0, 0.0, 0)]
)
def test_dropout_is_where_the_reference_has_it(tmp_path: Path, hidden: float, attention: float, dropouts: int) -> None:
    """One behind the embeddings; in each of two layers, one on attention weights and two on what a residual adds."""
    checkpoint = write_checkpoint(tmp_path, hidden_dropout_prob=hidden, attention_probs_dropout_prob=attention)
    model = make_model(checkpoint)

    def draws(training: bool) -> int:
        graph = tf.function(lambda feed: model(feed, training=training), autograph=False).get_concrete_function(FEED)
        return sum("StatelessRandomUniformV2" in operation.type for operation in graph.graph.get_operations())

    assert (draws(training=True), draws(training=False)) == (dropouts, 0)
    assert equal(model(FEED, training=True), model(FEED, training=False)) == (dropouts == 0)


def test_half_precision_is_near_and_its_states_are_float32(tmp_path: Path) -> None:
    model = make_model(write_checkpoint(tmp_path), "bfloat16")
    outputs = model(FEED)
    assert {output.dtype for output in tf.nest.flatten(outputs)} == {tf.float32}
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    assert 1e-3 < largest_difference(outputs, GOLDEN["tiny"]["gelu"]) < 0.2


def test_saved_half_precision_is_half_precision(tmp_path: Path, loaded: Any) -> None:
    half = tf.saved_model.load(str(write_saved_encoder(tmp_path / "saved", precision="bfloat16")))
    outputs, exact = half(FEED, training=False), loaded(FEED, training=False)
    assert outputs["sequence_output"].dtype == tf.float32
    assert 1e-3 < np.abs(outputs["sequence_output"] - exact["sequence_output"]).max() < 0.2


def test_a_checkpoint_that_is_not_whole_leaves_nothing(tmp_path: Path) -> None:
    tensors = make_tensors()
    del tensors["pooler.dense.bias"]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tensors=tensors)
    with pytest.raises(BadInputError, match=r"lacks tensor pooler\.dense\.bias"):
        convert(checkpoint, checkpoint / "vocab.txt", True, "float32", tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.network
def test_the_default_encoder_answers_as_the_reference(tmp_path: Path) -> None:
    checkpoint = fetch_encoder("minilm-l6", Downloads(tmp_path, os.environ))
    vocabulary = checkpoint / "vocab.txt"
    convert(checkpoint, vocabulary, True, "float32", tmp_path / "saved")
    encoder = tf.saved_model.load(str(tmp_path / "saved"))
    golden = GOLDEN["minilm-l6"]
    ids = WordPiece(read_vocabulary(vocabulary), True, 128)(tf.constant([answer["text"] for answer in golden]))
    assert ids.to_list() == [answer["ids"] for answer in golden]
    padded = tf.cast(ids.to_tensor(0), tf.int32)
    mask = tf.cast(padded > 0, tf.int32)
    feed = dict(zip(INPUTS, (padded, mask, tf.zeros_like(padded)), strict=True))
    outputs = encoder(feed, training=False)
    real = tf.cast(mask, tf.float32)[..., tf.newaxis]
    mean = tf.reduce_sum(outputs["sequence_output"] * real, axis=1) / tf.reduce_sum(real, axis=1)
    for name, states in (("pooled_output", outputs["pooled_output"]), ("mean", mean)):
        expected = np.array([answer[name] for answer in golden])
        assert np.abs(states[:, : expected.shape[1]] - expected).max() < CLOSE, name
