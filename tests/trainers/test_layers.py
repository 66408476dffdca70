"""One shared check of every layer, and exact small cases of each."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from trainers.layers import Dropout, Experts, MaskedPooling, WideNgrams, hash_bigrams
from trainers.optimizer import LazyAdamW
from trainers.transformer.layers import EncoderBlock, TokenAndPositionEmbedding

IDS = np.array([[3, 1, 4, 2], [5, 2, 0, 0], [0, 0, 0, 0]], np.int32)
MASK = (IDS > 0).astype(np.float32)
STATES = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A layer, whether it takes ids or states with a mask, and the shapes of its outputs over ``IDS``."""

    make: Callable[[], tf_keras.layers.Layer]
    takes_ids: bool
    shapes: list[tuple[int, ...]]


def block(norm: str) -> EncoderBlock:
    return EncoderBlock(width=4, heads=2, head_width=3, feed_forward=5, dropout=0.25, norm=norm, name="block")


CASES = {
    "embedding": Case(
        lambda: TokenAndPositionEmbedding(6, 4, 7, word_dropout=0.25, name="e"), True, [(3, 4, 4), (3, 4)]
    ),
    "block_pre": Case(lambda: block("pre"), False, [(3, 4, 4)]),
    "block_post": Case(lambda: block("post"), False, [(3, 4, 4)]),
    "pooling_mean": Case(lambda: MaskedPooling("mean", name="pooling"), False, [(3, 4)]),
    "pooling_mean_max": Case(lambda: MaskedPooling("mean_max", name="pooling"), False, [(3, 8)]),
    "wide": Case(lambda: WideNgrams(6, 5, 2, gain=3.0, word_dropout=0.25, name="wide"), True, [(3, 2)]),
}


def randomize(layer: tf_keras.layers.Layer) -> None:
    """Replaces all weights, those that start as zeros or ones too."""
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])


def run(layer: tf_keras.layers.Layer, case: Case, inputs: np.ndarray, mask: np.ndarray) -> list[tf.Tensor]:
    """Calls a layer on ids, or on states with their mask, and returns its outputs as a list."""
    outputs = layer(inputs) if case.takes_ids else layer(inputs, mask)
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def real(output: tf.Tensor, mask: np.ndarray) -> np.ndarray:
    """Returns the part of an output that later layers look at: where it has tokens, the real ones."""
    output = output.numpy()[:, : mask.shape[1]] if output.shape.rank == 3 else output.numpy()
    return output[mask > 0] if output.ndim == 3 else output


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def inputs(case: Case) -> np.ndarray:
    return IDS if case.takes_ids else STATES


@pytest.fixture
def layer(case: Case, inputs: np.ndarray) -> tf_keras.layers.Layer:
    layer = case.make()
    run(layer, case, inputs, MASK)
    randomize(layer)
    return layer


def test_layer_survives_its_config(case: Case, inputs: np.ndarray, layer: tf_keras.layers.Layer) -> None:
    settings = [name for name in inspect.signature(type(layer).__init__).parameters if name not in ("self", "kwargs")]
    serialized = tf_keras.layers.serialize(layer)
    for copy in (type(layer).from_config(layer.get_config()), tf_keras.layers.deserialize(serialized)):
        assert type(copy) is type(layer)
        assert copy.get_config() == layer.get_config()
        assert copy.get_config().keys() >= set(settings)
        run(copy, case, inputs, MASK)
        copy.set_weights(layer.get_weights())
        for mine, reference in zip(run(copy, case, inputs, MASK), run(layer, case, inputs, MASK), strict=True):
            np.testing.assert_array_equal(mine, reference)


def test_layer_gives_finite_floats_of_its_shape(case: Case, inputs: np.ndarray, layer: tf_keras.layers.Layer) -> None:
    outputs = run(layer, case, inputs, MASK)
    assert [tuple(output.shape) for output in outputs] == case.shapes
    for output in outputs:
        assert output.dtype == tf.float32
        assert np.isfinite(output).all()


def test_layer_does_not_see_more_padding(case: Case, inputs: np.ndarray, layer: tf_keras.layers.Layer) -> None:
    beyond = np.zeros((3, 3), np.int32) if case.takes_ids else np.full((3, 3, 4), 50.0, np.float32)
    padded = run(layer, case, np.concatenate([inputs, beyond], axis=1), np.pad(MASK, [(0, 0), (0, 3)]))
    for output, reference in zip(padded, run(layer, case, inputs, MASK), strict=True):
        if case.takes_ids and output.shape.as_list() == [3, 7]:
            np.testing.assert_array_equal(output, np.pad(MASK, [(0, 0), (0, 3)]))
        else:
            np.testing.assert_allclose(real(output, MASK), real(reference, MASK), atol=1e-5)


