"""Lazy AdamW against AdamW, the schedule's exact rates, and what weight decay reaches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from trainers.config import FitConfig
from trainers.fit import make_optimizer
from trainers.optimizer import LazyAdamW, WarmupLinearDecay
from trainers.transformer.config import TransformerConfig
from trainers.transformer.model import TABLES, build

pytestmark = pytest.mark.stack

START = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5], [1.0, 1.0]], np.float32)


def sparse(rows: list[int], values: list[list[float]]) -> tf.IndexedSlices:
    """Returns the gradient of a table like ``START``."""
    return tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(rows), tf.constant(START.shape))


def state(optimizer: tf_keras.optimizers.Optimizer, variable: tf.Variable) -> list[np.ndarray]:
    """Returns a variable, its first and its second moment."""
    slot = optimizer._index_dict[optimizer._var_key(variable)]
    return [tensor.numpy() for tensor in (variable, optimizer._momentums[slot], optimizer._velocities[slot])]


RATES = {"schedule": WarmupLinearDecay(0.1, 2, 6), "constant": 0.05}
SETTINGS: dict[str, dict[str, float]] = {
    "plain": {},
    "clipped": {"global_clipnorm": 0.5},
    "beta_1": {"beta_1": 0.5},
    "beta_2": {"beta_2": 0.8},
    "epsilon": {"epsilon": 0.3},
}


def make_both(**settings: Any) -> tuple[LazyAdamW, tf_keras.optimizers.AdamW]:
    """Returns the optimizer and its reference with equal settings; biases take no decay."""
    lazy = LazyAdamW(jit_compile=False, **settings)
    plain = tf_keras.optimizers.AdamW(jit_compile=False, **settings)
    for optimizer in (lazy, plain):
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    return lazy, plain


def test_settings_make_a_difference() -> None:
    results = []
    for settings in SETTINGS.values():
        variable = tf.Variable(START)
        plain = tf_keras.optimizers.AdamW(learning_rate=0.05, weight_decay=0.0, jit_compile=False, **settings)
        for scale in (3.0, -1.0):
            plain.apply_gradients([(tf.constant(scale * START), variable)])
        results.append(variable.numpy())
    for number, result in enumerate(results):
        assert not any(np.allclose(result, other, rtol=1e-3) for other in results[:number])


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_dense_gradients_are_plain_adamw(settings: dict[str, float], rate: float | WarmupLinearDecay) -> None:
    rng = np.random.default_rng(0)
    starts = {"layer/kernel": START, "layer/bias": START[:, 0]}
    ours, theirs = ([tf.Variable(start, name=name) for name, start in starts.items()] for _ in range(2))
    lazy, plain = make_both(learning_rate=rate, weight_decay=0.3, **settings)
    lazy.build(ours)
    traced = tf.function(lambda gradients: lazy.apply_gradients(zip(gradients, ours, strict=True)), autograph=False)
    for _ in range(5):
        gradients = [tf.constant(rng.normal(size=start.shape), tf.float32) for start in starts.values()]
        traced(gradients)
        plain.apply_gradients(zip(gradients, theirs, strict=True))
    for mine, reference, start in zip(ours, theirs, starts.values(), strict=True):
        for one, other in zip(state(lazy, mine), state(plain, reference), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
        assert not np.allclose(mine, start, rtol=0.01)
    assert int(lazy.iterations) == 5


def test_decay_reaches_kernels_and_not_biases() -> None:
    kernel, bias = tf.Variable(START, name="kernel"), tf.Variable(START, name="bias")
    lazy, _ = make_both(learning_rate=0.1, weight_decay=0.5)
    for _ in range(3):
        lazy.apply_gradients([(tf.zeros_like(variable), variable) for variable in (kernel, bias)])
    np.testing.assert_allclose(kernel, START * 0.95**3, rtol=1e-6)
    np.testing.assert_array_equal(bias, START)


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_rows_in_every_batch_are_plain_adamw(settings: dict[str, float], rate: float | WarmupLinearDecay) -> None:
    rng = np.random.default_rng(0)
    ours, theirs = tf.Variable(START), tf.Variable(START)
    # Rows are never clipped.
    lazy, _ = make_both(learning_rate=rate, weight_decay=0.0, **settings)
    _, plain = make_both(learning_rate=rate, weight_decay=0.0, **(settings | {"global_clipnorm": None}))
    for _ in range(5):
        dense = np.zeros_like(START)
        dense[[2, 0]] = rng.normal(size=(2, 2))
        lazy.apply_gradients([(sparse([2, 0], dense[[2, 0]].tolist()), ours)])
        plain.apply_gradients([(tf.constant(dense), theirs)])
    for mine, reference in zip(state(lazy, ours), state(plain, theirs), strict=True):
        np.testing.assert_allclose(mine[[0, 2]], reference[[0, 2]], rtol=1e-5, atol=1e-7)
    assert not np.allclose(ours.numpy()[[0, 2]], START[[0, 2]])


def make_clipped(*starts: np.ndarray) -> tuple[LazyAdamW, list[tf.Variable]]:
    """Returns an optimizer that clips at norm 1, with the variables that it was built for."""
    variables = [tf.Variable(start) for start in starts]
    optimizer = LazyAdamW(learning_rate=0.1, weight_decay=0.0, global_clipnorm=1.0, jit_compile=False)
    optimizer.build(variables)
    return optimizer, variables


def test_a_large_gradient_of_a_table_does_not_shrink_the_steps_of_the_rest() -> None:
    dense = tf.constant(0.1 * START)
    alone, (expected,) = make_clipped(START)
    beside, (kernel, table) = make_clipped(START, START)
    for size in (1.0, 1e6, 0.0, 1e3):
        alone.apply_gradients([(dense, expected)])
        beside.apply_gradients([(dense, kernel), (sparse([2], [[size, -size]]), table)])
    for mine, reference in zip(state(beside, kernel), state(alone, expected), strict=True):
        np.testing.assert_array_equal(mine, reference)


def test_a_large_dense_gradient_does_not_shrink_the_steps_of_a_table() -> None:
    alone, (expected,) = make_clipped(START)
    beside, (table, kernel) = make_clipped(START, START)
    for size in (1.0, 1e6, 0.0, 1e3):
        rows = sparse([3, 1], [[0.5, -0.25], [2.0, 1.0]])
        alone.apply_gradients([(rows, expected)])
        beside.apply_gradients([(rows, table), (tf.constant(size * START), kernel)])
    for mine, reference in zip(state(beside, table), state(alone, expected), strict=True):
        np.testing.assert_array_equal(mine, reference)


def test_dense_gradients_are_clipped_together_and_rows_are_not() -> None:
    optimizer, variables = make_clipped(START, START, START)
    small, large = np.zeros_like(START), np.zeros_like(START)
    small[0], large[1] = (3.0, 0.0), (0.0, 4.0)
    rows = sparse([2], [[30.0, -40.0]])
    optimizer.apply_gradients(zip([tf.constant(small), rows, tf.constant(large)], variables, strict=True))
    moments = [state(optimizer, variable)[1] / 0.1 for variable in variables]
    np.testing.assert_allclose(moments[0], small / 5.0, rtol=1e-5)
    np.testing.assert_allclose(moments[1][2], [30.0, -40.0], rtol=1e-5)
    np.testing.assert_allclose(moments[2], large / 5.0, rtol=1e-5)


@pytest.mark.parametrize("size", [0.01, 1.0, 1e6])
def test_the_step_of_a_row_is_bounded_by_the_rate(size: float) -> None:
    optimizer, (table,) = make_clipped(START)
    optimizer.apply_gradients([(sparse([2], [[size, -size]]), table)])
    np.testing.assert_allclose(table.numpy()[2] - START[2], [-0.1, 0.1], rtol=2e-3)


def test_unused_rows_and_their_moments_do_not_move() -> None:
    table = tf.Variable(START, name="words")
    optimizer = LazyAdamW(learning_rate=0.1, weight_decay=0.1, jit_compile=False)
    optimizer.exclude_from_weight_decay(var_names=["words"])
    optimizer.apply_gradients([(sparse([1, 2], [[1.0, -2.0], [0.5, 0.5]]), table)])
    before = state(optimizer, table)
    for tensor in before[1:]:
        assert np.all(tensor[1] != 0)

    for _ in range(3):
        optimizer.apply_gradients([(sparse([2, 0], [[1.0, 1.0], [-1.0, 3.0]]), table)])

    for old, new in zip(before, state(optimizer, table), strict=True):
        np.testing.assert_array_equal(old[[1, 3]], new[[1, 3]])
        assert np.all(old[[0, 2]] != new[[0, 2]])


def test_repeated_rows_of_one_gradient_are_summed() -> None:
    repeated, once = tf.Variable(START), tf.Variable(START)
    first, second = (LazyAdamW(learning_rate=0.1, weight_decay=0.0, jit_compile=False) for _ in range(2))

    @tf.function(autograph=False)
    def step() -> None:
        gradient = sparse([3, 1, 3, 3], [[1.0, 2.0], [4.0, -1.0], [0.5, 0.25], [-3.0, 1.0]])
        first.apply_gradients([(gradient, repeated)])

    first.build([repeated])
    for _ in range(2):
        step()
        second.apply_gradients([(sparse([1, 3], [[4.0, -1.0], [-1.5, 3.25]]), once)])
    for mine, reference in zip(state(first, repeated), state(second, once), strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-6)


def test_embedding_lookups_give_the_gradients_that_are_lazy() -> None:
    table = tf.Variable(START)
    optimizer = LazyAdamW(learning_rate=0.1, weight_decay=0.0, jit_compile=False)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.nn.embedding_lookup(table, [[1, 1], [2, 1]]))
    gradient = tape.gradient(loss, table)
    assert isinstance(gradient, tf.IndexedSlices)
    optimizer.apply_gradients([(gradient, table)])
    np.testing.assert_array_equal(table.numpy()[[0, 3]], START[[0, 3]])
    np.testing.assert_allclose(state(optimizer, table)[1][[1, 2], 0], [0.3, 0.1], rtol=1e-5)


@pytest.mark.parametrize(
    "clone",
    [
        lambda optimizer: LazyAdamW.from_config(optimizer.get_config()),
        lambda optimizer: tf_keras.optimizers.deserialize(tf_keras.optimizers.serialize(optimizer)),
    ],
    ids=["config", "serialized"],
)
def test_optimizer_survives_its_config(clone: Callable[[LazyAdamW], LazyAdamW]) -> None:
    schedule = WarmupLinearDecay(0.3, 4, 11)
    optimizer = LazyAdamW(
        learning_rate=schedule, weight_decay=0.02, beta_1=0.7, epsilon=1e-5, global_clipnorm=2.0, jit_compile=False
    )
    copy = clone(optimizer)
    assert type(copy) is LazyAdamW
    assert copy.get_config() == optimizer.get_config()
    assert type(copy._learning_rate) is WarmupLinearDecay
    assert copy._learning_rate.get_config() == {"peak": 0.3, "warmup_steps": 4, "total_steps": 11}


@pytest.mark.parametrize(
    ("warmup", "total", "expected"),
    [
        (4, 10, {0: 0.05, 1: 0.1, 3: 0.2, 4: 0.2, 5: 0.2 * 5 / 6, 9: 0.2 / 6, 10: 0.0, 1000: 0.0}),
        (0, 4, {0: 0.2, 1: 0.15, 3: 0.05, 4: 0.0}),
        (1, 3, {0: 0.2, 1: 0.2, 2: 0.1, 3: 0.0}),
        (0, 1, {0: 0.2, 1: 0.0}),
    ],
)
def test_schedule_rises_then_falls(warmup: int, total: int, expected: dict[int, float]) -> None:
    schedule = WarmupLinearDecay(0.2, warmup, total)
    rates = {step: float(schedule(tf.constant(step, tf.int64))) for step in expected}
    assert rates == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("rows", "batch_size", "epochs", "warmup", "total"), [(20, 8, 2, 3, 6), (16, 8, 3, 3, 6), (5, 8, 1, 0, 1)]
)
def test_optimizer_counts_batches_and_not_rows(
    rows: int, batch_size: int, epochs: int, warmup: int, total: int
) -> None:
    config = FitConfig(epochs=epochs, batch_size=batch_size, warmup_fraction=0.5, learning_rate=0.1)
    schedule = make_optimizer(config, rows, ())._learning_rate
    assert schedule.get_config() == {"peak": 0.1, "warmup_steps": warmup, "total_steps": total}
    assert float(schedule(total - 1)) == pytest.approx(0.1 / max(1, total - warmup))
    assert float(schedule(total)) == 0.0


def test_optimizer_takes_its_settings_from_the_config() -> None:
    settings = make_optimizer(FitConfig(weight_decay=0.03, clip_norm=0.7), 10, ()).get_config()
    assert (settings["weight_decay"], settings["global_clipnorm"]) == (0.03, 0.7)


def test_weight_decay_hits_kernels_only() -> None:
    architecture = TransformerConfig(width=4, heads=2, head_width=2, feed_forward=4, hidden=3, wide_buckets=5)
    model = build(architecture, vocab_size=6, max_tokens=4, classes=2)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    before = {variable.name: variable.numpy() for variable in model.trainable_variables}
    config = FitConfig(weight_decay=0.5, learning_rate=0.1, warmup_fraction=0, epochs=1, batch_size=1)
    optimizer = make_optimizer(config, 1, TABLES)

    optimizer.apply_gradients([(tf.zeros_like(variable), variable) for variable in model.trainable_variables])

    decayed = {v.name for v in model.trainable_variables if not np.array_equal(v, before[v.name])}
    kernels = {name for name in before if name.endswith("/kernel:0")}
    assert len(kernels) == 8
    assert {name.rpartition("/")[2] for name in before if name not in kernels} == {
        "words:0", "positions:0", "ngrams:0", "bias:0", "gamma:0", "beta:0"
    }  # fmt: skip
    assert decayed == kernels
    for variable in model.trainable_variables:
        if variable.name in kernels:
            np.testing.assert_allclose(variable, before[variable.name] * (1 - 0.1 * 0.5), rtol=1e-6)
