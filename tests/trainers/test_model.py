"""The transformer as a whole: its size, its variants and its indifference to padding."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from pydantic import ValidationError

from trainers.input import Rows
from trainers.transformer.config import TransformerConfig
from trainers.transformer.model import TABLES, begin_with_counts, build

VOCAB, MAX_TOKENS, CLASSES = 10, 8, 3
IDS = np.array([[3, 1, 4, 9, 5], [2, 6, 0, 0, 0], [0, 0, 0, 0, 0]], np.int32)
COMMON = {"embedding", "block_0", "pooling", "logits"}
WIDE = {"wide", "experts"}
SECOND = {f"{name}_of_2" for name in COMMON | {"final_norm"}}
VARIANTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "pre_mean": ({"norm": "pre", "pooling": "mean"}, COMMON | WIDE | {"final_norm"}),
    "pre_mean_max": ({"norm": "pre", "pooling": "mean_max"}, COMMON | WIDE | {"final_norm"}),
    "post_mean": ({"norm": "post", "pooling": "mean"}, COMMON | WIDE),
    "post_mean_max": ({"norm": "post", "pooling": "mean_max"}, COMMON | WIDE),
    "wide_off": ({"wide_buckets": 0}, COMMON | {"final_norm"}),
    "two_transformers": ({"transformers": 2}, COMMON | SECOND | WIDE | {"final_norm"}),
    "two_transformers_wide_off": ({"transformers": 2, "wide_buckets": 0}, COMMON | SECOND | {"final_norm", "experts"}),
    "hidden_two_blocks": ({"hidden": 3, "blocks": 2}, COMMON | WIDE | {"final_norm", "hidden", "block_1"}),
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
    unnamed = ("dropout", "input", "token_ids")
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
    in_training = tf.reduce_mean(model(many, training=True), axis=1)  # one transformer: equal shares
    assert np.allclose(in_training, plain, atol=1e-3) == (rate is None)


def test_experts_stay_apart_in_training_and_share_nothing() -> None:
    model = make_model(transformers=2, dropout=0.0, word_dropout=0.0, wide_dropout=0.0)
    apart = model(IDS, training=True).numpy()
    assert apart.shape == (3, 3, CLASSES)
    transformers, wide = apart[:, :2].mean(axis=1), apart[:, 2]
    np.testing.assert_allclose((transformers + wide) / 2, model(IDS, training=False), atol=1e-5)
    for expert in range(3):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(IDS, training=True)[:, expert]))
        gradients = zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True)
        learns = {variable.name for variable, gradient in gradients if np.any(tf.convert_to_tensor(gradient))}
        own = {
            variable.name
            for variable in model.trainable_variables
            if (variable.name.startswith("wide/"), "_of_2/" in variable.name) == (expert == 2, expert == 1)
        }
        assert learns <= own
        assert len(learns) > len(own) / 2


def test_a_single_expert_answers_alone_in_training_too() -> None:
    assert make_model(wide_buckets=0)(IDS, training=True).shape == (3, CLASSES)


def test_new_transformers_differ() -> None:
    tf_keras.utils.set_random_seed(1)
    model = build(make_config(transformers=2), VOCAB, MAX_TOKENS, CLASSES)
    first, second = (model.get_layer(name).words for name in ("embedding", "embedding_of_2"))
    assert not np.allclose(first, second, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "counted"), [({}, True), ({"wide_prior": 0.0}, False), ({"wide_buckets": 0}, False)]
)
def test_the_linear_part_begins_with_counts(changes: dict[str, Any], counted: bool) -> None:
    config = make_config(**changes)
    tf_keras.utils.set_random_seed(1)
    model = build(config, VOCAB, MAX_TOKENS, CLASSES)
    before = {variable.name: variable.numpy() for variable in model.variables}
    rows = Rows(np.array([3, 4, 5, 3], np.int32), np.array([0, 2, 4]), np.array([0, 2], np.int32))

    begin_with_counts(config, model, rows)

    changed = {v.name for v in model.variables if not np.array_equal(v, before[v.name])}
    assert changed == ({"wide/ngrams:0"} if counted else set())
    if counted:
        ratios = model.get_layer("wide").ngrams.numpy()
        assert ratios[4].argmax() == 0
        assert ratios[5].argmax() == 2
        assert ratios[6].tolist() == [0.0] * CLASSES


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
        ({"wide_prior": -0.1}, "wide_prior"),
        ({"transformers": 0}, "transformers"),
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