def test_layer_does_not_see_masked_tokens(case: Case, inputs: np.ndarray, layer: tf_keras.layers.Layer) -> None:
    reference = run(layer, case, inputs, MASK)
    if case.takes_ids:
        table = layer.weights[0]
        table.assign(tf.tensor_scatter_nd_update(table, [[0]], [np.full(table.shape[1], 100.0)]))
        changed = run(layer, case, inputs, MASK)
    else:
        changed = run(layer, case, np.where(MASK[..., np.newaxis] > 0, inputs, 100.0).astype(np.float32), MASK)
    for output, expected in zip(changed, reference, strict=True):
        np.testing.assert_allclose(real(output, MASK), real(expected, MASK), atol=1e-5)


def test_one_step_lowers_the_loss(case: Case, inputs: np.ndarray, layer: tf_keras.layers.Layer) -> None:
    variable = tf.Variable(inputs)
    weights = layer.trainable_weights + ([] if case.takes_ids else [variable])

    def loss() -> tf.Tensor:
        output = run(layer, case, tf.identity(variable), MASK)[0]
        return tf.reduce_mean(tf.square(output - tf.reshape(tf.range(tf.size(output), dtype=tf.float32), output.shape)))

    with tf.GradientTape() as tape:
        before = loss()
    gradients = tape.gradient(before, weights)
    assert all(gradient is not None for gradient in gradients)
    for gradient, weight in zip(gradients, weights, strict=True):
        weight.assign_sub(1e-4 * tf.convert_to_tensor(gradient))
    assert float(loss()) < float(before)


def test_embedding_is_the_sum_of_word_and_position() -> None:
    layer = TokenAndPositionEmbedding(vocab_size=4, width=2, max_tokens=3)
    layer(np.zeros((1, 1), np.int32))
    words, positions = np.arange(8.0).reshape(4, 2), 100.0 * np.arange(1, 7).reshape(3, 2)
    layer.set_weights([words, positions])
    embedded, mask = layer(np.array([[3, 1, 0]], np.int32))
    np.testing.assert_allclose(embedded[0, :2], 3.0 * words[[3, 1]] + positions[:2])
    assert mask.numpy().tolist() == [[1.0, 1.0, 0.0]]


def test_dropout_scales_what_is_kept_in_training_only() -> None:
    layer, ones = Dropout(0.25), np.ones((100, 100), np.float32)
    np.testing.assert_array_equal(layer(ones, training=False), ones)
    kept = layer(ones, training=True).numpy()
    np.testing.assert_allclose(np.unique(kept), [0.0, 1 / 0.75])
    assert np.count_nonzero(kept) == pytest.approx(7500, abs=200)


def test_hidden_words_leave_embedding_and_mask_in_training_only() -> None:
    tf_keras.utils.set_random_seed(0)
    layer = TokenAndPositionEmbedding(vocab_size=4, width=2, max_tokens=50, word_dropout=0.25)
    ids = np.tile(np.array([[3] * 40 + [0] * 10], np.int32), (50, 1))
    assert layer(ids, training=False)[1].numpy().sum() == 2000
    embedded, mask = (output.numpy() for output in layer(ids, training=True))
    assert set(mask.ravel()) == {0.0, 1.0}
    assert mask[:, 40:].sum() == 0
    assert mask.sum() == pytest.approx(1500, abs=100)
    words, positions = layer.get_weights()
    np.testing.assert_allclose(embedded, 3.0 * words[3] * mask[..., np.newaxis] + positions, atol=1e-6)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_block_norms_where_it_says(norm: str) -> None:
    layer = block(norm)
    layer(STATES, MASK)
    means = tf.reduce_mean(layer(STATES, MASK), axis=-1).numpy()
    assert np.allclose(means, 0.0, atol=1e-5) == (norm == "post")
    layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    np.testing.assert_array_equal(layer(STATES, MASK), STATES if norm == "pre" else np.zeros_like(STATES))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_block_attends_to_other_tokens(norm: str) -> None:
    layer = block(norm)
    reference = layer(STATES, MASK).numpy()
    changed = STATES.copy()
    changed[0, 3, 0] += 3.0
    assert not np.allclose(layer(changed, MASK)[0, 0], reference[0, 0], atol=1e-4)
    np.testing.assert_allclose(layer(changed, MASK)[1:], reference[1:], atol=1e-6)


