"""The transformer as a whole: its size, its variants and its indifference to padding."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from pydantic import ValidationError

from trainers.transformer.config import TransformerConfig
from trainers.transformer.model import TABLES, build

VOCAB, MAX_TOKENS, CLASSES = 10, 8, 3
IDS = np.array([[3, 1, 4, 9, 5], [2, 6, 0, 0, 0], [0, 0, 0, 0, 0]], np.int32)
COMMON = {"embedding", "block_0", "pooling", "logits"}
VARIANTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "pre_mean": ({"norm": "pre", "pooling": "mean"}, COMMON | {"final_norm", "wide"}),
    "pre_mean_max": ({"norm": "pre", "pooling": "mean_max"}, COMMON | {"final_norm", "wide"}),
    "post_mean": ({"norm": "post", "pooling": "mean"}, COMMON | {"wide"}),
    "post_mean_max": ({"norm": "post", "pooling": "mean_max"}, COMMON | {"wide"}),
    "wide_off": ({"wide_buckets": 0}, COMMON | {"final_norm"}),
    "hidden_two_blocks": ({"hidden": 3, "blocks": 2}, COMMON | {"final_norm", "wide", "hidden", "block_1"}),
}


def make_config(**changes: Any) -> TransformerConfig:
    """Returns a tiny architecture."""
    return TransformerConfig(
        **({"width": 4, "heads": 2, "head_width": 3, "feed_forward": 5, "wide_buckets": 7} | changes)
    )


def make_model(**changes: Any) -> tf_keras.Model:
    """Builds a tiny model in which every weight matters, those that start as zeros too."""
    model = build(make_config(**changes), VOCAB, MAX_TOKENS, CLASSES)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(scale=0.5, size=weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(params=VARIANTS, scope="module")
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(variant: str) -> tf_keras.Model:
    """One model per variant; tests leave its weights alone."""
    return make_model(**VARIANTS[variant][0])


def test_model_gives_finite_logits_for_any_row(model: tf_keras.Model) -> None:
    logits = model(IDS, training=False)
    assert (tuple(logits.shape), logits.dtype) == ((3, CLASSES), tf.float32)
    assert np.isfinite(logits).all()


def test_padding_does_not_change_the_logits(model: tf_keras.Model) -> None:
    reference = model(IDS, training=False).numpy()
    padded = model(np.pad(IDS, [(0, 0), (0, MAX_TOKENS - IDS.shape[1])]), training=False).numpy()
    np.testing.assert_allclose(padded, reference, atol=1e-5)
    alone = model(IDS[1:2, :2], training=False).numpy()
    np.testing.assert_allclose(alone, reference[1:2], atol=1e-5)
    assert not np.allclose(reference[0], reference[1], atol=1e-2)


def test_a_row_without_any_column_is_a_row_of_padding(model: tf_keras.Model) -> None:
    nothing = model(np.zeros((2, 0), np.int32), training=False).numpy()
    assert np.isfinite(nothing).all()
    np.testing.assert_allclose(nothing, model(np.zeros((2, 3), np.int32), training=False), atol=1e-5)


def test_config_decides_the_layers(variant: str, model: tf_keras.Model) -> None:
    unnamed = ("dropout", "add", "input", "token_ids")
    assert {layer.name for layer in model.layers if not layer.name.startswith(unnamed)} == VARIANTS[variant][1]


def test_config_and_weights_carry_the_whole_model() -> None:
    settings = {"norm": "post", "hidden": 3, "pooling": "mean_max"}
    model = make_model(**settings)
    rebuilt = build(make_config(**settings), VOCAB, MAX_TOKENS, CLASSES)
    for other in (rebuilt, tf_keras.Model.from_config(model.get_config())):
        assert not np.allclose(other(IDS), model(IDS), atol=1e-3)
        other.set_weights(model.get_weights())
        np.testing.assert_array_equal(other(IDS), model(IDS))


def test_tables_are_the_weights_looked_up_by_row() -> None:
    model = make_model()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(IDS, training=False))
    gradients = zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True)
    sparse = {variable.name for variable, gradient in gradients if isinstance(gradient, tf.IndexedSlices)}
    assert sparse == {"embedding/words:0", "wide/ngrams:0"}
    tables = {variable.name for variable in model.weights if variable.name.endswith(tuple(f"/{n}:0" for n in TABLES))}
    assert tables == sparse | {"embedding/positions:0"}


@pytest.mark.parametrize("rate", ["dropout", "word_dropout", "wide_dropout", None])
def test_each_dropout_works_in_training_only(rate: str | None) -> None:
    model = make_model(**({"dropout": 0.0, "word_dropout": 0.0, "wide_dropout": 0.0} | ({rate: 0.5} if rate else {})))
    tf_keras.utils.set_random_seed(0)
    many = np.tile(IDS[:1], (20, 1))
    plain = model(many, training=False).numpy()
    np.testing.assert_array_equal(model(many, training=False), plain)
    assert np.allclose(model(many, training=True), plain, atol=1e-3) == (rate is None)


def test_seed_numbers_have_the_parameters_of_the_notebook() -> None:
    config = TransformerConfig(
        width=32, heads=2, head_width=32, feed_forward=32, norm="post", pooling="mean", hidden=20, wide_buckets=0
    )
    model = build(config, vocab_size=20_000, max_tokens=256, classes=4)
    assert model.count_params() == 659_592


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"widht": 4}, "widht"),
        ({"norm": "middle"}, "norm"),
        ({"pooling": "max"}, "pooling"),
        ({"dropout": 1.0}, "dropout"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"wide_buckets": -1}, "wide_buckets"),
        ({"warmup_fraction": 1.0}, "warmup_fraction"),
    ],
)
def test_config_refuses_what_makes_no_sense(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as raised:
        TransformerConfig(**changes)
    assert [error["loc"] for error in raised.value.errors()] == [(named,)]


def test_config_is_frozen_and_survives_its_dump() -> None:
    config = make_config(norm="post", seed=3)
    assert TransformerConfig.model_validate(config.model_dump()) == config
    with pytest.raises(ValidationError, match="frozen"):
        config.width = 8
