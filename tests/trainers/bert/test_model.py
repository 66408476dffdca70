"""Tests of the classifier: pooling, which weights learn, and where dropout is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tiny_bert import ARCHITECTURE, write_saved_encoder

from trainers.bert import model as subject
from trainers.bert.config import BertConfig
from trainers.bert.convert import INPUTS
from trainers.bert.model import TABLES, Bert, build, depth, encode, trained_variables
from trainers.fit import fit
from trainers.input import Rows, Vectors

CLASSES = 3
IDS = np.array([[2, 11, 8, 12, 3, 0, 0], [2, 18, 3, 0, 0, 0, 0], [2, 35, 36, 37, 38, 24, 3]], np.int32)
EMBEDDINGS = {f"embeddings/{name}" for name in ("word", "position", "type")}
HEAD = {"logits/kernel:0", "logits/bias:0"}
POOLER = {"pooler/kernel:0", "pooler/bias:0"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("model") / "saved"
    return str(write_saved_encoder(directory, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3))


@pytest.fixture(scope="module")
def states(saved: str) -> dict[str, np.ndarray]:
    """What the encoder itself answers to ``IDS``."""
    mask = (IDS > 0).astype(np.int32)
    feed = dict(zip(INPUTS, map(tf.constant, (IDS, mask, np.zeros_like(IDS))), strict=True))
    outputs = tf.saved_model.load(saved)(feed, training=False)
    return {name: outputs[name].numpy() for name in ("pooled_output", "sequence_output")}


@pytest.fixture(scope="module")
def built(saved: str) -> Callable[..., Bert]:
    """Returns the model of some settings; one that several tests only look at is built once."""
    models: dict[BertConfig, Bert] = {}

    def make(**changes: Any) -> Bert:
        config = BertConfig(**changes)
        if config not in models:
            models[config] = build(config, saved, CLASSES)
        return models[config]

    return make


def make_rows(count: int, seed: int = 0) -> Rows:
    """Returns rows of 2 to 9 pieces, in no order of length, with labels in turn."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 10, count)
    ids = rng.integers(5, ARCHITECTURE["vocab_size"], lengths.sum()).astype(np.int32)
    return Rows(ids, np.cumsum([0, *lengths]), (np.arange(count) % CLASSES).astype(np.int32))


def row(rows: Rows, number: int) -> np.ndarray:
    return rows.ids[rows.starts[number] : rows.starts[number + 1]][np.newaxis]


def values(model: Bert) -> dict[str, np.ndarray]:
    """Returns every weight of the whole model under its name."""
    found = {variable.name: variable.numpy() for variable in model.whole.weights}
    assert len(found) == len(model.whole.weights)
    return found


def names(variables: list[tf.Variable]) -> set[str]:
    return {variable.name for variable in variables}


def of_layer(number: int, model: Bert) -> set[str]:
    found = {name for name in names(model.whole.weights) if f"layer_{number}/" in name}
    assert len(found) == 12
    return found


def embeddings(model: Bert) -> set[str]:
    found = {name for name in names(model.whole.weights) if name.startswith("embeddings/")}
    assert {name.removesuffix("_embeddings:0") for name in found if "norm" not in name} == EMBEDDINGS
    assert len(found) == 5
    return found


def test_mean_pooling_is_the_mean_over_real_tokens(built: Callable[..., Bert], states: dict[str, np.ndarray]) -> None:
    expected = [states["sequence_output"][number][ids > 0].mean(axis=0) for number, ids in enumerate(IDS)]
    np.testing.assert_allclose(built(train="frozen").encoder(IDS), expected, atol=1e-5)


def test_pooled_pooling_is_the_output_of_the_pooler(built: Callable[..., Bert], states: dict[str, np.ndarray]) -> None:
    pooled = built(train="frozen", pooling="pooled").encoder(IDS)
    np.testing.assert_allclose(pooled, states["pooled_output"], atol=1e-5)


@pytest.mark.parametrize(("pooling", "hidden"), [("mean", 0), ("pooled", 5)])
def test_whole_is_the_head_behind_the_encoder(built: Callable[..., Bert], pooling: str, hidden: int) -> None:
    model = built(train="frozen", pooling=pooling, hidden=hidden, dropout=0.0)
    logits = model.whole(IDS)
    assert logits.shape == (len(IDS), CLASSES)
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(logits, model.head(model.encoder(IDS)), atol=1e-6)
    vectors = model.encoder(IDS).numpy()
    mirrored = model.head(vectors) + model.head(-vectors)
    assert np.allclose(mirrored, 2 * model.head(0 * vectors), atol=1e-4) == (hidden == 0), "not linear without ReLU"
    assert names(model.head.weights) == HEAD | ({"hidden/kernel:0", "hidden/bias:0"} if hidden else set())


@pytest.mark.parametrize("pooling", ["mean", "pooled"])
def test_padding_and_company_change_nothing(built: Callable[..., Bert], pooling: str) -> None:
    model = built(train="frozen", pooling=pooling).whole
    together = model(IDS).numpy()
    np.testing.assert_allclose(model(np.pad(IDS, [(0, 0), (0, 20)])), together, atol=1e-5)
    for number, ids in enumerate(IDS):
        np.testing.assert_allclose(model(ids[ids > 0][np.newaxis]), together[[number]], atol=1e-5)
    assert np.abs(together - together[::-1]).max() > 0.01


