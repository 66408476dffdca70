"""Fitting: it learns, repeats itself, keeps the best epoch and stops when it diverges."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras

from trainers import fit as fitting
from trainers import progress
from trainers.config import FitConfig
from trainers.fit import History, TrainingDivergedError, evaluate, fit
from trainers.input import Encoded, Rows
from trainers.layers import Dropout, Experts
from trainers.optimizer import LazyAdamW
from trainers.progress import Meter
from trainers.transformer.config import TransformerConfig
from trainers.transformer.model import TABLES, build

VOCAB, MAX_TOKENS, CLASSES = 12, 6, 2


def make_rows(count: int, seed: int, noise: float = 0.0) -> Rows:
    """Returns rows of two classes that share no word; a share ``noise`` of the labels is wrong."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, MAX_TOKENS, count)
    classes = np.arange(count) % CLASSES
    ids = [
        rng.integers(2 + 5 * row_class, 7 + 5 * row_class, size)
        for row_class, size in zip(classes, lengths, strict=True)
    ]
    labels = np.where(rng.uniform(size=count) < noise, 1 - classes, classes)
    return Rows(np.concatenate(ids).astype(np.int32), np.cumsum([0, *lengths]), labels.astype(np.int32))


def make_config(**changes: Any) -> FitConfig:
    """Returns settings for a few quick steps."""
    return FitConfig(**({"epochs": 2, "batch_size": 8, "learning_rate": 0.05, "weight_decay": 0.0} | changes))


def make_model(dropout: float = 0.0, seed: int = 0) -> tf_keras.Model:
    """Returns a mean of embeddings behind a softmax, the smallest model from ids to logits."""
    tf_keras.utils.set_random_seed(seed)
    ids = tf_keras.Input((None,), dtype="int32")
    states = tf_keras.layers.Embedding(VOCAB, 3, name="words")(ids)
    pooled = tf_keras.layers.Dropout(dropout)(tf_keras.layers.GlobalAveragePooling1D()(states))
    return tf_keras.Model(ids, tf_keras.layers.Dense(CLASSES)(pooled))


def make_transformer(**changes: Any) -> tuple[tf_keras.Model, TransformerConfig]:
    """Returns a tiny transformer and its settings."""
    settings = {"width": 4, "heads": 1, "head_width": 4, "feed_forward": 4, "wide_buckets": 16, "word_dropout": 0.2}
    config = TransformerConfig(**(settings | {"epochs": 3, "batch_size": 8, "learning_rate": 0.05} | changes))
    tf_keras.utils.set_random_seed(config.seed)
    return build(config, VOCAB, MAX_TOKENS, CLASSES), config


def losses(history: History) -> list[float]:
    """Returns all losses of a history."""
    return [loss for epoch in history.epochs for loss in (epoch.loss, epoch.eval_loss)]


def script_evaluations(monkeypatch: pytest.MonkeyPatch, results: list[tuple[float, float]]) -> list[list[np.ndarray]]:
    """Replaces ``evaluate`` by given losses and accuracies; returns the list that collects each epoch's weights."""
    weights: list[list[np.ndarray]] = []

    def scripted(model: tf_keras.Model, rows: Rows) -> tuple[float, float]:
        weights.append(model.get_weights())
        return results[len(weights) - 1]

    monkeypatch.setattr(fitting, "evaluate", scripted)
    return weights


def cross_entropy(model: tf_keras.Model, rows: Rows, smoothing: float = 0.0) -> tuple[float, float]:
    """Returns mean loss and accuracy, reckoned with numpy one unpadded row at a time."""
    row_losses, right = [], []
    for start, end, label in zip(rows.starts, rows.starts[1:], rows.labels, strict=False):
        logits = model(rows.ids[np.newaxis, start:end]).numpy()[0].astype(np.float64)
        log_probabilities = logits - np.log(np.exp(logits).sum())
        target = np.full(CLASSES, smoothing / CLASSES)
        target[label] += 1.0 - smoothing
        row_losses.append(-(target * log_probabilities).sum())
        right.append(logits.argmax() == label)
    return float(np.mean(row_losses)), float(np.mean(right))


def test_transformer_learns_separable_rows() -> None:
    model, config = make_transformer()
    held_out = make_rows(40, seed=2)
    history = fit(model, config, make_rows(96, seed=1), held_out, TABLES)
    assert history.epochs[-1].eval_accuracy == 1.0
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert evaluate(model, held_out)[1] == 1.0
    assert history.parameters == model.count_params()


def test_same_seed_same_losses() -> None:
    def run() -> list[float]:
        return losses(fit(make_model(dropout=0.3), make_config(seed=5), make_rows(40, seed=1), make_rows(16, seed=2)))

    assert run() == run()


