"""Finding the champion, asking a loaded model, and what of a real SavedModel keeps it from being served."""

import gc
import json
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.errors import BadInputError
from components.push.aliases import write_aliases
from components.push.manifest import MANIFEST, hash_model, make_manifest
from serving.errors import Code, RequestError
from serving.model.loaded import Answers, LoadedModel, NoModelError, champion_version, warm_up
from serving.model.signatures import Signature, TensorInfo
from serving.repository.repository import Repository

pytestmark = pytest.mark.stack

CLASSES = ("World", "Sports", "Business")
TEXTS = ["The coach saw a goal", "bank shares", "", "球 🤖", "zero\x00byte", "\n", "goal " * 300]
TEXT = [tf.TensorSpec([None], tf.string, name="text")]
EXAMPLES = [tf.TensorSpec([None], tf.string, name="examples")]


class Tiny(tf.Module):
    """A linear model over 32 hashed words."""

    def __init__(self, seed: int = 0):
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(seed).normal(size=(32, 3)).astype(np.float32))
        self.classes = tf.constant(CLASSES)

    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        words = tf.strings.to_hash_bucket_fast(tf.strings.split(text), 32)
        probabilities = tf.nn.softmax(tf.reduce_sum(tf.gather(self.weights, words), axis=1))
        probabilities = tf.ensure_shape(probabilities, [None, 3])
        label_id = tf.argmax(probabilities, axis=1)
        return {"label": tf.gather(self.classes, label_id), "label_id": label_id, "probabilities": probabilities}

    def classify_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {"text": tf.io.FixedLenFeature([], tf.string)}
        return self.classify(tf.io.parse_example(examples, spec)["text"])

    def signatures(self) -> dict[str, Any]:
        return {
            "serving_default": tf.function(self.classify, TEXT),
            "serve_examples": tf.function(self.classify_examples, EXAMPLES),
        }


class LacksExamples(Tiny):
    def signatures(self) -> dict[str, Any]:
        return {"serving_default": tf.function(self.classify, TEXT)}


class TakesSentences(Tiny):
    def signatures(self) -> dict[str, Any]:
        other = tf.function(lambda sentence: self.classify(sentence), [tf.TensorSpec([None], tf.string, "sentence")])
        return super().signatures() | {"serving_default": other}


class HidesProbabilities(Tiny):
    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: output for name, output in super().classify(text).items() if name != "probabilities"}


class ReadsFiles(Tiny):
    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return super().classify(tf.map_fn(tf.io.read_file, text))


class RefusesLongBatches(Tiny):
    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_less(tf.size(text), 17, "too many for me")]):
            return super().classify(text)


class AddsARow(Tiny):
    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return super().classify(tf.concat([text, ["more"]], axis=0))


def save(module: Tiny, directory: Path, classes: tuple[str, ...] = CLASSES) -> Path:
    """Writes a version as a push does."""
    tf.saved_model.save(module, str(directory), signatures=module.signatures())
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    list_files(directory)
    return directory


def list_files(directory: Path) -> None:
    """Writes the manifest of whatever stands there."""
    (directory / MANIFEST).unlink(missing_ok=True)
    (directory / MANIFEST).write_text(make_manifest(1, hash_model(directory), {}))


