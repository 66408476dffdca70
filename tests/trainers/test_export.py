"""The exported model: its two signatures, where it loads, and that no text upsets it."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils
from tfx.components.trainer.fn_args_utils import FnArgs

from components.text.transform import preprocessing_fn
from serving.model.loaded import LoadedModel
from trainers.export import Classifier, TransformGraph, export
from trainers.transformer.config import TransformerConfig
from trainers.transformer.model import build
from trainers.transformer.run import run_fn

pytestmark = pytest.mark.stack

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
VOCAB, MAX_TOKENS = 24, 12
TOPICS = (
    "treaty border embassy minister",
    "goal coach league 足 球",
    "bank shares market profit",
    "chip robot software 🤖",
)
TEXTS = ["The coach saw a goal", "bank shares", "zzz", "Robot border treaty, robot chip! 球", "minister"]
HARD_TEXTS = {
    "empty": "",
    "emoji": "😀🤖👩‍🚀🏳️‍🌈",
    "cjk": "足球 世界 テクノロジー 市場",
    "right_to_left": "كرة القدم שוק המניות",
    "entities": "&lt;b&gt;Bank&lt;/b&gt; &amp;amp; AT&amp;T #39; &#8217; quot; &nbsp;",
    "one_token_repeated": "goal " * 10_000,
    "one_glyph_repeated": "球" * 10_000,
    "zero_width": "\u200b\u200d\ufeff\u2060",
    "long": ("bank " + "x" * 95) * 1_000,
    "long_word": "x" * 100_000,
    "controls": "\x00\x07\t\n\r goal \x1b[0m",
    "backslashes": "goal\\coach\\\\bank\\",
}

Signature = Callable[[list[str]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class World:
    """What was exported and where."""

    model: tf_keras.Model
    transform_graph: str
    directory: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Exports a model of random weights behind the Transform graph of a corpus of four topics."""
    root = tmp_path_factory.mktemp("export")
    spec = {"text": tf.io.FixedLenFeature([1], tf.string), "label": tf.io.FixedLenFeature([1], tf.int64)}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    rows = [{"text": [topic.encode()], "label": [label]} for label, topic in enumerate(TOPICS)]
    settings = {"vocab_size": VOCAB, "min_count": 1, "max_tokens": MAX_TOKENS, "clean": True}
    with tft_beam.Context(temp_dir=str(root / "beam")):
        analyze = tft_beam.AnalyzeDataset(functools.partial(preprocessing_fn, custom_config=settings))
        (rows, metadata) | analyze | tft_beam.WriteTransformFn(str(root / "transform_graph"))  # type: ignore[operator]

    config = TransformerConfig(width=4, heads=2, head_width=3, feed_forward=5, wide_buckets=7, transformers=2)
    model = build(config, VOCAB, MAX_TOKENS, len(CLASSES))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(scale=0.3, size=weight.shape) for weight in model.get_weights()])
    transform = tft.TFTransformOutput(str(root / "transform_graph")).transform_savedmodel_dir
    export(model, TransformGraph(transform), CLASSES, str(root / "saved"))
    return World(model, str(root / "transform_graph"), root / "saved")


@pytest.fixture(scope="module")
def loaded(world: World) -> tf.Module:
    return tf.saved_model.load(str(world.directory))


@pytest.fixture(scope="module")
def classify(loaded: tf.Module) -> Signature:
    """The signature ``serving_default`` as a function of texts."""

    def call(texts: list[str]) -> dict[str, np.ndarray]:
        answer = loaded.signatures["serving_default"](text=tf.constant(texts, tf.string))
        return {name: output.numpy() for name, output in answer.items()}

    return call


def to_example(text: str, **ids: list[int]) -> bytes:
    """Returns a serialized example with the bytes feature ``text``, or with int64 features instead."""
    feature = {name: tf.train.Feature(int64_list=tf.train.Int64List(value=value)) for name, value in ids.items()}
    if not ids:
        feature["text"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def check_answers(answers: dict[str, np.ndarray], count: int) -> None:
    """Checks one batch of answers by what every answer must be."""
    probabilities = answers["probabilities"]
    assert probabilities.shape == (count, len(CLASSES))
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), np.ones(count), atol=1e-5)
    assert answers["label_id"].tolist() == probabilities.argmax(axis=1).tolist()
    assert [label.decode() for label in answers["label"]] == [CLASSES[number] for number in answers["label_id"]]


def check_alone_as_in_company(classify: Signature, texts: list[str]) -> None:
    """Checks that every text of a batch gets the answer that it gets alone."""
    together = classify(texts)
    check_answers(together, len(texts))
    for number, text in enumerate(texts):
        alone = classify([text])
        check_answers(alone, 1)
        np.testing.assert_allclose(alone["probabilities"][0], together["probabilities"][number], atol=1e-5)
        assert alone["label"][0] == together["label"][number]