def test_seed_and_step_decide_what_is_dropped() -> None:
    model, rows = make_model(), make_rows(16, seed=1)
    ids, labels = next(rows.batches(16))
    dropped = tf_keras.Model(model.inputs, Dropout(0.5)(model.outputs[0]))

    def first_losses(seed: int) -> list[float]:
        config = make_config(seed=seed, learning_rate=1e-9)
        variables = model.trainable_variables
        optimizer = fitting.make_optimizer(config, len(rows), ())
        optimizer.build(variables)
        step = fitting.make_train_step(dropped, optimizer, variables, Rows.spec, config)
        return [float(step(ids, labels)[0]) for _ in range(3)]

    found = first_losses(1)
    assert len(set(found)) == 3
    np.testing.assert_allclose(first_losses(1), found, rtol=1e-5)
    assert not set(first_losses(2)) & set(found)


def test_config_seed_sets_the_order_of_batches() -> None:
    def run(seed: int) -> list[float]:
        return losses(fit(make_model(), make_config(seed=seed), make_rows(40, seed=1), make_rows(16, seed=2)))

    assert run(5) != run(6)


@pytest.mark.parametrize(
    ("results", "best"),
    [
        ([(0.6, 0.5), (0.4, 0.9), (0.5, 0.7)], 2),
        ([(0.2, 0.9), (0.9, 0.8), (1.0, 0.1)], 1),
        ([(0.6, 0.5), (0.5, 0.6), (0.9, 0.7)], 3),
        ([(0.6, 0.9), (0.4, 0.9), (0.5, 0.9)], 2),
        ([(0.6, 0.9), (0.6, 0.9), (0.6, 0.9)], 1),
    ],
    ids=["middle", "first", "last", "loss_decides", "earliest"],
)
def test_best_epoch_gives_the_weights(
    monkeypatch: pytest.MonkeyPatch, results: list[tuple[float, float]], best: int
) -> None:
    weights = script_evaluations(monkeypatch, results)
    model = make_model()
    history = fit(model, make_config(epochs=3), make_rows(24, seed=1), make_rows(8, seed=2))
    assert history.best_epoch == best
    assert [(epoch.eval_loss, epoch.eval_accuracy) for epoch in history.epochs] == results
    for mine, kept, other in zip(model.get_weights(), weights[best - 1], weights[best % 3], strict=True):
        np.testing.assert_array_equal(mine, kept)
        assert not np.array_equal(mine, other)


def test_epochs_that_make_it_worse_are_dropped() -> None:
    model = make_model()
    rows = make_rows(60, seed=2)
    held_out = Rows(rows.ids, rows.starts, 1 - rows.labels)
    history = fit(model, make_config(epochs=4), make_rows(60, seed=1), held_out)
    best, last = history.epochs[history.best_epoch - 1], history.epochs[-1]
    assert best.eval_loss < last.eval_loss
    assert evaluate(model, held_out) == pytest.approx((best.eval_loss, best.eval_accuracy))


