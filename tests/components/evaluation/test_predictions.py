"""Answers of tiny SavedModels on tiny Examples artifacts, and the files that keep them."""

import errno
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components import features
from components.errors import BadInputError
from components.evaluation import predictions
from components.evaluation.predictions import (
    BATCH,
    Predictions,
    cache_key,
    examples_digest,
    load,
    save,
    score,
    score_cached,
)
from components.push.model_files import read_classes

CLASSES = ("World", "Sports")
SIGNATURES = ("serving_default", "serve_examples")
Rows = list[tuple[bytes, int]]
# Of every length, none in its place by length, the last with a zero byte that numpy's own strings would drop.
ROWS: Rows = [(b"x" * (number * 37 % 101) + b" goal" * (number % 3 == 0), number % 2) for number in range(299)] + [
    ("Zürich \0".encode(), 1)
]


class Counting(tf.Module):
    """Share of Sports: bytes of the text / 1,000; the signature that is not evaluated says the opposite."""

    def __init__(self, sports: int = 1):
        super().__init__()
        self.sports = tf.Variable(sports, dtype=tf.int64)

    def answer(self, share: tf.Tensor) -> dict[str, tf.Tensor]:
        label_id = tf.where(share > 0.05, self.sports, 1 - self.sports)
        return {
            features.OUTPUT_LABEL: tf.gather(tf.constant(CLASSES), label_id),
            features.OUTPUT_LABEL_ID: label_id,
            features.OUTPUT_PROBABILITIES: tf.stack([1 - share, share], axis=1),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")], autograph=False)
    def texts(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.answer(1 - tf.cast(tf.strings.length(text), tf.float32) / 1000)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")], autograph=False)
    def examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        text = tf.io.parse_example(examples, {"text": tf.io.FixedLenFeature([], tf.string)})["text"]
        return self.answer(tf.cast(tf.strings.length(text), tf.float32) / 1000)


def write_examples(directory: Path, rows: Rows, split: str = "test") -> str:
    """Writes an Examples artifact with one split and returns its URI."""
    place = directory / f"Split-{split}"
    place.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(place / "data_tfrecord-00000-of-00001")) as writer:
        for text, label in rows:
            example = tf.train.Example()
            example.features.feature["text"].bytes_list.value.append(text)
            example.features.feature["label"].int64_list.value.append(label)
            writer.write(example.SerializeToString())
    return str(directory)


def write_model(directory: Path, sports: int = 1, signatures: tuple[str, ...] = SIGNATURES) -> Path:
    """Writes a SavedModel with the named signatures and ``classes.txt``."""
    model = Counting(sports)
    both = dict(zip(SIGNATURES, (model.texts, model.examples), strict=True))
    tf.saved_model.save(model, str(directory), {name: both[name] for name in signatures})
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return directory


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_examples(tmp_path_factory.mktemp("examples"), ROWS)


@pytest.fixture
def copied(model: Path, tmp_path: Path) -> Path:
    """The model in a directory that a test may change."""
    return Path(shutil.copytree(model, tmp_path / "copied"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Records which models are asked."""
    asked: list[Path] = []

    def count(model_dir: Path, examples_uri: str, split: str) -> Predictions:
        asked.append(model_dir)
        return score(model_dir, examples_uri, split)

    monkeypatch.setattr(predictions, "score", count)
    return asked


def assert_same(found: Predictions, expected: Predictions) -> None:
    assert found.texts == expected.texts
    for name in ("labels", "label_ids", "probabilities"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype
        assert (ours == theirs).all()


def test_every_row_has_its_own_answer_in_the_order_of_the_examples(model: Path, examples: str) -> None:
    found = score(model, examples, "test")
    shares = np.array([len(text) for text, _ in ROWS], np.float32) / np.float32(1000)
    assert [(text, int(label)) for text, label in zip(found.texts, found.labels, strict=True)] == ROWS
    assert found.probabilities == pytest.approx(np.stack([1 - shares, shares], axis=1))
    assert (found.label_ids == (shares > 0.05)).all()
    assert (found.labels.dtype, found.label_ids.dtype, found.probabilities.dtype) == (np.int64, np.int64, np.float32)
    assert found.rows_per_second is not None
    assert found.rows_per_second > 0


def test_a_batch_holds_texts_of_similar_length(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path) -> None:
    batches: list[list[int]] = []

    def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, {"text": tf.io.FixedLenFeature([], tf.string)})["text"]
        batches.append(tf.strings.length(parsed).numpy().tolist())
        ids = tf.zeros(len(parsed), tf.int64)
        return {"label_id": ids, "probabilities": tf.ones([len(parsed), 2])}

    monkeypatch.setattr(predictions, "_load_model", lambda _: SimpleNamespace(signatures={"serve_examples": serve}))
    rows = [(b"x" * (number * 331 % 1000), 0) for number in range(2 * BATCH + 10)]
    score(model, write_examples(tmp_path / "examples", rows), "test")
    _, *timed = batches
    assert [len(batch) for batch in timed] == [BATCH, BATCH, 10]
    assert sum(timed, []) == sorted(len(text) for text, _ in rows)  # noqa: RUF017


def test_a_split_is_not_another(model: Path, tmp_path: Path) -> None:
    uri = write_examples(tmp_path / "examples", ROWS[:3])
    write_examples(tmp_path / "examples", ROWS[3:5], "eval")
    assert len(score(model, uri, "test").texts) == 3
    assert score(model, uri, "eval").texts == [text for text, _ in ROWS[3:5]]
    assert examples_digest(uri, "test") != examples_digest(uri, "eval")


def test_what_is_saved_is_loaded(model: Path, examples: str, tmp_path: Path) -> None:
    found = score(model, examples, "test")
    path = tmp_path / "answers.npz"
    save(found, path)
    again = load(path)
    assert_same(again, found)
    assert again.rows_per_second is None
    assert [item.name for item in tmp_path.iterdir()] == ["answers.npz"]


def test_a_full_disk_leaves_the_old_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answers.npz"
    found = score(model, write_examples(tmp_path / "examples", ROWS[:4]), "test")
    save(found, path)
    before = path.read_bytes()

    def full(file: Any, **arrays: np.ndarray) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        save(found, path)
    assert path.read_bytes() == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["answers.npz", "examples"]


def damage_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:400] = bytes(300)
    path.write_bytes(content)


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_text(path: Path) -> None:
    path.write_text("not an archive")


def damage_other_arrays(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, other=np.zeros(3))


def damage_one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def damage_objects(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, text=np.array([{}], dtype=object))


def damage_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("text.npy", "no array")


@pytest.mark.parametrize(
    "damage",
    [
        damage_half,
        damage_middle,
        damage_empty,
        damage_text,
        damage_other_arrays,
        damage_one_array,
        damage_objects,
        damage_zip,
    ],
)
def test_a_damaged_file_is_told_and_replaced(
    model: Path, examples: str, tmp_path: Path, calls: list[Path], damage: Callable[[Path], None]
) -> None:
    found = score_cached(model, examples, "test", tmp_path)
    (path,) = tmp_path.iterdir()
    damage(path)
    with pytest.raises(ValueError, match="does not hold predictions"):
        load(path)
    assert_same(score_cached(model, examples, "test", tmp_path), found)
    assert_same(load(path), found)
    assert len(calls) == 2


def test_answers_are_given_once(model: Path, examples: str, tmp_path: Path, calls: list[Path]) -> None:
    first = score_cached(model, examples, "test", tmp_path / "cache")
    second = score_cached(model, examples, "test", tmp_path / "cache")
    assert_same(second, first)
    assert (first.rows_per_second is None, second.rows_per_second is None) == (False, True)
    assert len(calls) == 1
    assert score_cached(model, examples, "test", tmp_path / "cache", refresh=True).rows_per_second is not None
    assert len(calls) == 2


def test_a_pushed_copy_is_the_same_model(
    model: Path, copied: Path, examples: str, tmp_path: Path, calls: list[Path]
) -> None:
    score_cached(model, examples, "test", tmp_path / "cache")
    (copied / "MANIFEST.json").write_text("{}")
    os.utime(copied / "saved_model.pb", (0, 0))
    score_cached(copied, str(shutil.copytree(examples, tmp_path / "elsewhere")), "test", tmp_path / "cache")
    assert calls == [model]


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.data-00000-of-00001", "assets.extra/classes.txt"]
)
def test_the_key_follows_the_model(model: Path, copied: Path, examples: str, name: str) -> None:
    assert cache_key(copied, examples, "test") == cache_key(model, examples, "test")
    with (copied / name).open("ab") as file:
        file.write(b"\n")
    assert cache_key(copied, examples, "test") != cache_key(model, examples, "test")


def test_the_key_follows_file_names(model: Path, copied: Path, examples: str) -> None:
    # It keeps its place in the order of names, so that only the name tells.
    (copied / "variables" / "variables.index").rename(copied / "variables" / "variables.indexes")
    assert cache_key(copied, examples, "test") != cache_key(model, examples, "test")


def test_the_key_follows_the_examples(model: Path, examples: str, tmp_path: Path) -> None:
    changed = write_examples(tmp_path / "examples", [*ROWS[:-1], (ROWS[-1][0], 1 - ROWS[-1][1])])
    assert cache_key(model, changed, "test") != cache_key(model, examples, "test")
    assert examples_digest(changed, "test") != examples_digest(examples, "test")


def test_another_model_gives_its_own_answers(model: Path, examples: str, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", sports=0)
    ours = score_cached(model, examples, "test", tmp_path / "cache")
    theirs = score_cached(other, examples, "test", tmp_path / "cache")
    assert (ours.label_ids == 1 - theirs.label_ids).all()


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = write_examples(tmp_path / "examples", ROWS[:4])
    (tmp_path / "cache").write_text("a file")
    found = score_cached(model, uri, "test", tmp_path / "cache")
    assert len(found.texts) == 4
    assert "cannot be written" in caplog.text


def test_a_model_that_does_not_load_is_bad_input(copied: Path, examples: str) -> None:
    (copied / "saved_model.pb").write_bytes(b"broken")
    with pytest.raises(BadInputError, match=f"{copied} does not load") as caught:
        score(copied, examples, "test")
    assert "\n" not in str(caught.value)


def test_a_model_without_the_signature_is_bad_input(tmp_path: Path, examples: str) -> None:
    directory = write_model(tmp_path / "one", signatures=("serving_default",))
    with pytest.raises(BadInputError, match="does not load with the signature serve_examples"):
        score(directory, examples, "test")


def test_a_model_without_classes_is_bad_input(copied: Path, examples: str) -> None:
    shutil.rmtree(copied / "assets.extra")
    with pytest.raises(BadInputError, match=r"no assets\.extra/classes\.txt"):
        score(copied, examples, "test")


def test_classes_may_lie_in_the_assets(copied: Path) -> None:
    (copied / "assets").mkdir(exist_ok=True)
    (copied / "assets.extra" / "classes.txt").rename(copied / "assets" / "classes.txt")
    assert read_classes(copied) == CLASSES


@pytest.mark.parametrize(
    ("ids", "shares"),
    [([0, 2], [[1.0, 0.0]] * 2), ([0, 1], [[1.0, 0.0, 0.0]] * 2), ([0, 1], [[float("nan"), 0.0]] * 2)],
    ids=["unknown class", "another count", "not a number"],
)
def test_an_answer_that_is_none_is_bad_input(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: list[int], shares: list[list[float]]
) -> None:
    answer = {"label_id": tf.constant(ids), "probabilities": tf.constant(shares)}
    fake = SimpleNamespace(signatures={"serve_examples": lambda examples: answer})
    monkeypatch.setattr(predictions, "_load_model", lambda _: fake)
    with pytest.raises(BadInputError, match="one of its 2 classes"):
        score(model, write_examples(tmp_path / "examples", ROWS[:2]), "test")


def test_an_empty_split_is_bad_input(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds no rows"):
        score(model, write_examples(tmp_path / "examples", []), "test")


def test_answers_from_the_cache_do_not_wait_for_tensorflow(model: Path, examples: str, tmp_path: Path) -> None:
    score_cached(model, examples, "test", tmp_path)
    code = (
        "import sys; from pathlib import Path; from components.evaluation.predictions import score_cached\n"
        "found = score_cached(Path(sys.argv[1]), sys.argv[2], 'test', Path(sys.argv[3]))\n"
        "print(len(found.texts), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, model, examples, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["300", "False"]