@pytest.mark.parametrize(
    ("name", "argument"), [("serving_default", "text"), ("serve_examples", "examples")], ids=["default", "examples"]
)
def test_signature_has_the_promised_names_and_types(loaded: tf.Module, name: str, argument: str) -> None:
    signature = loaded.signatures[name]
    _, inputs = signature.structured_input_signature
    assert inputs == {argument: tf.TensorSpec([None], tf.string, name=argument)}
    outputs = {key: (spec.dtype, spec.shape.rank) for key, spec in signature.structured_outputs.items()}
    assert outputs == {"label": (tf.string, 1), "label_id": (tf.int64, 1), "probabilities": (tf.float32, 2)}


def test_no_third_signature(loaded: tf.Module) -> None:
    assert set(loaded.signatures) == {"serving_default", "serve_examples"}


def test_signatures_agree_on_the_same_text(loaded: tf.Module, classify: Signature) -> None:
    texts = [*TEXTS, *HARD_TEXTS.values()]
    default = classify(texts)
    serialized = tf.constant([to_example(text) for text in texts])
    examples = {n: output.numpy() for n, output in loaded.signatures["serve_examples"](examples=serialized).items()}
    check_answers(default, len(texts))
    check_answers(examples, len(texts))
    np.testing.assert_array_equal(default["probabilities"], examples["probabilities"])
    assert len(np.unique(default["label_id"])) > 1


def test_exported_answers_are_those_of_the_model_in_memory(world: World, classify: Signature) -> None:
    layer = tft.TFTransformOutput(world.transform_graph).transform_features_layer()
    ids = tf.sparse.to_dense(layer({"text": tf.constant(TEXTS)[:, tf.newaxis]})["token_ids"])
    assert ids.shape[1] > 3
    expected = tf.nn.softmax(world.model(tf.cast(ids, tf.int32), training=False))
    np.testing.assert_allclose(classify(TEXTS)["probabilities"], expected, atol=1e-6)


def make_many() -> list[str]:
    """Returns 200 texts from no word at all to more than count."""
    rng = np.random.default_rng(0)
    words = " ".join(TOPICS).split()
    return [" ".join(rng.choice(words, size)) for size in rng.integers(0, MAX_TOKENS + 3, 200)]


MANY = make_many()


@pytest.fixture(scope="module")
def alone(classify: Signature) -> list[np.ndarray]:
    """The probabilities that each of ``MANY`` texts gets alone."""
    return [classify([text])["probabilities"][0] for text in MANY]


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 200])
def test_many_texts_get_the_answers_that_they_get_alone(
    classify: Signature, alone: list[np.ndarray], count: int
) -> None:
    answers = classify(MANY[:count])
    check_answers(answers, count)
    np.testing.assert_allclose(answers["probabilities"], np.reshape(alone[:count], (count, len(CLASSES))), atol=1e-5)


def test_answers_keep_the_order_of_their_texts(classify: Signature, alone: list[np.ndarray]) -> None:
    order = np.random.default_rng(0).permutation(len(MANY))
    answers = classify([MANY[number] for number in order])["probabilities"]
    np.testing.assert_allclose(answers, np.array(alone)[order], atol=1e-5)
    assert len({tuple(answer.round(4)) for answer in alone}) > 50, "texts that cannot be told apart show no order"


@pytest.mark.parametrize("count", [1, 64, 65, 130])
def test_empty_texts_all_get_the_same_answer(classify: Signature, count: int) -> None:
    answers = classify([""] * count)
    check_answers(answers, count)
    np.testing.assert_allclose(
        answers["probabilities"], np.tile(classify([""])["probabilities"], (count, 1)), atol=1e-6
    )


def chunk_shapes(lengths: list[int]) -> tuple[list[int], list[int]]:
    """Returns, for texts of the given lengths, how many texts were in the same chunk and how wide it was."""

    def transform(inputs: dict[str, tf.Tensor]) -> dict[str, tf.SparseTensor]:
        tokens = tf.strings.to_number(tf.strings.split(inputs["text"][:, 0]), tf.int64)
        return {"token_ids": tokens.to_sparse()}

    class Model(tf.Module):
        def __call__(self, ids: tf.Tensor, training: bool) -> tf.Tensor:
            rows, width = tf.unstack(tf.cast(tf.shape(ids), tf.float32))
            return tf.tile(tf.math.log([[rows, width, 1.0]]), [tf.shape(ids)[0], 1])

    classifier = Classifier(Model(), transform, ("rows", "width", "one"))
    texts = tf.constant([" ".join(["3"] * length) for length in lengths])
    shares = classifier.classify(texts)["probabilities"].numpy()
    rows, widths = np.rint(shares[:, :2] / shares[:, 2:]).astype(int).T.tolist()
    return rows, widths


def test_a_chunk_is_as_wide_as_its_own_longest_text() -> None:
    lengths = [1, 9] * 64 + [40]
    assert chunk_shapes(lengths) == ([64] * 128 + [1], lengths)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_a_chunk_has_64_texts_of_similar_length(count: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 30, count)
    rows, widths = chunk_shapes(lengths.tolist())
    in_order = np.sort(lengths).tolist()
    chunks = [in_order[start : start + 64] for start in range(0, count, 64)]
    assert sorted(rows) == sorted(len(chunk) for chunk in chunks for _ in chunk)
    assert sorted(widths) == [chunk[-1] for chunk in chunks for _ in chunk]
    assert np.all(widths >= lengths)