def to_example(text: bytes) -> bytes:
    feature = {"text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of which tests take copies."""
    return save(Tiny(), tmp_path_factory.mktemp("model") / "7")


@pytest.fixture(scope="module")
def model(saved: Path) -> LoadedModel:
    return LoadedModel(saved)


@pytest.fixture
def promoted(tmp_path: Path) -> Path:
    """A directory of models in which version 2 of three is champion."""
    for version in (1, 2, 3):
        (tmp_path / "ag_news" / str(version)).mkdir(parents=True)
        (tmp_path / "ag_news" / str(version) / "saved_model.pb").touch()
    write_aliases(tmp_path, "ag_news", {"champion": 2, "previous": 1, "challenger": 3})
    return tmp_path


def test_the_champion_is_what_the_alias_names(promoted: Path) -> None:
    assert champion_version(promoted, "ag_news") == promoted / "ag_news" / "2"


def test_without_a_champion_nothing_serves(promoted: Path) -> None:
    write_aliases(promoted, "ag_news", {"challenger": 3})
    for name in ("ag_news", "other"):
        with pytest.raises(NoModelError, match=f"no model {name} serves from {promoted}"):
            champion_version(promoted, name)


def test_a_champion_that_is_gone_is_named(promoted: Path) -> None:
    (promoted / "ag_news" / "2" / "saved_model.pb").unlink()
    with pytest.raises(NoModelError, match="the champion of ag_news, version 2, is no longer at"):
        champion_version(promoted, "ag_news")


def test_damaged_aliases_are_bad_input(promoted: Path) -> None:
    (promoted / "ag_news" / "aliases.json").write_text("{")
    with pytest.raises(BadInputError, match="is damaged"):
        champion_version(promoted, "ag_news")


def test_answers_are_those_of_the_module(model: LoadedModel) -> None:
    expected = Tiny().classify(tf.constant(TEXTS))
    answers = model.answer([text.encode() for text in TEXTS])
    np.testing.assert_allclose(answers.probabilities, expected["probabilities"], atol=1e-6)
    assert answers.label_ids.tolist() == expected["label_id"].numpy().tolist()
    assert answers.labels == [CLASSES[number] for number in answers.label_ids]
    assert len(set(answers.labels)) > 1, "texts that cannot be told apart show no order"
    assert (answers.label_ids.dtype, answers.probabilities.dtype) == (np.int64, np.float32)
    assert answers.probabilities.shape == (len(TEXTS), len(CLASSES))


def test_both_signatures_agree(model: LoadedModel) -> None:
    texts = [text.encode() for text in TEXTS]
    answers, same = model.answer(texts), model.answer_examples([to_example(text) for text in texts])
    np.testing.assert_array_equal(answers.probabilities, same.probabilities)
    assert (answers.labels, answers.label_ids.tolist()) == (same.labels, same.label_ids.tolist())


def test_no_texts_are_no_answers(model: LoadedModel) -> None:
    for ask in (model.answer, model.answer_examples):
        answers = ask([])
        assert (answers.labels, answers.label_ids.shape, answers.probabilities.shape) == ([], (0,), (0, 3))


def test_bytes_that_are_no_text_are_answered(model: LoadedModel) -> None:
    assert len(model.answer([b"\xff\xfe", b"\x00"]).labels) == 2


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (b"garbage", "Could not parse example input, value: 'garbage'"),
        (b"", "Name: <unknown>, Feature: text (data type: string) is required but could not be found."),
    ],
)
def test_an_example_that_is_none_is_refused_in_tensorflow_s_words(
    model: LoadedModel, damaged: bytes, message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        model.answer_examples([to_example(b"goal"), damaged])
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


def test_predictions_come_in_the_order_of_the_texts(model: LoadedModel) -> None:
    answers = model.answer([text.encode() for text in TEXTS])
    predictions = model.predict(TEXTS)
    assert [prediction.text for prediction in predictions] == TEXTS
    assert [prediction.label for prediction in predictions] == answers.labels
    assert [prediction.label_id for prediction in predictions] == answers.label_ids.tolist()
    for prediction, row in zip(predictions, answers.probabilities.tolist(), strict=True):
        assert list(prediction.probabilities.items()) == list(zip(CLASSES, row, strict=True))
        assert prediction.probability == max(row)
    assert model.predict([]) == []


def test_a_prediction_is_plain_values(model: LoadedModel) -> None:
    (prediction,) = model.predict(["goal"])
    assert json.loads(json.dumps(prediction.to_dict())) == prediction.to_dict()
    assert set(prediction.to_dict()) == {"text", "label", "label_id", "probability", "probabilities"}


def test_threads_get_their_own_answers(model: LoadedModel) -> None:
    texts = [f"goal {number} bank {number % 7}".encode() for number in range(40)]
    expected = [model.answer([text]).probabilities[0] for text in texts]
    wrong: list[str] = []

    def ask(start: int) -> None:
        for number in [*range(start, 40), *range(start)]:
            found = model.answer([texts[number]]).probabilities[0]
            if not np.allclose(found, expected[number], atol=1e-6):
                wrong.append(f"{texts[number]!r} got another's answer")

    threads = [threading.Thread(target=ask, args=(10 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_model_says_where_it_is_from_and_what_it_takes(model: LoadedModel, saved: Path) -> None:
    assert (model.directory, tuple(model.classes)) == (saved, CLASSES)
    assert set(model.signatures) == {"__saved_model_init_op", "serving_default", "serve_examples"}
    signature = model.signatures["serving_default"]
    assert signature.inputs == {"text": TensorInfo("serving_default_text:0", "DT_STRING", (-1,))}
    assert {name: (info.dtype, info.shape) for name, info in signature.outputs.items()} == {
        "label": ("DT_STRING", (-1,)),
        "label_id": ("DT_INT64", (-1,)),
        "probabilities": ("DT_FLOAT", (-1, 3)),
    }
    assert signature.method_name == "tensorflow/serving/predict"
    assert list(model.signatures["serve_examples"].inputs) == ["examples"]
    nothing = TensorInfo("NoOp", "DT_INVALID", None)
    assert model.signatures["__saved_model_init_op"] == Signature({}, {"__saved_model_init_op": nothing}, "")


@dataclass
class Asked:
    """Stands in for a model and counts what it is asked; its probabilities have so many columns."""

    columns: int = 3
    signatures: Any = None

    def __post_init__(self) -> None:
        self.classes = list(CLASSES)
        self.texts: list[list[bytes]] = []
        self.examples: list[list[bytes]] = []

    def answer(self, texts: Any) -> Answers:
        self.texts.append(list(texts))
        return Answers([], np.zeros(len(texts), np.int64), np.zeros((len(texts), self.columns), np.float32))

    def answer_examples(self, examples: Any) -> Answers:
        self.examples.append(list(examples))
        return Answers([], np.zeros(len(examples), np.int64), np.zeros((len(examples), self.columns), np.float32))


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (64, [1, 2, 4, 8, 16, 32, 64]), (20, [1, 2, 4, 8, 16])])
def test_warming_up_asks_once_for_each_size_and_through_both_signatures(most: int, sizes: list[int]) -> None:
    model = Asked()
    warm_up(model, most)
    assert [len(texts) for texts in model.texts] == sizes
    assert model.examples == [[to_example(model.texts[0][0])]]
    assert most == 1 or len({len(text) for text in model.texts[-1]}) > 1, "all texts have one length"


def test_warming_up_takes_no_answer_of_another_shape() -> None:
    with pytest.raises(BadInputError, match=r"answers 1 texts with probabilities of shape \(1, 4\), not of \(1, 3\)"):
        warm_up(Asked(columns=4))


# --- a repository of real models -------------------------------------------------------------------------------------


@dataclass
class Served:
    """A base whose first version serves."""

    base: Path
    repository: Repository

    def ask(self) -> int:
        """Returns the version that answers, having asked it."""
        with self.repository.use("ag_news") as version:
            assert len(version.loaded.answer([b"goal"]).labels) == 1
            return version.number


@pytest.fixture
def served(saved: Path, tmp_path: Path) -> Iterator[Served]:
    base = tmp_path / "ag_news"
    shutil.copytree(saved, base / "1")
    repository = Repository(base)
    repository.poll()
    yield Served(base, repository)
    repository.stop()


def test_a_real_version_takes_over_and_the_old_one_s_weights_are_freed(served: Served) -> None:
    gc.collect()
    gc.disable()
    try:
        with served.repository.use("ag_news") as version:
            before = version.loaded.answer([b"goal coach"]).probabilities
            traces = [weakref.ref(version.loaded), weakref.ref(version.loaded._session._session)]
            save(Tiny(seed=1), served.base / "2")
            served.repository.poll()
            np.testing.assert_array_equal(version.loaded.answer([b"goal coach"]).probabilities, before)
            assert served.ask() == 2
        del version
        served.repository.poll()
        assert [trace() for trace in traces] == [None, None]
    finally:
        gc.enable()
    with served.repository.use("ag_news") as version:
        after = version.loaded.answer([b"goal coach"]).probabilities
        np.testing.assert_allclose(
            after, Tiny(seed=1).classify(tf.constant(["goal coach"]))["probabilities"], atol=1e-6
        )
    assert not np.allclose(before, after)


def lose_weights(directory: Path) -> None:
    os.truncate(directory / "variables" / "variables.data-00000-of-00001", 7)


def lose_graph(directory: Path) -> None:
    (directory / "saved_model.pb").write_bytes((directory / "saved_model.pb").read_bytes()[:1000])


def lose_classes(directory: Path) -> None:
    (directory / "assets.extra" / "classes.txt").unlink()


def empty_classes(directory: Path) -> None:
    (directory / "assets.extra" / "classes.txt").write_text("")


def miscode_classes(directory: Path) -> None:
    (directory / "assets.extra" / "classes.txt").write_bytes(b"\xff\n")


BROKEN: list[tuple[type[Tiny], Callable[[Path], None] | None, tuple[str, ...], str]] = [
    (LacksExamples, None, CLASSES, "has no signature serve_examples"),
    (TakesSentences, None, CLASSES, "from sentence to label, label_id, probabilities, not from text to"),
    (HidesProbabilities, None, CLASSES, "from examples to label, label_id, not|from text to label, label_id, not"),
    (ReadsFiles, None, CLASSES, "uses the operation ReadFile"),
    (RefusesLongBatches, None, CLASSES, "too many for me"),
    (AddsARow, None, CLASSES, "answers 1 texts with probabilities of shape"),
    (Tiny, None, ("World", "Sports"), r"probabilities have shape (-1, 3), but 2 classes"),
    (Tiny, lose_weights, CLASSES, ""),
    (Tiny, lose_graph, CLASSES, "has a damaged saved_model.pb"),
    (Tiny, lose_classes, CLASSES, "has no assets.extra/classes.txt that can be read"),
    (Tiny, empty_classes, CLASSES, "has a classes.txt without a class"),
    (Tiny, miscode_classes, CLASSES, "has no assets.extra/classes.txt that can be read"),
]


@pytest.mark.parametrize(
    ("kind", "damage", "classes", "reason"),
    BROKEN,
    ids=[damage.__name__ if damage else f"{kind.__name__}{len(classes)}" for kind, damage, classes, _ in BROKEN],
)
def test_a_real_version_that_does_not_serve_never_displaces_a_good_one(
    served: Served, kind: type[Tiny], damage: Callable[[Path], None] | None, classes: tuple[str, ...], reason: str
) -> None:
    """The manifest is right about each of them: it is the model itself that is not."""
    directory = save(kind(), served.base.parent / "aside", classes)
    if damage:
        damage(directory)
        list_files(directory)
    directory.rename(served.base / "2")
    served.repository.poll()
    served.repository.poll()
    assert (served.ask(), served.repository.ready) == (1, True)
    broken, good = served.repository.status("ag_news")
    assert (broken.version, broken.state.name, good.version, good.state.name) == (2, "END", 1, "AVAILABLE")
    assert broken.code is not Code.OK
    assert any(words in broken.message for words in reason.split("|"))
    assert broken.message
    assert "\n" not in broken.message


def test_a_truncated_real_version_is_held_against_its_manifest(served: Served, saved: Path) -> None:
    shutil.copytree(saved, served.base.parent / "aside")
    lose_weights(served.base.parent / "aside")
    (served.base.parent / "aside").rename(served.base / "2")
    served.repository.poll()
    assert "variables/variables.data-00000-of-00001 has changed" in served.repository.status("ag_news")[0].message
    assert served.ask() == 1
