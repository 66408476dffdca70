"""``run_fn`` from transformed rows to an exported model, for every way of training, and a fit that is killed."""

import functools
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
import tf_keras
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils
from tfx.components.trainer.fn_args_utils import FnArgs
from tiny_bert import VOCABULARY, make_learned_tensors, write_saved_encoder

from components.errors import BadInputError
from components.text.vocabulary import vocabulary_digest
from components.text.wordpiece import preprocessing_fn
from trainers.bert.config import AS_SAVED, BertConfig, Encoder
from trainers.bert.digest import encoder_digest
from trainers.bert.model import Bert, build
from trainers.bert.run import run_fn
from trainers.checkpoints import Checkpoints
from trainers.export import export

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
WORDS = (
    "minister treaty border embassy ceasefire parliament",
    "goal coach striker season penalty league",
    "shares profit market bank merger investor",
    "software galaxy chip robot genome browser",
)
MAX_TOKENS = 16
TRAIN_ROWS, EVAL_ROWS = 96, 24
QUICK = {
    "batch_size": 8,
    "learning_rate": 0.03,
    "encoder_dropout": False,
    "dropout": 0.0,
    "top_layers": 1,
    "wide_buckets": 50,
    "wide_dropout": 0.0,
}
MODES: dict[str, dict[str, Any]] = {
    "frozen": {"train": "frozen", "head_epochs": 20, "head_batch_size": 8, "head_learning_rate": 0.05},
    "top": {"train": "top", "epochs": 4},
    "full": {"train": "full", "epochs": 4, "pooling": "pooled", "learning_rate": 0.01},
}
EPOCHS = {"frozen": 20, "top": 4, "full": 4}

# Of tensorflow-text, and older than its version 2.12, so that TensorFlow Serving 2.12 and later know them.
TEXT_OPS = {"FastWordpieceTokenizeWithOffsets", "NormalizeUTF8"}
TEXTS = ["The coach saw a goal", "bank shares", "zzz", "Robot, chip! treaty; robot 球", "minister"]
HARD_TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "space": " \t\n\u00a0\u3000",
    "emoji": "😀🤖👩\u200d🚀🏳️\u200d🌈",
    "cjk": "足球 世界 テクノロジー 市場",
    "right_to_left": "كرة القدم שוק המניות",
    "accents": "GOÄL Cöach e\u0301 ﬁ",
    "entities": "&lt;b&gt;Bank&lt;/b&gt; &amp;amp; AT&amp;T #39; &#8217; quot;",
    "special_pieces": "[CLS] goal [SEP] [MASK] [PAD] ##er",
    "ten_thousand_tokens": "goal " * 10_000,
    "ten_thousand_glyphs": "球" * 10_000,
    "long_word": "x" * 100_000,
    "pieces_of_a_long_word": "border" + "er" * 200,
    "zero_width": "\u200b\u200d\ufeff\u2060",
    "controls": "\x00\x07 goal \x1b[0m",
    "backslashes": "goal\\coach\\\\bank\\",
    "not_utf8": b"goal \xff\xfe coach \xc3",
    "only_not_utf8": b"\xff\xfe\xc3\x28",
    "half_a_surrogate": b"\xed\xa0\x80 bank",
}

Texts = Sequence[str | bytes]


@dataclass(frozen=True)
class World:
    """What is handed to ``run_fn``."""

    root: Path
    transform_graph: str
    patterns: list[str]
    encoder: dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """What it left: ``model`` is where, ``weights`` are what was exported."""

    mode: str
    node: Path
    model: Path
    history: dict[str, Any]
    weights: dict[str, np.ndarray]
    classify: Callable[[Texts], dict[str, np.ndarray]]