def test_pooling_exact() -> None:
    states = np.array([[[1.0, -8.0], [3.0, -2.0], [99.0, 99.0]], [[7.0, 7.0], [7.0, 7.0], [7.0, 7.0]]], np.float32)
    mask = np.array([[1, 1, 0], [0, 0, 0]], np.float32)
    assert MaskedPooling("mean")(states, mask).numpy().tolist() == [[2.0, -5.0], [0.0, 0.0]]
    assert MaskedPooling("mean_max")(states, mask).numpy().tolist() == [[2.0, -5.0, 3.0, -2.0], [0.0] * 4]


def test_experts_answer_with_their_mean_and_stay_apart_in_training() -> None:
    first, second = np.array([[1.0, -2.0], [0.0, 4.0]], np.float32), np.array([[3.0, 2.0], [5.0, 0.0]], np.float32)
    layer = tf_keras.layers.deserialize(tf_keras.layers.serialize(Experts(name="experts")))
    assert type(layer) is Experts
    assert layer([first, second]).numpy().tolist() == [[2.0, 0.0], [2.5, 2.0]]
    apart = layer([first, second], training=True).numpy()
    assert apart.shape == (2, 2, 2)
    assert apart.tolist() == [[[1.0, -2.0], [3.0, 2.0]], [[0.0, 4.0], [5.0, 0.0]]]


def test_experts_have_the_shares_that_they_are_given() -> None:
    first, second = np.array([[1.0, -2.0]], np.float32), np.array([[5.0, 2.0]], np.float32)
    layer = Experts([1.0, 3.0])
    for copy in (layer, tf_keras.layers.deserialize(tf_keras.layers.serialize(layer))):
        assert copy([first, second]).numpy().tolist() == [[4.0, 1.0]]
        assert copy([first, second], training=True).numpy().tolist() == [[[1.0, -2.0], [5.0, 2.0]]]


def bucket(first: int, second: int, buckets: int) -> int:
    """Returns the bucket of a pair of ids, reckoned with Python's integers."""
    mixed = first * 1_000_003 + second * 8_191
    return (mixed ^ (mixed >> 7)) % buckets


def test_hash_bigrams_exact() -> None:
    ids = np.array([[2, 3, 9, 0], [19_999, 7, 19_999, 7], [4, 0, 0, 0], [0, 0, 0, 0]], np.int32)
    buckets, present = hash_bigrams(ids, 500_000)
    assert buckets.dtype == tf.int32
    assert present.numpy().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    for row, successors in enumerate(np.pad(ids[:, 1:], [(0, 0), (0, 1)])):
        expected = [bucket(int(a), int(b), 500_000) for a, b in zip(ids[row], successors, strict=True)]
        assert buckets[row].numpy().tolist() == expected
    assert buckets[1, 0] == buckets[1, 2]
    assert buckets[1, 0] != buckets[1, 1]


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_hash_bigrams_stay_in_range_and_spread(count: int) -> None:
    ids = np.random.default_rng(0).integers(1, 20_000, (100, 101)).astype(np.int32)
    buckets = hash_bigrams(ids, count)[0].numpy()[:, :-1]
    assert buckets.min() >= 0
    assert buckets.max() < count
    filled = np.bincount(buckets.ravel(), minlength=count)
    assert filled.min() > 0
    assert filled.max() <= 4 * filled.mean()


def test_hash_bigrams_of_no_tokens() -> None:
    buckets, _ = hash_bigrams(tf.zeros((2, 0), tf.int32), 5)
    assert buckets.shape[0] == 2


def test_wide_ngrams_exact() -> None:
    layer = WideNgrams(vocab_size=6, buckets=11, classes=2, gain=10.0)
    layer(IDS)
    table = np.random.default_rng(0).normal(size=(17, 2)).astype(np.float32)
    layer.set_weights([table])
    ids = np.array([[2, 5, 3, 0], [5, 2, 3, 0], [4, 0, 0, 0], [0, 0, 0, 0]], np.int32)

    logits = layer(ids).numpy()

    words = table[2] + table[5] + table[3]
    first = words + table[6 + bucket(2, 5, 11)] + table[6 + bucket(5, 3, 11)]
    second = words + table[6 + bucket(5, 2, 11)] + table[6 + bucket(2, 3, 11)]
    np.testing.assert_allclose(logits[0], 10.0 * first / np.sqrt(3), rtol=1e-4)
    np.testing.assert_allclose(logits[1], 10.0 * second / np.sqrt(3), rtol=1e-4)
    np.testing.assert_allclose(logits[2], 10.0 * table[4], rtol=1e-5)
    assert logits[3].tolist() == [0.0, 0.0]
    assert not np.allclose(logits[0], logits[1])


def test_wide_ngrams_start_at_zero() -> None:
    assert WideNgrams(6, 11, 2, gain=10.0)(IDS).numpy().tolist() == [[0.0, 0.0]] * 3