@pytest.mark.parametrize("eval_batch", [4, 512])
def test_evaluate_is_the_mean_over_rows(monkeypatch: pytest.MonkeyPatch, eval_batch: int) -> None:
    monkeypatch.setattr(fitting, "_EVAL_BATCH", eval_batch)
    ids = tf_keras.Input((None,), dtype="int32")
    table = tf_keras.layers.Embedding(VOCAB, CLASSES, embeddings_initializer="normal")
    model = tf_keras.Model(ids, 30.0 * tf_keras.layers.Lambda(lambda states: states[:, 0])(table(ids)))
    rows = make_rows(9, seed=4, noise=0.3)
    assert evaluate(model, rows) == pytest.approx(cross_entropy(model, rows), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_label_smoothing_enters_the_training_loss_only(smoothing: float) -> None:
    rows = make_rows(9, seed=4)
    rows = Rows(rows.ids[:9], np.arange(10), rows.labels)
    model = make_model()
    model.set_weights([10.0 * weight for weight in model.get_weights()])
    smoothed, accuracy = cross_entropy(model, rows, smoothing)
    plain, _ = cross_entropy(model, rows)
    config = make_config(epochs=1, learning_rate=1e-12, label_smoothing=smoothing, batch_size=4)
    (epoch,) = fit(model, config, rows, rows).epochs
    assert (epoch.loss, epoch.accuracy) == pytest.approx((smoothed, accuracy), rel=1e-4)
    assert epoch.eval_loss == pytest.approx(plain, rel=1e-4)
    assert (smoothed != pytest.approx(plain, rel=1e-2)) == (smoothing > 0)


@pytest.fixture
def optimizers(monkeypatch: pytest.MonkeyPatch) -> list[LazyAdamW]:
    """Collects the optimizers of all fits."""
    made: list[LazyAdamW] = []
    make_optimizer = fitting.make_optimizer

    def keep(*arguments: Any) -> LazyAdamW:
        made.append(make_optimizer(*arguments))
        return made[-1]

    monkeypatch.setattr(fitting, "make_optimizer", keep)
    return made


def test_rate_rises_and_falls_by_batches(optimizers: list[LazyAdamW], monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Watch(Meter):
        def add(self, rows: int, note: str = "") -> None:
            rates.append(float(optimizers[0].learning_rate))

    monkeypatch.setattr(fitting, "Meter", Watch)
    config = make_config(epochs=2, batch_size=8, learning_rate=0.04, warmup_fraction=0.34)
    history = fit(make_model(), config, make_rows(20, seed=1), make_rows(8, seed=2))
    assert history.steps == 6
    assert int(optimizers[0].iterations) == 6
    assert rates == pytest.approx([0.02, 0.04, 0.04, 0.03, 0.02, 0.01])


def test_only_the_given_variables_are_trained(optimizers: list[LazyAdamW]) -> None:
    model = make_model()
    table, *head = model.trainable_variables
    before = model.get_weights()
    history = fit(model, make_config(), make_rows(20, seed=1), make_rows(8, seed=2), variables=head)
    np.testing.assert_array_equal(table, before[0])
    for variable, old in zip(head, before[1:], strict=True):
        assert not np.array_equal(variable, old)
    assert len(optimizers[0].variables) == 1 + 2 * len(head)
    assert history.parameters == VOCAB * 3 + 3 * CLASSES + CLASSES


def test_given_variables_learn_what_they_learn_where_the_others_are_frozen() -> None:
    chosen, frozen = make_model(), make_model()
    frozen.layers[1].trainable = False
    rows, held_out = make_rows(20, seed=1), make_rows(8, seed=2)
    history = fit(chosen, make_config(), rows, held_out, variables=chosen.trainable_variables[1:])
    assert losses(history) == losses(fit(frozen, make_config(), rows, held_out))


@pytest.mark.parametrize("told_by", ["vectors", "ids", "nothing"])
def test_encoded_rows_are_learned_like_rows(told_by: str) -> None:
    """By a head that reads vectors and ids, of which one tells the classes apart, or none."""
    rows = make_rows(40, seed=1)
    values = 3.0 * rows.labels[:, np.newaxis] if told_by == "vectors" else np.zeros((40, 1))
    vectors = np.random.default_rng(0).normal(values, 0.1, (40, 3)).astype(np.float32)
    if told_by != "ids":
        rows = Rows(np.full_like(rows.ids, 2), rows.starts, rows.labels)
    split = Encoded(vectors, rows)
    tf_keras.utils.set_random_seed(0)
    pooled, ids = tf_keras.Input((3,)), tf_keras.Input((None,), dtype="int32")
    words = tf_keras.layers.GlobalAveragePooling1D()(tf_keras.layers.Embedding(VOCAB, 3)(ids))
    head = tf_keras.Model([pooled, ids], tf_keras.layers.Dense(CLASSES)(tf_keras.layers.Concatenate()([pooled, words])))
    history = fit(head, make_config(epochs=5, learning_rate=0.2), split, split)
    assert (history.epochs[-1].eval_accuracy == 1.0) == (told_by != "nothing")
    best = history.epochs[history.best_epoch - 1]
    assert evaluate(head, split) == pytest.approx((best.eval_loss, best.eval_accuracy))


def make_experts(chosen: list[int]) -> tf_keras.Model:
    """Returns some of two experts, each a table of logits by word; each starts from the same weights every time."""
    ids = tf_keras.Input((None,), dtype="int32")
    logits = []
    for number in chosen:
        start = tf_keras.initializers.RandomNormal(stddev=1 + number, seed=number)
        table = tf_keras.layers.Embedding(VOCAB, CLASSES, embeddings_initializer=start, name=f"expert_{number}")
        logits.append(tf_keras.layers.GlobalAveragePooling1D()(table(ids)))
    return tf_keras.Model(ids, Experts()(logits) if len(logits) > 1 else logits[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_experts_learn_as_if_each_were_alone(smoothing: float) -> None:
    """The loss of an epoch is the mean of theirs; its accuracy, and all of eval, is that of their mean logits."""
    rows, held_out = make_rows(24, seed=1, noise=0.2), make_rows(16, seed=2)
    config = make_config(epochs=1, label_smoothing=smoothing)
    together, *alone = (make_experts(chosen) for chosen in ([0, 1], [0], [1]))
    history, *histories = (fit(model, config, rows, held_out) for model in (together, *alone))
    assert [variable.name for variable in together.weights] == [m.weights[0].name for m in alone]
    for mine, model in zip(together.get_weights(), alone, strict=True):
        np.testing.assert_allclose(mine, model.get_weights()[0], rtol=1e-5, atol=1e-6)
        assert not np.array_equal(mine, alone[0].get_weights()[0]) or model is alone[0]
    assert history.epochs[0].loss == pytest.approx(np.mean([one.epochs[0].loss for one in histories]), rel=1e-5)
    mean_logits = (alone[0](rows.ids[np.newaxis]) + alone[1](rows.ids[np.newaxis])) / 2
    np.testing.assert_allclose(together(rows.ids[np.newaxis]), mean_logits, rtol=1e-5)
    assert evaluate(together, held_out) == pytest.approx((history.epochs[0].eval_loss, history.epochs[0].eval_accuracy))


def test_training_accuracy_of_experts_is_that_of_their_mean() -> None:
    """Of two experts, the surer one is right and the other wrong."""
    inputs = tf_keras.Input((None,), dtype="int32")
    one_hot = tf_keras.layers.Embedding(VOCAB, CLASSES, embeddings_initializer="zeros")
    table = one_hot(inputs)[:, 0]
    model = tf_keras.Model(inputs, Experts()([3.0 * table, -table]))
    one_hot.set_weights([np.where(np.arange(VOCAB)[:, np.newaxis] < 7, [1.0, 0.0], [0.0, 1.0])])
    (epoch,) = fit(model, make_config(epochs=1, learning_rate=1e-9), make_rows(24, seed=1), make_rows(8, seed=2)).epochs
    assert epoch.accuracy == epoch.eval_accuracy == 1.0
    assert epoch.loss > epoch.eval_loss


def test_progress_passes_and_results_of_epochs_stay(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    caplog.set_level(logging.INFO, "newsdesk.trainer")
    history = fit(make_model(), make_config(), make_rows(56, seed=1), make_rows(8, seed=2))
    passing = [record.getMessage() for record in caplog.records if getattr(record, "passing", False)]
    staying = [record.getMessage() for record in caplog.records if not getattr(record, "passing", False)]
    assert [message.partition(", ")[0] for message in passing] == [
        f"epoch {epoch} of 2: {share}" for epoch in (1, 2) for share in ("86%", "100%")
    ]
    assert f", loss {history.epochs[1].loss:.3f}, " in passing[-1]
    assert [message.partition(",")[0] for message in staying] == [
        f"epoch {epoch.epoch} of 2: loss {epoch.loss:.4f}" for epoch in history.epochs
    ]


def test_time_left_is_that_of_all_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    meters: list[list[Any]] = []

    class Watch(Meter):
        def __init__(self, *arguments: Any):
            super().__init__(*arguments)
            meters.append([*arguments, 0])

        def add(self, rows: int, note: str = "") -> None:
            meters[-1][-1] += rows

    monkeypatch.setattr(fitting, "Meter", Watch)
    fit(make_model(), make_config(epochs=3), make_rows(20, seed=1), make_rows(8, seed=2))
    assert meters == [["epoch 1 of 3", 20, 40, 20], ["epoch 2 of 3", 20, 20, 20], ["epoch 3 of 3", 20, 0, 20]]


def test_history_is_saved_as_json(tmp_path: Path) -> None:
    history = fit(make_model(), make_config(), make_rows(20, seed=1), make_rows(8, seed=2))
    history.save(tmp_path / "history.json")
    saved = json.loads((tmp_path / "history.json").read_text(encoding="utf-8"))
    assert saved == asdict(history)
    assert sorted(saved) == ["best_epoch", "epochs", "parameters", "steps"]
    assert sorted(saved["epochs"][0]) == ["accuracy", "epoch", "eval_accuracy", "eval_loss", "loss", "seconds"]
    assert [epoch["epoch"] for epoch in saved["epochs"]] == [1, 2]
    assert (saved["parameters"], saved["steps"]) == (VOCAB * 3 + 3 * CLASSES + CLASSES, 6)


def test_a_rate_far_too_high_stops_the_fit_and_is_named() -> None:
    model, config = make_transformer(learning_rate=1e6)
    with pytest.raises(TrainingDivergedError, match=r"diverged.*learning_rate \(now 1e\+06\)"):
        fit(model, config, make_rows(96, seed=1), make_rows(16, seed=2), TABLES)


def test_weights_that_are_nan_stop_the_first_batch() -> None:
    model = make_model()
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    with pytest.raises(TrainingDivergedError, match=r"the loss is nan after batch 1 .*learning_rate"):
        fit(model, make_config(), make_rows(20, seed=1), make_rows(8, seed=2))


def test_a_last_batch_that_diverges_stops_the_fit() -> None:
    config = make_config(learning_rate=1e30, epochs=1, batch_size=40, warmup_fraction=0)
    with pytest.raises(TrainingDivergedError, match="learning_rate"):
        fit(make_model(), config, make_rows(40, seed=1), make_rows(16, seed=2))