def make_texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"The {' and the '.join(rng.choice(WORDS[number % 4].split(), 3))}." for number in range(count)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A Transform graph of the tiny vocabulary, rows that went through it, and the tiny encoder."""
    root = tmp_path_factory.mktemp("run")
    saved = write_saved_encoder(root / "saved", tensors=make_learned_tensors())
    vocabulary = saved / "assets" / "vocab.txt"
    settings = {
        "vocabulary": str(vocabulary),
        "vocabulary_digest": vocabulary_digest(vocabulary),
        "lower_case": True,
        "max_tokens": MAX_TOKENS,
        "clean": False,
    }
    spec = {"text": tf.io.FixedLenFeature([1], tf.string), "label": tf.io.FixedLenFeature([1], tf.int64)}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    rows = [{"text": [b"goal"], "label": [0]}]
    with tft_beam.Context(temp_dir=str(root / "beam")):
        analyze = tft_beam.AnalyzeDataset(functools.partial(preprocessing_fn, custom_config=settings))
        (rows, metadata) | analyze | tft_beam.WriteTransformFn(str(root / "transform_graph"))  # type: ignore[operator]

    layer = tft.TFTransformOutput(str(root / "transform_graph")).transform_features_layer()
    for split, count in (("train", TRAIN_ROWS), ("eval", EVAL_ROWS)):
        path = root / "examples" / f"Split-{split}" / "transformed_examples-00000-of-00001.gz"
        path.parent.mkdir(parents=True)
        texts = tf.constant(make_texts(count, seed=count))[:, tf.newaxis]
        ids = tf.RaggedTensor.from_sparse(layer({"text": texts})["token_ids"])
        with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
            for number, row in enumerate(ids.to_list()):
                # One label is wrong, so that a hundred per cent are not those of this split.
                label = 1 if (split, number) == ("eval", 0) else number % 4
                writer.write(to_example(token_ids=row, label=[label]))
    encoder = Encoder(
        name="tiny",
        digest="0" * 64,
        training=str(saved),
        serving=str(saved),
        precision="float32",
        vocabulary=str(vocabulary),
        vocabulary_digest=vocabulary_digest(vocabulary),
        lower_case=True,
    )
    patterns = [str(root / "examples" / f"Split-{split}" / "*") for split in ("eval", "train")]
    return World(root, str(root / "transform_graph"), patterns, asdict(encoder))


def to_example(text: str | bytes | None = None, **ids: list[int]) -> bytes:
    """Returns a serialized example with the bytes feature ``text``, or with int64 features instead."""
    feature = {name: tf.train.Feature(int64_list=tf.train.Int64List(value=value)) for name, value in ids.items()}
    if text is not None:
        value = text if isinstance(text, bytes) else text.encode()
        feature["text"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def train(world: World, node: Path, *, write: bool = True, **settings: Any) -> tf_keras.Model:
    """Calls ``run_fn`` as the Trainer node at a place does; returns the model that it exports, which takes a while."""
    config = BertConfig(max_tokens=MAX_TOKENS, **(QUICK | settings))
    exported: list[tf_keras.Model] = []

    def keep(model: tf_keras.Model, *rest: Any) -> None:
        exported.append(model)
        if write:
            export(model, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainers.task.export", keep)
        run_fn(
            FnArgs(
                train_files=world.patterns,
                eval_files=world.patterns,
                transform_graph_path=world.transform_graph,
                serving_model_dir=str(node / "model" / "1" / "Format-Serving"),
                model_run_dir=str(node / "model_run" / "1"),
                custom_config={"model": config.model_dump(), "encoder": world.encoder, "classes": list(CLASSES)},
            )
        )
    (model,) = exported
    return model


def read_history(node: Path) -> dict[str, Any]:
    return json.loads((node / "model_run" / "1" / "history.json").read_text(encoding="utf-8"))


def values(weights: list[tf.Variable]) -> dict[str, np.ndarray]:
    found = {variable.name: variable.numpy() for variable in weights}
    assert len(found) == len(weights)
    return found


@pytest.fixture(scope="module", params=MODES)
def trained(world: World, request: pytest.FixtureRequest) -> Trained:
    node = world.root / request.param
    model = train(world, node, **MODES[request.param])
    directory = node / "model" / "1" / "Format-Serving"
    signature = tf.saved_model.load(str(directory)).signatures["serving_default"]

    def classify(texts: Texts) -> dict[str, np.ndarray]:
        return {name: output.numpy() for name, output in signature(text=tf.constant(texts, tf.string)).items()}

    return Trained(request.param, node, directory, read_history(node), values(model.weights), classify)


def check_answers(answers: dict[str, np.ndarray], count: int) -> None:
    """Checks one batch of answers by what every answer must be."""
    probabilities = answers["probabilities"]
    assert probabilities.shape == (count, len(CLASSES))
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), np.ones(count), atol=1e-5)
    assert answers["label_id"].tolist() == probabilities.argmax(axis=1).tolist()
    assert [label.decode() for label in answers["label"]] == [CLASSES[number] for number in answers["label_id"]]


def test_it_has_learned_and_says_so(trained: Trained) -> None:
    answers = trained.classify(make_texts(40, seed=7))
    check_answers(answers, 40)
    right = np.mean([label.decode() == CLASSES[number % 4] for number, label in enumerate(answers["label"])])
    assert right > 0.8
    epochs = trained.history["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, EPOCHS[trained.mode] + 1))
    assert trained.history["steps"] == TRAIN_ROWS // QUICK["batch_size"] * len(epochs)
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    best = epochs[trained.history["best_epoch"] - 1]["eval_accuracy"]
    assert 0.8 < best < 1, "the eval split has one wrong label"


def test_history_counts_the_weights_of_the_whole_model(trained: Trained) -> None:
    assert trained.history["parameters"] == sum(value.size for value in trained.weights.values())
    assert len(trained.weights) == 31 + 2 + 1


def test_exported_weights_are_those_that_learned(trained: Trained, world: World) -> None:
    before = values(tf.saved_model.load(world.encoder["training"]).variables)
    moved = {name for name, value in before.items() if not np.array_equal(value, trained.weights[name])}
    if trained.mode == "full":
        assert moved == set(before)
    else:
        assert moved == {name for name in before if trained.mode == "top" and "layer_1/" in name}


def test_linear_part_has_learned_pieces_and_pairs(trained: Trained) -> None:
    table = trained.weights["wide/ngrams:0"]
    assert table.shape == (len(VOCABULARY) + QUICK["wide_buckets"], len(CLASSES))
    moved = table.any(axis=1)
    assert moved[VOCABULARY.index("goal")]
    assert not moved[VOCABULARY.index("[MASK]")]
    assert moved[len(VOCABULARY) :].any()


def test_exported_files_hold_these_weights(trained: Trained) -> None:
    reader = tf.train.load_checkpoint(str(trained.model / "variables" / "variables"))
    stored = [reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name]
    for name, value in trained.weights.items():
        assert any(np.array_equal(value, other) for other in stored), name


def test_no_checkpoint_is_left(trained: Trained) -> None:
    assert not list((trained.node / "checkpoints").glob("*"))


def test_signatures_are_those_of_every_family(trained: Trained) -> None:
    signatures = tf.saved_model.load(str(trained.model)).signatures
    assert set(signatures) == {"serving_default", "serve_examples"}
    for name, argument in (("serving_default", "text"), ("serve_examples", "examples")):
        _, inputs = signatures[name].structured_input_signature
        assert inputs == {argument: tf.TensorSpec([None], tf.string, name=argument)}
        outputs = {key: (spec.dtype, spec.shape.rank) for key, spec in signatures[name].structured_outputs.items()}
        assert outputs == {"label": (tf.string, 1), "label_id": (tf.int64, 1), "probabilities": (tf.float32, 2)}


def test_signatures_agree(trained: Trained) -> None:
    texts: Texts = [*TEXTS, *HARD_TEXTS.values()]
    signature = tf.saved_model.load(str(trained.model)).signatures["serve_examples"]
    examples = {
        name: output.numpy()
        for name, output in signature(examples=tf.constant([to_example(text) for text in texts])).items()
    }
    default = trained.classify(texts)
    check_answers(default, len(texts))
    check_answers(examples, len(texts))
    np.testing.assert_array_equal(default["probabilities"], examples["probabilities"])
    assert len(np.unique(default["label_id"])) > 1


@pytest.mark.parametrize("text", HARD_TEXTS.values(), ids=HARD_TEXTS)
def test_hard_text_is_answered_alone_and_in_company(trained: Trained, text: str | bytes) -> None:
    texts: Texts = [TEXTS[0], text, TEXTS[3]]
    together = trained.classify(texts)
    check_answers(together, 3)
    for number, item in enumerate(texts):
        alone = trained.classify([item])
        check_answers(alone, 1)
        np.testing.assert_allclose(alone["probabilities"][0], together["probabilities"][number], atol=1e-5)


def test_all_texts_in_one_batch_are_answered_as_alone(trained: Trained) -> None:
    # More than one chunk of the exported graph, each padded to its own longest text.
    texts: Texts = [*HARD_TEXTS.values(), *make_texts(120, seed=3)]
    together = trained.classify(texts)
    check_answers(together, len(texts))
    for number, text in list(enumerate(texts))[:30]:
        alone = trained.classify([text])["probabilities"][0]
        np.testing.assert_allclose(alone, together["probabilities"][number], atol=1e-5)


def test_no_texts_give_no_answers(trained: Trained) -> None:
    check_answers(trained.classify([]), 0)


def test_only_the_first_pieces_count(trained: Trained) -> None:
    start = "goal bank " * ((MAX_TOKENS - 2) // 2)
    answers = trained.classify([start, f"{start} robot treaty", f"robot {start}"])["probabilities"]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
    assert not np.allclose(answers[0], answers[2], atol=1e-4)


def test_classes_lie_beside_the_model(trained: Trained) -> None:
    path = trained.model / "assets.extra" / "classes.txt"
    assert path.read_text(encoding="utf-8") == "\n".join(CLASSES) + "\n"


def test_operations_of_tensorflow_text_are_old_ones(trained: Trained) -> None:
    saved = saved_model_pb2.SavedModel.FromString((trained.model / "saved_model.pb").read_bytes())
    (graph,) = saved.meta_graphs
    functions = {function.signature.name for function in graph.graph_def.library.function}
    nodes = [*graph.graph_def.node]
    for function in graph.graph_def.library.function:
        nodes += function.node_def
    foreign = {node.op for node in nodes if not hasattr(tf.raw_ops, node.op)} - functions
    assert foreign == TEXT_OPS
    assert "PyFunc" not in {node.op for node in nodes}


@pytest.mark.parametrize("trained", ["top"], indirect=True)
def test_it_loads_with_tensorflow_and_text_alone(trained: Trained, tmp_path: Path) -> None:
    program = """
