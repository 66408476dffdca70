"""Tests of the classifier: pooling, the linear part, which weights learn, and where dropout is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tiny_bert import ARCHITECTURE, write_saved_encoder

from trainers.bert import model as subject
from trainers.bert.config import BertConfig
from trainers.bert.convert import INPUTS
from trainers.bert.model import TABLES, Bert, build, depth, encode, trained_variables
from trainers.config import FitConfig
from trainers.fit import fit
from trainers.input import Encoded, Rows
from trainers.layers import hash_bigrams

CLASSES, BUCKETS = 3, 23
VOCAB, WIDTH = ARCHITECTURE["vocab_size"], ARCHITECTURE["hidden_size"]
IDS = np.array([[2, 11, 8, 12, 3, 0, 0], [2, 18, 3, 0, 0, 0, 0], [2, 35, 36, 37, 38, 24, 3]], np.int32)
EMBEDDINGS = {f"embeddings/{name}" for name in ("word", "position", "type")}
DENSE = {"logits/kernel:0", "logits/bias:0"}
WIDE = "wide/ngrams:0"
HEAD = DENSE | {WIDE}
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
    """Returns the model of some settings, its linear part not zero; what tests only look at is built once."""
    models: dict[BertConfig, Bert] = {}

    def make(**changes: Any) -> Bert:
        config = make_config(**changes)
        if config not in models:
            models[config] = build_tiny(config, saved)
            if config.wide_buckets:
                models[config].head.get_layer("wide").set_weights([make_table()])
        return models[config]

    return make


def make_config(**changes: Any) -> BertConfig:
    return BertConfig(**({"wide_buckets": BUCKETS} | changes))


def build_tiny(config: BertConfig, saved: str) -> Bert:
    return build(config, saved, VOCAB, CLASSES)


def make_table() -> np.ndarray:
    """Returns weights of the linear part, one row per piece and then one per bucket."""
    return np.random.default_rng(5).normal(size=(VOCAB + BUCKETS, CLASSES)).astype(np.float32)


def linear_part(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Returns the sums of a table's rows over pieces and pairs, divided by the root of the length, text by text."""
    sums = []
    for text in (padded[padded > 0] for padded in ids):
        pairs = [int(hash_bigrams(text[np.newaxis, at : at + 2], BUCKETS)[0][0, 0]) for at in range(len(text) - 1)]
        sums.append((table[text].sum(axis=0) + table[VOCAB:][pairs].sum(axis=0)) / np.sqrt(len(text)))
    return np.array(sums)


def make_vectors(count: int) -> np.ndarray:
    """Returns something to stand for pooled states."""
    return np.random.default_rng(3).normal(size=(count, WIDTH)).astype(np.float32)