@pytest.mark.parametrize("gain", [1.0, 10.0])
def test_wide_ngrams_adapt_to_the_log_ratios_of_counts(gain: float) -> None:
    layer = WideNgrams(vocab_size=6, buckets=101, classes=2, gain=gain)
    layer(IDS)
    layer.set_weights([np.full((107, 2), 9.0)])
    # Counted over both batches: word 2 twice in class 0 and once in class 1, words 3 and 5 once in class 0.
    batches = [
        (np.array([[2, 5, 0], [2, 0, 0]], np.int32), np.array([0, 1], np.int32)),
        (np.array([[2, 3]], np.int32), np.array([0], np.int32)),
    ]
    layer.adapt(batches, strength=0.5)

    counts = np.zeros((107, 2))
    for row, label in ((2, 0), (2, 0), (2, 1), (3, 0), (5, 0), (6 + bucket(2, 5, 101), 0), (6 + bucket(2, 3, 101), 0)):
        counts[row, label] += 1
    inside = (counts + 1) / (counts + 1).sum(axis=0)
    expected = 0.5 / gain * np.log(inside / inside[:, ::-1]) * counts.any(axis=1, keepdims=True)
    np.testing.assert_allclose(layer.get_weights()[0], expected, atol=1e-6)
    assert layer.get_weights()[0][0].tolist() == [0.0, 0.0], "padding was counted"
    assert layer.get_weights()[0][4].tolist() == [0.0, 0.0], "never seen"
    logits = layer(np.array([[5, 0]], np.int32)).numpy()[0]
    assert logits[0] > 0 > logits[1]


def test_wide_ngrams_adapt_sets_each_class_against_the_rest() -> None:
    layer = WideNgrams(vocab_size=3, buckets=1, classes=3, gain=1.0)
    layer(np.zeros((1, 1), np.int32))
    layer.adapt([(np.array([[1], [1], [2]], np.int32), np.array([0, 1, 2], np.int32))], strength=1.0)
    # With one added everywhere word 1 has the counts 2, 2, 1, and each class 5 in all.
    expected = np.log([2 / 5, 2 / 5, 1 / 5]) - np.log([3 / 10, 3 / 10, 4 / 10])
    np.testing.assert_allclose(layer.get_weights()[0][1], expected, rtol=1e-5)


@pytest.mark.parametrize("gain", [0.25, 1.0, 10.0])
def test_wide_gain_is_a_factor_of_the_logits_and_of_their_step(gain: float) -> None:
    ids = np.array([[2, 5, 3, 4]], np.int32)
    plain, scaled = (WideNgrams(vocab_size=6, buckets=101, classes=2, gain=factor) for factor in (1.0, gain))
    table = np.random.default_rng(0).normal(size=(107, 2)).astype(np.float32)
    steps = []
    for layer in (plain, scaled):
        layer(ids)
        layer.set_weights([table])
        before = layer(ids).numpy()
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(ids) * [[1.0, -1.0]])
        optimizer = LazyAdamW(learning_rate=0.01, weight_decay=0.0, jit_compile=False)
        optimizer.apply_gradients([(tape.gradient(loss, layer.ngrams), layer.ngrams)])
        steps.append((before, layer(ids).numpy() - before))
    used = (layer.get_weights()[0] != table).any(axis=1)
    assert used.sum() == 7
    # Adam moves a weight by the rate, whatever the gain has made of its gradient.
    np.testing.assert_allclose((table - layer.get_weights()[0])[used], [[0.01, -0.01]] * 7, rtol=1e-3)
    np.testing.assert_allclose(steps[1][0], gain * steps[0][0], rtol=1e-5)
    np.testing.assert_allclose(steps[1][1], gain * steps[0][1], rtol=1e-3)
    np.testing.assert_allclose(steps[1][1], gain * 0.01 * 7 / 2 * np.array([[-1.0, 1.0]]), rtol=1e-3)


def test_wide_word_dropout_keeps_the_expected_logit() -> None:
    tf_keras.utils.set_random_seed(0)
    layer = WideNgrams(vocab_size=6, buckets=11, classes=1, gain=10.0, word_dropout=0.5)
    ids = np.tile(np.array([[2, 5, 3, 4]], np.int32), (4000, 1))
    layer(ids)
    layer.set_weights([np.ones((17, 1))])
    plain, trained = layer(ids, training=False).numpy(), layer(ids, training=True).numpy()
    np.testing.assert_allclose(plain, 10.0 * 7 / 2, rtol=1e-5)
    assert len(np.unique(trained.round(3))) > 2
    assert trained.mean() == pytest.approx(plain.mean(), rel=0.05)
