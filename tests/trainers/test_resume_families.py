"""A training with dropout that was killed ends with the weights of one that was not, in every family."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework.config import disable_op_determinism
from tiny_bert import ARCHITECTURE, write_saved_encoder

from trainers import fit as fitting
from trainers.bert.config import BertConfig
from trainers.bert.model import TABLES as BERT_TABLES
from trainers.bert.model import build as build_bert
from trainers.bert.model import encode, trained_variables
from trainers.checkpoints import Checkpoints
from trainers.config import FitConfig
from trainers.fit import fit, make_optimizer, make_train_step
from trainers.input import Rows, Split
from trainers.progress import Meter
from trainers.transformer.config import TransformerConfig
from trainers.transformer.model import TABLES as TRANSFORMER_TABLES
from trainers.transformer.model import build as build_transformer

pytestmark = pytest.mark.stack

VOCAB, CLASSES, LONGEST = ARCHITECTURE["vocab_size"], 2, 6
FIT: dict[str, Any] = {"epochs": 2, "batch_size": 8, "learning_rate": 0.02, "seed": 5, "dropout": 0.3}
BATCHES = 3
FAMILIES = ["transformer", "bert", "bert_head"]


class KilledError(Exception):
    """Stands for the end of the process."""


@dataclass(frozen=True)
class Training:
    """What a family hands to ``fit``."""

    model: tf_keras.Model
    config: FitConfig
    train: Split
    held_out: Split
    tables: tuple[str, ...]
    variables: list[tf.Variable]


@pytest.fixture(autouse=True, scope="module")
def _deterministic_ops() -> Iterator[None]:
    tf.config.experimental.enable_op_determinism()
    yield
    disable_op_determinism()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("model") / "saved"
    rates = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
    return str(write_saved_encoder(directory, num_hidden_layers=1, **rates))


def make_rows(count: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, LONGEST, count)
    ids = rng.integers(1, VOCAB, lengths.sum())
    return Rows(ids.astype(np.int32), np.cumsum([0, *lengths]), rng.integers(0, CLASSES, count).astype(np.int32))


def begin(family: str, encoder: str, seed: int) -> Training:
    """Returns a new training of a family, every dropout on; first weights and TensorFlow's state are of the seed."""
    tf_keras.utils.set_random_seed(seed)
    train, held_out = make_rows(BATCHES * FIT["batch_size"], seed=1), make_rows(12, seed=2)
    if family == "transformer":
        sizes = {"width": 4, "heads": 1, "head_width": 4, "feed_forward": 4, "hidden": 4, "wide_buckets": 16}
        words = TransformerConfig(**FIT, **sizes, word_dropout=0.2, wide_dropout=0.2)
        model = build_transformer(words, VOCAB, LONGEST, CLASSES)
        return Training(model, words, train, held_out, TRANSFORMER_TABLES, model.trainable_variables)
    way = "frozen" if family == "bert_head" else "full"
    pieces = BertConfig(**FIT, train=way, encoder_dropout=True, hidden=4, wide_buckets=16, head_epochs=FIT["epochs"])
    bert = build_bert(pieces, encoder, VOCAB, CLASSES)
    if family == "bert":
        return Training(bert.whole, pieces, train, held_out, BERT_TABLES, trained_variables(pieces, bert.whole))
    encoded = [encode(bert.encoder, rows, "rows") for rows in (train, held_out)]
    config = FitConfig.model_validate(pieces.head_fit().model_dump() | {"batch_size": FIT["batch_size"]})
    return Training(bert.head, config, *encoded, BERT_TABLES, bert.head.trainable_variables)


def run(training: Training, checkpoints: Checkpoints | None = None) -> list[np.ndarray]:
    """Fits and returns the weights."""
    fit(*vars(training).values(), checkpoints)
    return training.model.get_weights()


class KilledBetweenEpochs(Checkpoints):
    """Ends the process after the first epoch, before the second begins."""

    def write(self, *arguments: Any) -> None:
        super().write(*arguments)
        raise KilledError


class KilledInTheMidst(Meter):
    """Ends the process after the second step of an epoch."""

    steps = 0

    def add(self, rows: int, note: str = "") -> None:
        self.steps += 1
        if self.steps == BATCHES - 1:
            raise KilledError


@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_killed_twice_ends_with_the_weights_of_one_that_was_not(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    expected = run(begin(family, encoder, seed=0))
    with pytest.raises(KilledError):
        run(begin(family, encoder, seed=0), KilledBetweenEpochs(str(tmp_path)))
    # Every process has a state of its own, on which the weights must not depend.
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "Meter", KilledInTheMidst)
        with pytest.raises(KilledError):
            run(begin(family, encoder, seed=8), Checkpoints(str(tmp_path)))
    resumed = run(begin(family, encoder, seed=9), Checkpoints(str(tmp_path)))
    for mine, other in zip(resumed, expected, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_operation_of_a_step_has_a_random_state(encoder: str, family: str) -> None:
    training = begin(family, encoder, seed=0)
    optimizer = make_optimizer(training.config, len(training.train), training.tables)
    optimizer.build(training.variables)
    step = make_train_step(training.model, optimizer, training.variables, training.train.spec, training.config)
    graph = step.get_concrete_function().graph.as_graph_def()
    names = {node.op for part in (graph.node, *(it.node_def for it in graph.library.function)) for node in part}
    random = {name for name in names if "Random" in name or "Multinomial" in name}
    assert random
    assert {name for name in random if not name.startswith("Stateless")} == set()