def make_rows(count: int, seed: int = 0) -> Rows:
    """Returns rows of 2 to 9 pieces, in no order of length, with labels in turn."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 10, count)
    ids = rng.integers(5, VOCAB, lengths.sum()).astype(np.int32)
    return Rows(ids, np.cumsum([0, *lengths]), (np.arange(count) % CLASSES).astype(np.int32))


def row(rows: Rows, number: int) -> np.ndarray:
    return rows.ids[rows.starts[number] : rows.starts[number + 1]][np.newaxis]


def values(model: Bert) -> dict[str, np.ndarray]:
    """Returns every weight of the whole model under its name."""
    return by_name(model.whole)


def by_name(model: tf_keras.Model) -> dict[str, np.ndarray]:
    found = {variable.name: variable.numpy() for variable in model.weights}
    assert len(found) == len(model.weights)
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
    vectors = model.encoder(IDS).numpy()
    np.testing.assert_allclose(logits, model.head([vectors, IDS]), atol=1e-6)
    mirrored = model.head([vectors, IDS]) + model.head([-vectors, IDS])
    linear = np.allclose(mirrored, 2 * model.head([0 * vectors, IDS]), atol=1e-4)
    assert linear == (hidden == 0), "not linear without ReLU"
    assert names(model.head.weights) == HEAD | ({"hidden/kernel:0", "hidden/bias:0"} if hidden else set())


@pytest.mark.parametrize("pooling", ["mean", "pooled"])
def test_padding_and_company_change_nothing(built: Callable[..., Bert], pooling: str) -> None:
    model = built(train="frozen", pooling=pooling).whole
    together = model(IDS).numpy()
    np.testing.assert_allclose(model(np.pad(IDS, [(0, 0), (0, 20)])), together, atol=1e-5)
    for number, ids in enumerate(IDS):
        np.testing.assert_allclose(model(ids[ids > 0][np.newaxis]), together[[number]], atol=1e-5)
    assert np.abs(together - together[::-1]).max() > 0.01


@pytest.mark.parametrize("hidden", [0, 5])
def test_a_second_expert_is_linear_in_pieces_and_pairs(built: Callable[..., Bert], hidden: int) -> None:
    settings = {
        "train": "frozen",
        "hidden": hidden,
        "dropout": 0.0,
        "wide_dropout": 0.0,
        "wide_learning_rate": 0.5,
        "head_learning_rate": 0.25,
    }
    plain, wide = built(**settings, wide_buckets=0).head, built(**settings).head
    assert names(wide.weights) - names(plain.weights) == {WIDE}
    kept = {name: value for name, value in by_name(wide).items() if name != WIDE}
    plain.set_weights([kept[variable.name] for variable in plain.weights])
    vectors = make_vectors(len(IDS))
    experts = np.stack([plain([vectors, IDS]), 0.5 / 0.25 * linear_part(IDS, make_table())], axis=1)
    np.testing.assert_allclose(wide([vectors, IDS]), experts.mean(axis=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(wide([vectors, IDS], training=True), experts, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(plain([vectors, IDS]), plain([vectors, IDS[::-1]]))


def test_linear_part_sees_pairs_of_pieces(built: Callable[..., Bert]) -> None:
    """Two texts of the same pieces in another order differ, by what their pairs weigh and by nothing else."""
    head = built(train="frozen").head
    texts = np.array([[2, 11, 8, 12, 3], [2, 12, 8, 11, 3]], np.int32)
    same = np.repeat(make_vectors(1), 2, axis=0)
    first, second = head([same, texts]).numpy()
    assert np.abs(first - second).max() > 0.1
    table = make_table()
    table[VOCAB:] = 0
    wide = head.get_layer("wide")
    try:
        wide.set_weights([table])
        first, second = head([same, texts]).numpy()
    finally:
        wide.set_weights([make_table()])
    np.testing.assert_allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("train", ["frozen", "full"])
@pytest.mark.parametrize("rate", ["dropout", "wide_dropout", None])
def test_head_has_its_own_dropout(built: Callable[..., Bert], train: str, rate: str | None) -> None:
    settings = {"dropout": 0.0, "wide_dropout": 0.0} | ({rate: 0.5} if rate else {})
    head = built(train=train, encoder_dropout=False, **settings).head
    tf_keras.utils.set_random_seed(0)
    inputs = [np.ones((8, WIDTH), np.float32), np.repeat(IDS[:1], 8, axis=0)]
    first, second = head(inputs, training=True), head(inputs, training=True)
    assert np.array_equal(first, second) == (rate is None)
    np.testing.assert_array_equal(head(inputs, training=False), head(inputs, training=False))


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
    model = built(dropout=0.0, wide_buckets=0, **settings)
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
    assert names(trained_variables(make_config(**settings), built(**settings).whole)) == HEAD


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
    found = trained_variables(make_config(**settings), model.whole)
    assert names(found) == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"train": "top", "top_layers": 1},
        {"train": "top", "top_layers": 1, "pooling": "pooled"},
        {"train": "top", "top_layers": 2, "encoder_dropout": True},
        {"train": "full", "encoder_dropout": True},
        {"train": "full", "pooling": "pooled"},
        {"train": "top", "top_layers": 1, "wide_buckets": 0},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_one_step_moves_what_learns_and_nothing_else(saved: str, settings: dict[str, Any]) -> None:
    config = make_config(epochs=1, batch_size=64, learning_rate=0.01, weight_decay=0.1, **settings)
    model = build_tiny(config, saved)
    before = values(model)
    rows = make_rows(30)
    learning = trained_variables(config, model.whole)
    history = fit(model.whole, config, rows, rows, TABLES, learning)
    assert history.steps == 1
    after = values(model)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == names(learning)
    assert (WIDE in moved) == (config.wide_buckets > 0)
    assert of_layer(1, model) <= moved
    assert embeddings(model) <= moved or config.train == "top"
    if config.train == "top":
        assert not embeddings(model) & moved


def test_one_step_on_a_frozen_encoder_moves_the_head(saved: str) -> None:
    config = make_config(train="frozen", head_epochs=1, head_batch_size=64)
    model = build_tiny(config, saved)
    before = values(model)
    encoded = encode(model.encoder, make_rows(30), "train")
    history = fit(model.head, config.head_fit(), encoded, encoded, TABLES)
    assert history.steps == 1
    after = values(model)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == HEAD


@pytest.mark.parametrize("train", ["frozen", "top", "full"])
def test_one_step_moves_the_linear_part_at_its_own_rate(saved: str, train: str) -> None:
    config = make_config(
        train=train, epochs=1, batch_size=64, learning_rate=0.01, head_epochs=1, head_batch_size=64,
        head_learning_rate=0.002, wide_learning_rate=0.05, wide_dropout=0.0, warmup_fraction=0.0,
    )  # fmt: skip
    model = build_tiny(config, saved)
    rows = make_rows(30)
    fit_tiny(model, config, rows)
    table = values(model)[WIDE]
    used = table.any(axis=1)
    assert set(np.flatnonzero(used)) >= set(rows.ids)
    # Every weight of a used row has gone one step, and behind the gain the step is the linear part's rate.
    rate = 0.002 if train == "frozen" else 0.01
    np.testing.assert_allclose(np.abs(table[used]), rate, rtol=0.05)
    logits = model.head.get_layer("wide")(row(rows, 0))
    np.testing.assert_allclose(logits, linear_part(row(rows, 0), 0.05 / rate * table), rtol=1e-3, atol=1e-5)


def fit_tiny(model: Bert, config: BertConfig, rows: Rows) -> None:
    """Fits as ``run_fn`` does, on and against the same rows."""
    if config.train == "frozen":
        encoded = encode(model.encoder, rows, "train")
        fit(model.head, config.head_fit(), encoded, encoded, TABLES)
    else:
        fit(model.whole, config, rows, rows, TABLES, trained_variables(config, model.whole))


@pytest.mark.parametrize("train", ["frozen", "top", "full"])
def test_lookup_tables_take_no_weight_decay(saved: str, train: str) -> None:
    """Rows of the tables that no text uses must stay as they are."""
    config = make_config(
        train=train, epochs=1, batch_size=64, learning_rate=0.01, head_epochs=1, head_batch_size=64, weight_decay=0.5
    )
    model = build_tiny(config, saved)
    model.head.get_layer("wide").set_weights([make_table()])
    rows = make_rows(30)
    rows = Rows(np.where(rows.ids == 39, 38, rows.ids), rows.starts, rows.labels)
    before = values(model)
    fit_tiny(model, config, rows)
    after = values(model)
    tables = [WIDE, *["embeddings/word_embeddings:0"] * (train == "full")]
    for name in tables:
        moved = (before[name] != after[name]).any(axis=1)
        assert not moved[39]
        assert moved[38]
    if train == "frozen":
        assert not np.array_equal(before["logits/kernel:0"], after["logits/kernel:0"])


def test_encoding_a_split_gives_each_row_its_own_vector(
    built: Callable[..., Bert], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_ENCODE_BATCH", 4)
    encoder = built(train="frozen").encoder
    rows = make_rows(11)
    assert list(rows.lengths) != sorted(rows.lengths)
    found = encode(encoder, rows, "train")
    assert isinstance(found, Encoded)
    assert found.rows is rows
    assert found.vectors.dtype == np.float32
    expected = np.concatenate([encoder(row(rows, number)) for number in range(len(rows))])
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
    assert len(np.unique(expected.round(3), axis=0)) == len(rows)


def test_head_is_fitted_by_its_own_settings_and_the_common_ones() -> None:
    config = BertConfig(
        train="frozen", epochs=7, batch_size=5, learning_rate=0.5, head_epochs=11, head_batch_size=13,
        head_learning_rate=0.03, warmup_fraction=0.3, weight_decay=0.02, clip_norm=0.7, label_smoothing=0.1, seed=17,
    )  # fmt: skip
    found = config.head_fit()
    assert type(found) is FitConfig
    assert found.model_dump() == {
        "epochs": 11,
        "batch_size": 13,
        "learning_rate": 0.03,
        "warmup_fraction": 0.3,
        "weight_decay": 0.02,
        "clip_norm": 0.7,
        "label_smoothing": 0.1,
        "seed": 17,
    }
