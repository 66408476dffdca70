"""A fit that was killed goes on where it stopped and ends as if nothing had happened."""

import functools
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tfx.components.trainer.fn_args_utils import FnArgs

from trainers import fit as fitting
from trainers.checkpoints import Checkpoints
from trainers.config import FitConfig
from trainers.fit import History, fit
from trainers.input import Encoded, Rows, Split
from trainers.layers import WideNgrams
from trainers.optimizer import LazyAdamW
from trainers.progress import Meter
from trainers.task import Task

pytestmark = pytest.mark.stack

VOCAB, CLASSES, TRAIN, BATCH = 10, 2, 20, 8
BATCHES = 3
SETTINGS = {"model": {"epochs": 3}, "classes": ["A", "B"], "code_digest": "1"}
CONFIG = FitConfig(epochs=3, batch_size=BATCH, learning_rate=0.05, warmup_fraction=0.2, seed=5)


class KilledError(Exception):
    """Stands for the end of the process."""


def make_split(kind: str, count: int, seed: int) -> Split:
    """Returns rows of one or two ids, encoded or not, of two classes that can almost be told apart."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    lengths = rng.integers(1, 3, count)
    ids = rng.integers(1, VOCAB - 3, lengths.sum()) + 3 * np.repeat(labels, lengths)
    rows = Rows(ids.astype(np.int32), np.cumsum([0, *lengths]), labels)
    if kind == "rows":
        return rows
    return Encoded(rng.normal(labels[:, np.newaxis], 0.7, (count, 3)).astype(np.float32), rows)


def make_model(kind: str, seed: int) -> tf_keras.Model:
    """Returns a small model over ids, or over vectors and ids; its weights depend on the seed."""
    tf_keras.utils.set_random_seed(seed)
    ids = tf_keras.Input((None,), dtype="int32")
    if kind == "encoded":
        vectors = tf_keras.Input((3,))
        states = tf_keras.layers.Dense(3, activation="tanh")(vectors)
        wide = WideNgrams(VOCAB, buckets=7, classes=CLASSES, gain=0.5)(ids)
        return tf_keras.Model([vectors, ids], tf_keras.layers.Dense(CLASSES)(states) + wide)
    states = tf_keras.layers.GlobalAveragePooling1D()(tf_keras.layers.Embedding(VOCAB, 3, name="words")(ids))
    states = tf_keras.layers.Dense(3, activation="tanh")(states)
    return tf_keras.Model(ids, tf_keras.layers.Dense(CLASSES)(states))


@dataclass(frozen=True)
class Outcome:
    """What a fit left behind."""

    history: History
    weights: list[np.ndarray]
    optimizer: LazyAdamW


def run(kind: str, checkpoints: Checkpoints | None = None, seed: int = 0, head_only: bool = False) -> Outcome:
    """Fits a new model, whose first weights depend on the seed."""
    model = make_model(kind, seed)
    train, held_out = make_split(kind, TRAIN, seed=1), make_split(kind, 12, seed=2)
    variables = model.layers[-1].trainable_variables if head_only else None
    make_optimizer, made = fitting.make_optimizer, []

    def keep(*arguments: Any) -> LazyAdamW:
        made.append(make_optimizer(*arguments))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "make_optimizer", keep)
        history = fit(model, CONFIG, train, held_out, ("words", "ngrams"), variables, checkpoints)
    return Outcome(history, model.get_weights(), made[0])


@functools.cache
def uninterrupted(kind: str) -> Outcome:
    """What a fit comes to that nobody kills; every test compares with the same one."""
    return run(kind)


def without_seconds(history: History) -> dict[str, Any]:
    """Returns everything in a history that does not depend on the machine."""
    return asdict(replace(history, epochs=[replace(epoch, seconds=0.0) for epoch in history.epochs]))


def check_equal(mine: Outcome, reference: Outcome) -> None:
    """Checks that two fits came to exactly the same."""
    assert without_seconds(mine.history) == without_seconds(reference.history)
    for one, other in zip(mine.weights, reference.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(mine.optimizer.variables, reference.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(str(tmp_path / "checkpoints"), "identity")


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets the next fit end after some batches; ``kill_after(-1)`` lets it run."""
    left = -1

    class MortalMeter(Meter):
        def add(self, rows: int, note: str = "") -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise KilledError
            super().add(rows, note)

    def kill(batches: int) -> None:
        nonlocal left
        left = batches

    monkeypatch.setattr(fitting, "Meter", MortalMeter)
    return kill


@pytest.mark.parametrize("kind", ["rows", "encoded"])
@pytest.mark.parametrize("batches", [BATCHES + 1, 2 * BATCHES + 2], ids=["in_epoch_2", "in_epoch_3"])
def test_a_killed_fit_ends_as_one_that_was_not(
    checkpoints: Checkpoints, kill_after: Callable[[int], None], kind: str, batches: int
) -> None:
    expected = uninterrupted(kind)
    kill_after(batches)
    with pytest.raises(KilledError):
        run(kind, checkpoints)
    kill_after(-1)
    resumed = run(kind, checkpoints, seed=9)
    check_equal(resumed, expected)
    assert [epoch.epoch for epoch in resumed.history.epochs] == [1, 2, 3]
    assert resumed.history.steps == int(resumed.optimizer.iterations) == 3 * BATCHES
    assert float(resumed.optimizer.learning_rate) == float(expected.optimizer.learning_rate) > 0