@pytest.mark.parametrize("train", ["frozen", "full"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_head_has_its_own_dropout(built: Callable[..., Bert], train: str, dropout: float) -> None:
    head = built(train=train, dropout=dropout, encoder_dropout=False).head
    vectors = np.ones((8, ARCHITECTURE["hidden_size"]), np.float32)
    first, second = head(vectors, training=True), head(vectors, training=True)
    assert np.array_equal(first, second) == (dropout == 0)
    np.testing.assert_array_equal(head(vectors, training=False), head(vectors, training=False))


@pytest.mark.parametrize(
    ("settings", "random"),
    [
        ({"train": "full", "encoder_dropout": True}, True),
        ({"train": "top", "top_layers": 1, "encoder_dropout": True}, True),
        ({"train": "full", "encoder_dropout": False}, False),
        ({"train": "top", "top_layers": 1, "encoder_dropout": False}, False),
        ({"train": "frozen", "encoder_dropout": True}, False),
    ],
)
def test_dropout_inside_the_encoder(built: Callable[..., Bert], settings: dict[str, Any], random: bool) -> None:
    model = built(dropout=0.0, **settings)
    for part in (model.whole, model.encoder):
        exact = part(IDS, training=False).numpy()
        assert np.array_equal(exact, part(IDS, training=False))
        assert np.array_equal(exact, part(IDS, training=True)) != random
        assert np.array_equal(part(IDS, training=True), part(IDS, training=True)) != random


@pytest.mark.parametrize(
    ("found", "layers"),
    [
        (["embeddings/word_embeddings:0", "layer_0/output/kernel:0", "layer_1/output/kernel:0"], 2),
        (["transformer/layer_11/self_attention/query/kernel:0", "transformer/layer_3/output/bias:0"], 12),
        (["layer_2/output/kernel:0", "layer_10/output/kernel:0", "layer_9/output/kernel:0"], 11),
        (["dense/kernel:0", "layer_norm/gamma:0", "player_7/kernel:0", "layer_5"], 0),
        ([], 0),
    ],
)
def test_depth_is_read_from_names(found: list[str], layers: int) -> None:
    assert depth(found) == layers


@pytest.mark.parametrize("pooling", ["mean", "pooled"])
def test_frozen_leaves_the_head_to_learn(built: Callable[..., Bert], pooling: str) -> None:
    settings = {"train": "frozen", "pooling": pooling}
    assert names(trained_variables(BertConfig(**settings), built(**settings).whole)) == HEAD


@pytest.mark.parametrize(("pooling", "hidden"), [("mean", 5), ("pooled", 0)])
@pytest.mark.parametrize(("train", "top_layers"), [("top", 1), ("top", 2), ("full", 1)])
def test_variables_that_learn(
    built: Callable[..., Bert], pooling: str, hidden: int, train: str, top_layers: int
) -> None:
    settings = {"train": train, "top_layers": top_layers, "pooling": pooling, "hidden": hidden}
    model = built(**settings)
    expected = HEAD | of_layer(1, model)
    if hidden:
        expected |= {"hidden/kernel:0", "hidden/bias:0"}
    if pooling == "pooled":
        expected |= POOLER
    if train == "full":
        expected |= embeddings(model)
    if train == "full" or top_layers == 2:
        expected |= of_layer(0, model)
    found = trained_variables(BertConfig(**settings), model.whole)
    assert names(found) == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"train": "top", "top_layers": 1},
        {"train": "top", "top_layers": 1, "pooling": "pooled"},
        {"train": "top", "top_layers": 2, "encoder_dropout": False},
        {"train": "full"},
        {"train": "full", "pooling": "pooled"},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_one_step_moves_what_learns_and_nothing_else(saved: str, settings: dict[str, Any]) -> None:
    config = BertConfig(epochs=1, batch_size=64, learning_rate=0.01, weight_decay=0.1, **settings)
    model = build(config, saved, CLASSES)
    before = values(model)
    rows = make_rows(30)
    learning = trained_variables(config, model.whole)
    history = fit(model.whole, config, rows, rows, TABLES, learning)
    assert history.steps == 1
    after = values(model)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == names(learning)
    assert of_layer(1, model) <= moved
    assert embeddings(model) <= moved or config.train == "top"
    if config.train == "top":
        assert not embeddings(model) & moved


def test_one_step_on_a_frozen_encoder_moves_the_head(saved: str) -> None:
    config = BertConfig(train="frozen", head_epochs=1, batch_size=64)
    model = build(config, saved, CLASSES)
    before = values(model)
    vectors = encode(model.encoder, make_rows(30), "train")
    fit(model.head, config.head_fit(), vectors, vectors)
    after = values(model)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == HEAD


def test_lookup_tables_take_no_weight_decay(saved: str) -> None:
    """A row of the word table that no text uses must stay as it is."""
    config = BertConfig(train="full", epochs=1, batch_size=64, learning_rate=0.01, weight_decay=0.5)
    model = build(config, saved, CLASSES)
    rows = make_rows(30)
    rows = Rows(np.where(rows.ids == 39, 38, rows.ids), rows.starts, rows.labels)
    table = "embeddings/word_embeddings:0"
    before = values(model)[table]
    fit(model.whole, config, rows, rows, TABLES, trained_variables(config, model.whole))
    moved = (before != values(model)[table]).any(axis=1)
    assert not moved[39]
    assert moved[38]


def test_encoding_a_split_gives_each_row_its_own_vector(
    built: Callable[..., Bert], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_ENCODE_BATCH", 4)
    encoder = built(train="frozen").encoder
    rows = make_rows(11)
    assert list(rows.lengths) != sorted(rows.lengths)
    found = encode(encoder, rows, "train")
    assert isinstance(found, Vectors)
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.labels, rows.labels)
    expected = np.concatenate([encoder(row(rows, number)) for number in range(len(rows))])
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    assert len(np.unique(expected.round(3), axis=0)) == len(rows)