import json, sys
import tensorflow as tf
import tensorflow_text
signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
answer = signature(text=tf.constant(json.loads(sys.argv[2])))
print(json.dumps({
    "probabilities": answer["probabilities"].numpy().tolist(),
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    model = Path(trained.model).rename(tmp_path / "moved")
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, str(model), json.dumps(TEXTS)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            check=False,
        )
    finally:
        model.rename(trained.model)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    foreign = {"tf_keras", "tensorflow_hub", "tensorflow_transform", "tfx", "safetensors"}
    assert not (foreign | {"pipeline", "components", "trainers", "serving"}) & set(answer["modules"])
    np.testing.assert_allclose(answer["probabilities"], trained.classify(TEXTS)["probabilities"], atol=1e-6)


def test_a_killed_fit_ends_as_if_it_had_not_been(
    trained: Trained, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = Checkpoints.write

    def write_and_die(*arguments: Any) -> None:
        write(*arguments)
        raise KeyboardInterrupt

    settings = MODES[trained.mode]
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            train(world, tmp_path, write=False, **settings)
    assert [path.suffix for path in (tmp_path / "checkpoints").iterdir()] == [".checkpoint"]
    assert not (tmp_path / "model_run").exists()

    caplog.set_level(logging.INFO, "newsdesk.trainer")
    caplog.clear()
    resumed = train(world, tmp_path, write=False, **settings)
    # How far an epoch is comes up now and then, in records of their own.
    lasting = [item for item in caplog.records if item.name == "newsdesk.trainer" and not hasattr(item, "passing")]
    epochs = EPOCHS[trained.mode]
    rest = [f"epoch {number} of {epochs}" for number in range(2, epochs + 1)]
    assert [item.message.partition(":")[0] for item in lasting] == ["resumed after epoch 1", *rest]
    assert not list((tmp_path / "checkpoints").iterdir())
    for name, value in values(resumed.weights).items():
        np.testing.assert_allclose(value, trained.weights[name], atol=1e-6, err_msg=name)
    history = read_history(tmp_path)
    for mine, whole in zip(history.pop("epochs"), trained.history["epochs"], strict=True):
        assert mine | {"seconds": 0} == pytest.approx(whole | {"seconds": 0}, rel=1e-5)
    assert history == {key: value for key, value in trained.history.items() if key != "epochs"}


def test_what_is_exported_computes_as_serving_does(world: World, tmp_path: Path) -> None:
    """With the weights that were learned in another precision."""
    half = write_saved_encoder(tmp_path / "half", precision="bfloat16", seed=9)
    settings = {"train": "top", "epochs": 1}
    encoder = world.encoder | {"serving": str(half)}
    model = train(replace(world, encoder=encoder), tmp_path / "node", write=False, **settings)
    ids = np.array([[2, 15, 16, 3], [2, 24, 3, 0]])
    answers = {}
    for directory in (str(half), world.encoder["training"]):
        other = build(BertConfig(**(QUICK | settings)), directory, len(VOCABULARY), len(CLASSES)).whole
        other.set_weights(model.get_weights())
        answers[directory] = other(ids).numpy()
    exact = answers[world.encoder["training"]]
    np.testing.assert_array_equal(model(ids), answers[str(half)])
    assert 1e-4 < np.abs(model(ids) - exact).max() < 0.3
    np.testing.assert_array_equal(
        values(model.weights)["embeddings/word_embeddings:0"],
        make_learned_tensors()["embeddings.word_embeddings.weight"],
    )


@pytest.mark.parametrize("mode", MODES)
def test_weight_decay_leaves_the_linear_part_alone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """A row that no text uses stays as it was, however strong the decay."""

    def build_with_ones(*arguments: Any) -> Bert:
        model = build(*arguments)
        wide = model.head.get_layer("wide")
        wide.set_weights([np.ones_like(wide.get_weights()[0])])
        return model

    monkeypatch.setattr("trainers.bert.run.build", build_with_ones)
    settings = MODES[mode] | {"epochs": 1, "head_epochs": 1, "weight_decay": 0.5}
    model = train(world, tmp_path, write=False, **settings)
    table = values(model.weights)["wide/ngrams:0"]
    np.testing.assert_array_equal(table[VOCABULARY.index("[MASK]")], np.ones(len(CLASSES)))
    assert (table[VOCABULARY.index("goal")] != 1).any()


@pytest.fixture
def in_place(world: World, tmp_path: Path) -> World:
    """The world with an encoder of the test's own, which is read where it lies."""
    saved = Path(shutil.copytree(world.encoder["training"], tmp_path / "saved"))
    vocabulary = saved / "assets" / "vocab.txt"
    of = {"training": str(saved), "serving": str(saved), "vocabulary": str(vocabulary), "precision": AS_SAVED}
    return replace(world, encoder=world.encoder | of | {"digest": encoder_digest(saved, vocabulary)})


@pytest.mark.parametrize("times", [0, 1, 2, 3], ids=["before", "for_training", "for_serving", "never"])
def test_an_encoder_that_is_another_than_its_digest_says_is_not_trained(
    in_place: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    saved, built = Path(in_place.encoder["training"]), []

    def note(*arguments: Any) -> Bert:
        model = build(*arguments)
        built.append(model)
        if len(built) == times:
            (saved / "variables" / "variables.index").write_bytes(b"another")
        return model

    monkeypatch.setattr("trainers.bert.run.build", note)
    settings = {"train": "frozen", "head_epochs": 1, "head_batch_size": 96}
    if times == 0:
        (saved / "variables" / "variables.index").write_bytes(b"another")
    if times == 3:
        assert train(in_place, tmp_path / "node", write=False, **settings) is not None
        return
    with pytest.raises(BadInputError) as caught:
        train(in_place, tmp_path / "node", write=False, **settings)
    assert str(caught.value) == f"{saved} changed while it was read: run again once nobody writes there"
    assert not (tmp_path / "node" / "model_run").exists()
    assert len(built) == times
    # Else the next run on the encoder that the digest is of would go on with the weights of the other.
    assert times == 2 or not list((tmp_path / "node").rglob("*.checkpoint"))


def test_a_vocabulary_that_is_another_than_transform_read_is_not_trained_with(world: World, tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join((*VOCABULARY[:-1], "tomorrow")) + "\n")
    changed = replace(world, encoder=world.encoder | {"vocabulary": str(path)})
    with pytest.raises(BadInputError, match=f"the vocabulary {path} changed after the run was configured"):
        train(changed, tmp_path / "node", write=False, train="frozen", head_epochs=1)