def test_a_fit_may_be_killed_in_every_epoch(checkpoints: Checkpoints, kill_after: Callable[[int], None]) -> None:
    expected = uninterrupted("rows")
    for seed in (0, 8):
        kill_after(BATCHES + 1)
        with pytest.raises(KilledError):
            run("rows", checkpoints, seed)
    kill_after(-1)
    check_equal(run("rows", checkpoints, seed=9), expected)


def test_only_what_was_not_done_is_done_again(
    checkpoints: Checkpoints, kill_after: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "newsdesk.trainer")
    kill_after(BATCHES + 2)
    with pytest.raises(KilledError):
        run("encoded", checkpoints)
    caplog.clear()
    kill_after(2 * BATCHES + 1)
    run("encoded", checkpoints)
    first, *others = caplog.messages
    assert first == "resumed after epoch 1"
    assert [message.partition(":")[0] for message in others] == ["epoch 2 of 3", "epoch 3 of 3"]


def test_best_weights_from_before_the_kill_are_kept(
    checkpoints: Checkpoints, kill_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [(0.3, 0.9), (0.8, 0.5), (0.7, 0.6)]
    weights: list[list[np.ndarray]] = []

    def scripted(model: tf_keras.Model, _: Split) -> tuple[float, float]:
        weights.append(model.get_weights())
        return results[(len(weights) - 1) % len(results)]

    monkeypatch.setattr(fitting, "evaluate", scripted)
    kill_after(2 * BATCHES + 1)
    with pytest.raises(KilledError):
        run("encoded", checkpoints)
    assert len(weights) == 2
    kill_after(-1)
    resumed = run("encoded", checkpoints, seed=9)
    assert resumed.history.best_epoch == 1
    assert [(epoch.eval_loss, epoch.eval_accuracy) for epoch in resumed.history.epochs] == results
    for mine, kept, last in zip(resumed.weights, weights[0], weights[2], strict=True):
        np.testing.assert_array_equal(mine, kept)
        assert not np.array_equal(mine, last)
    run("encoded")
    for after_kill, never_killed in zip(weights[2], weights[5], strict=True):
        np.testing.assert_array_equal(after_kill, never_killed)


def test_a_fit_killed_after_its_last_epoch_has_nothing_to_do(checkpoints: Checkpoints) -> None:
    done = run("rows", checkpoints)
    again = run("rows", checkpoints, seed=9)
    check_equal(again, done)
    assert again.history == done.history


def test_a_fit_of_some_variables_is_resumed_too(checkpoints: Checkpoints, kill_after: Callable[[int], None]) -> None:
    expected = run("rows", head_only=True)
    kill_after(BATCHES + 1)
    with pytest.raises(KilledError):
        run("rows", checkpoints, head_only=True)
    kill_after(-1)
    check_equal(run("rows", checkpoints, seed=9, head_only=True), expected)


def test_a_damaged_checkpoint_stops_the_fit(
    checkpoints: Checkpoints, kill_after: Callable[[int], None], tmp_path: Path
) -> None:
    kill_after(BATCHES + 1)
    with pytest.raises(KilledError):
        run("encoded", checkpoints)
    (file,) = (tmp_path / "checkpoints").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is damaged"):
        run("encoded", checkpoints)


@pytest.fixture
def open_task(tmp_path: Path) -> Callable[..., Task]:
    """Opens the task of one execution: ``open_task(execution, examples=1, **settings)``."""
    example = tf.train.Example()
    example.features.feature["token_ids"].int64_list.value.extend([2, 3])
    example.features.feature["label"].int64_list.value.append(1)

    def open_task(execution: int, examples: int = 1, **changes: Any) -> Task:
        patterns = []
        for split in ("eval", "train"):
            path = tmp_path / "Transform" / "transformed_examples" / str(examples) / f"Split-{split}" / "part.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
                writer.write(example.SerializeToString())
            patterns.append(str(path.parent / "*"))
        return Task.open(
            FnArgs(
                train_files=patterns,
                eval_files=patterns,
                model_run_dir=str(tmp_path / "Trainer" / "model_run" / str(execution)),
                custom_config=SETTINGS | changes,
            )
        )

    return open_task


def test_a_later_execution_of_the_node_finds_the_checkpoint(open_task: Callable[..., Task], tmp_path: Path) -> None:
    open_task(4).checkpoints.write({"model": [np.ones(1)]}, {"epochs": []})
    assert open_task(5).checkpoints.read() is not None
    assert [path.parts[-3] for path in tmp_path.rglob("*.checkpoint")] == ["Trainer"]


@pytest.mark.parametrize(
    "changes", [{"examples": 2}, {"model": {"epochs": 4}}, {"classes": ["A", "C"]}, {"code_digest": "2"}]
)
def test_other_input_other_settings_and_other_code_start_anew(
    open_task: Callable[..., Task], changes: dict[str, Any]
) -> None:
    open_task(4).checkpoints.write({"model": [np.ones(1)]}, {"epochs": []})
    assert open_task(5, **changes).checkpoints.read() is None
    assert open_task(5).checkpoints.read() is not None