def test_classes_file_lies_beside_the_model(world: World) -> None:
    assert (world.directory / "assets.extra" / "classes.txt").read_text(encoding="utf-8") == "\n".join(CLASSES) + "\n"


def test_server_side_loader_gives_the_same_answers(world: World, classify: Signature) -> None:
    answers = classify(TEXTS)
    predictions = LoadedModel(world.directory).predict(TEXTS)
    assert [prediction.label.encode() for prediction in predictions] == answers["label"].tolist()
    assert [list(p.probabilities.values()) for p in predictions] == answers["probabilities"].tolist()


def test_model_loads_with_tensorflow_and_text_alone(world: World, tmp_path: Path, classify: Signature) -> None:
    program = """
import json, sys
import tensorflow as tf
import tensorflow_text
signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
answer = signature(text=tf.constant(json.loads(sys.argv[2])))
print(json.dumps({
    "label": [label.decode() for label in answer["label"].numpy()],
    "probabilities": answer["probabilities"].numpy().tolist(),
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(world.directory), json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    foreign = {"tf_keras", "tensorflow_transform", "tfx", "tfx_bsl", "pipeline", "components", "trainers", "serving"}
    assert not foreign & set(answer["modules"])
    expected = classify(TEXTS)
    assert answer["label"] == [label.decode() for label in expected["label"]]
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-6)


@pytest.mark.parametrize("text", HARD_TEXTS.values(), ids=HARD_TEXTS)
def test_hard_text_is_answered_alone_and_in_company(classify: Signature, text: str) -> None:
    check_alone_as_in_company(classify, [TEXTS[0], text, TEXTS[3]])


def test_all_hard_texts_in_one_batch(classify: Signature) -> None:
    check_alone_as_in_company(classify, list(HARD_TEXTS.values()))


words = st.sampled_from(" ".join(TOPICS).split())
any_text = st.one_of(st.text(max_size=60), st.lists(words, max_size=20).map(" ".join), st.sampled_from(TEXTS))


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(any_text, min_size=1, max_size=4))
def test_any_text_is_answered_alone_and_in_company(classify: Signature, texts: list[str]) -> None:
    check_alone_as_in_company(classify, texts)


def test_only_the_first_tokens_count(classify: Signature) -> None:
    start = "goal bank " * (MAX_TOKENS // 2)
    answers = classify([start, start + "robot treaty", "robot " + start])["probabilities"]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
    assert not np.allclose(answers[0], answers[2], atol=1e-4)


def test_run_fn_trains_and_exports(world: World, tmp_path: Path) -> None:
    layer = tft.TFTransformOutput(world.transform_graph).transform_features_layer()
    rng = np.random.default_rng(0)

    def make_texts(count: int) -> list[str]:
        return [" ".join(rng.choice(TOPICS[number % 4].split(), 3)) for number in range(count)]

    for split, count in (("train", 64), ("eval", 16), ("test", 16)):
        path = tmp_path / "examples" / f"Split-{split}" / "transformed_examples-00000-of-00001.gz"
        path.parent.mkdir(parents=True)
        ids = tf.sparse.to_dense(layer({"text": tf.constant(make_texts(count))[:, tf.newaxis]})["token_ids"])
        with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
            for number, row in enumerate(ids.numpy()):
                label = 1 if (split, number) == ("eval", 0) else number % 4
                writer.write(to_example("", token_ids=row[row > 0].tolist(), label=[label]))
    patterns = [str(tmp_path / "examples" / f"Split-{split}" / "*") for split in ("eval", "test", "train")]
    config = TransformerConfig(
        width=8, heads=1, head_width=4, feed_forward=4, wide_buckets=50, epochs=3, batch_size=8, learning_rate=0.03
    )

    run_fn(
        FnArgs(
            train_files=patterns,
            eval_files=patterns,
            transform_graph_path=world.transform_graph,
            serving_model_dir=str(tmp_path / "model" / "Format-Serving"),
            model_run_dir=str(tmp_path / "Trainer" / "model_run" / "3"),
            custom_config={
                "model": config.model_dump(),
                "vocab_size": VOCAB,
                "max_tokens": MAX_TOKENS,
                "classes": list(CLASSES),
            },
        )
    )

    assert list((tmp_path / "Trainer" / "checkpoints").iterdir()) == []
    history = json.loads((tmp_path / "Trainer" / "model_run" / "3" / "history.json").read_text(encoding="utf-8"))
    assert (len(history["epochs"]), history["steps"]) == (3, 24)
    assert history["epochs"][-1]["eval_accuracy"] == 15 / 16, "not the eval split, which has one wrong label"
    loaded = LoadedModel(tmp_path / "model" / "Format-Serving")
    predictions = loaded.predict(make_texts(40))
    assert [prediction.label for prediction in predictions] == [CLASSES[number % 4] for number in range(40)]
