"""Warm start: the weights of an export come over, all of them or none, for both families."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tiny_bert import VOCABULARY, make_learned_tensors, write_saved_encoder

from components.errors import BadInputError
from trainers.bert.config import BertConfig
from trainers.bert.model import build as build_bert
from trainers.transformer.config import TransformerConfig
from trainers.transformer.model import build
from trainers.warm_start import load_weights, read_weights, warm_start

pytestmark = pytest.mark.stack

DIGEST = hashlib.sha256(b"words").hexdigest()
SMALL = {"width": 8, "heads": 2, "head_width": 4, "feed_forward": 8, "transformers": 2, "wide_buckets": 50}


def make_transformer(seed: int, vocab_size: int = 20, **more: Any) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(seed)
    return build(TransformerConfig.model_validate(SMALL | more), vocab_size, 12, 4)


def make_bert(seed: int, encoder: Path) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(seed)
    return build_bert(BertConfig(train="full", wide_buckets=50), str(encoder), len(VOCABULARY), 4).whole


def save(model: tf_keras.Model, directory: Path) -> Path:
    """Writes a model where the export has it: as an attribute of what is saved."""
    holder = tf.Module()
    holder.model = model
    tf.saved_model.save(holder, str(directory))
    return directory


def shuffle(model: tf_keras.Model, seed: int) -> None:
    """Gives a model weights that no other has."""
    chance = np.random.default_rng(seed)
    model.set_weights([chance.normal(size=value.shape).astype(value.dtype) for value in model.get_weights()])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_saved_encoder(tmp_path_factory.mktemp("encoder") / "saved", tensors=make_learned_tensors())


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> tuple[tf_keras.Model, Path]:
    """A transformer and its export, which nothing may change."""
    model = make_transformer(1)
    shuffle(model, 7)
    return model, save(model, tmp_path_factory.mktemp("champion") / "saved")


def answers(model: tf_keras.Model) -> np.ndarray:
    return model(tf.constant([[2, 5, 6, 3], [2, 7, 3, 0]], tf.int32), training=False).numpy()


def assert_comes_over(champion: tf_keras.Model, exported: Path, fresh: tf_keras.Model) -> None:
    assert not np.allclose(answers(fresh), answers(champion), atol=1e-3)
    warm_start(fresh, {"model": str(exported), "vocabulary_digest": DIGEST}, DIGEST)
    for ours, theirs in zip(fresh.get_weights(), champion.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(answers(fresh), answers(champion), rtol=1e-5, atol=1e-6)


def test_the_weights_of_a_transformer_come_over(champion: tuple[tf_keras.Model, Path]) -> None:
    assert_comes_over(*champion, make_transformer(2))


def test_the_weights_of_a_bert_come_over(tmp_path: Path, encoder: Path) -> None:
    model = make_bert(1, encoder)
    shuffle(model, 7)
    assert_comes_over(model, save(model, tmp_path / "champion"), make_bert(2, encoder))


def test_without_a_warm_start_nothing_is_touched() -> None:
    model = make_transformer(1)
    before = model.get_weights()
    warm_start(model, None, DIGEST)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(model.get_weights(), before, strict=True))


def test_another_vocabulary_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="its weights mean other words"):
        warm_start(make_transformer(1), {"model": str(tmp_path / "none"), "vocabulary_digest": "other"}, DIGEST)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vocab_size": 21}, r"weight embedding/words of .* has the shape \[20, 8\], not \[21, 8\]"),
        ({"blocks": 2}, "has no weight block_1/"),
        ({"hidden": 3}, "has no weight hidden/kernel"),
    ],
)
def test_another_architecture_is_refused_and_the_model_is_as_it_was(
    champion: tuple[tf_keras.Model, Path], change: dict[str, Any], sentence: str
) -> None:
    _, exported = champion
    other = make_transformer(2, **change)
    before = other.get_weights()
    with pytest.raises(BadInputError, match=sentence):
        load_weights(other, read_weights(exported), exported)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(other.get_weights(), before, strict=True))


@pytest.mark.parametrize("damage", ["missing", "cut index", "cut data"])
def test_damaged_weights_are_told_in_one_sentence(
    champion: tuple[tf_keras.Model, Path], tmp_path: Path, damage: str
) -> None:
    exported = Path(shutil.copytree(champion[1], tmp_path / "champion"))
    index, data = exported / "variables/variables.index", exported / "variables/variables.data-00000-of-00001"
    if damage == "missing":
        index.unlink()
    else:
        path = index if damage == "cut index" else data
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInputError, match="the weights of") as error:
        read_weights(exported)
    assert "\n" not in str(error.value)
