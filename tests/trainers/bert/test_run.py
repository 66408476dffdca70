"""``run_fn`` from transformed rows to an exported model, for every way of training, and a fit that is killed."""

import functools
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils
from tfx.components.trainer.fn_args_utils import FnArgs
from tiny_bert import write_saved_encoder

from components.vocabulary import vocabulary_digest
from components.wordpiece import preprocessing_fn
from trainers.bert.config import BertConfig
from trainers.bert.encoders import Encoder
from trainers.bert.run import run_fn
from trainers.checkpoints import Checkpoints

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
WORDS = (
    "minister treaty border embassy ceasefire parliament",
    "goal coach striker season penalty league",
    "shares profit market bank merger investor",
    "software galaxy chip robot genome browser",
)
MAX_TOKENS = 16
MODES = ("frozen", "top", "full")
QUICK = {"batch_size": 16, "learning_rate": 0.03, "encoder_dropout": False, "dropout": 0.0, "top_layers": 1}

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

Texts = list[str | bytes]


@dataclass(frozen=True)
class World:
    """What is handed to ``run_fn``."""

    root: Path
    transform_graph: str
    patterns: list[str]
    encoder: dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """What it left."""

    mode: str
    node: Path
    model: Path
    history: dict[str, Any]
    classify: Callable[[Texts], dict[str, np.ndarray]]


def make_texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"The {' and the '.join(rng.choice(WORDS[number % 4].split(), 3))}." for number in range(count)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A Transform graph of the tiny vocabulary, rows that went through it, and the tiny encoder."""
    root = tmp_path_factory.mktemp("run")
    saved = write_saved_encoder(root / "saved", hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
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
    for split, count in (("train", 96), ("eval", 24)):
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
        vocabulary_digest=settings["vocabulary_digest"],
        lower_case=True,
    )
    patterns = [str(root / "examples" / f"Split-{split}" / "*") for split in ("eval", "train")]
    return World(root, str(root / "transform_graph"), patterns, encoder.to_dict())


def to_example(text: str | bytes | None = None, **ids: list[int]) -> bytes:
    """Returns a serialized example with the bytes feature ``text``, or with int64 features instead."""
    feature = {name: tf.train.Feature(int64_list=tf.train.Int64List(value=value)) for name, value in ids.items()}
    if text is not None:
        value = text if isinstance(text, bytes) else text.encode()
        feature["text"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def train(world: World, node: Path, **settings: Any) -> Path:
    """Calls ``run_fn`` as the Trainer node at a place does; returns the directory of the exported model."""
    config = BertConfig(max_tokens=MAX_TOKENS, **(QUICK | settings))
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
    return node / "model" / "1" / "Format-Serving"


def read_history(node: Path) -> dict[str, Any]:
    return json.loads((node / "model_run" / "1" / "history.json").read_text(encoding="utf-8"))


def read_variables(model: Path) -> dict[str, np.ndarray]:
    """Returns every variable of a SavedModel under its place in it."""
    reader = tf.train.load_checkpoint(str(model / "variables" / "variables"))
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]
    return {name: reader.get_tensor(name) for name in names}


@pytest.fixture(scope="module", params=MODES)
def trained(world: World, request: pytest.FixtureRequest) -> Trained:
    node = world.root / request.param
    settings = {"head_epochs": 40, "head_learning_rate": 0.05} if request.param == "frozen" else {"epochs": 4}
    model = train(world, node, train=request.param, **settings)
    signature = tf.saved_model.load(str(model)).signatures["serving_default"]

    def classify(texts: Texts) -> dict[str, np.ndarray]:
        return {name: output.numpy() for name, output in signature(text=tf.constant(texts, tf.string)).items()}

    return Trained(request.param, node, model, read_history(node), classify)


def check_answers(answers: dict[str, np.ndarray], count: int) -> None:
    """Checks one batch of answers by what every answer must be."""
    probabilities = answers["probabilities"]
    assert probabilities.shape == (count, len(CLASSES))
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), np.ones(count), atol=1e-5)
    assert answers["label_id"].tolist() == probabilities.argmax(axis=1).tolist()
    assert [label.decode() for label in answers["label"]] == [CLASSES[number] for number in answers["label_id"]]


def test_it_has_learned_and_says_so(trained: Trained) -> None:
    texts = make_texts(40, seed=7)
    answers = trained.classify(texts)
    check_answers(answers, 40)
    right = np.mean([label.decode() == CLASSES[number % 4] for number, label in enumerate(answers["label"])])
    assert right > (0.7 if trained.mode == "frozen" else 0.95)
    epochs = trained.history["epochs"]
    assert len(epochs) == (40 if trained.mode == "frozen" else 4)
    assert trained.history["steps"] == 6 * len(epochs)
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    best = epochs[trained.history["best_epoch"] - 1]
    assert (0.6 if trained.mode == "frozen" else 0.9) < best["eval_accuracy"] <= 23 / 24


def test_history_counts_the_weights_of_the_whole_model(trained: Trained, world: World) -> None:
    encoder = tf.saved_model.load(world.encoder["training"])
    parameters = sum(int(np.prod(variable.shape)) for variable in encoder.variables)
    assert trained.history["parameters"] == parameters + 8 * len(CLASSES) + len(CLASSES)


def test_exported_weights_are_those_that_learned(trained: Trained, world: World) -> None:
    exported = list(read_variables(trained.model).values())
    encoder = tf.saved_model.load(world.encoder["training"])

    def kept(variable: tf.Variable) -> bool:
        return any(np.array_equal(variable, other) for other in exported)

    moved = {variable.name for variable in encoder.variables if not kept(variable)}
    still = {variable.name for variable in encoder.variables} - moved
    layers = {number: {name for name in moved if f"layer_{number}/" in name} for number in range(2)}
    assert {name for name in still if "pooler" in name} == {"pooler/kernel:0", "pooler/bias:0"}
    assert (len(layers[0]), len(layers[1])) == {"frozen": (0, 0), "top": (0, 12), "full": (12, 12)}[trained.mode]
    assert len(moved) == {"frozen": 0, "top": 12, "full": 29}[trained.mode]


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


def test_it_loads_with_tensorflow_and_text_alone(trained: Trained, tmp_path: Path) -> None:
    if trained.mode != "top":
        pytest.skip("the same program for every mode")
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


@pytest.mark.parametrize(
    "settings",
    [
        {"train": "frozen", "head_epochs": 3, "head_learning_rate": 0.01},
        {"train": "top", "epochs": 3},
        {"train": "full", "epochs": 3, "pooling": "pooled", "hidden": 5},
    ],
    ids=["frozen", "top", "full"],
)
def test_a_killed_fit_ends_as_if_it_had_not_been(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
) -> None:
    whole = read_variables(train(world, tmp_path / "whole", **settings))
    write = Checkpoints.write

    def write_and_die(*arguments: Any) -> None:
        write(*arguments)
        raise KeyboardInterrupt

    node = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            train(world, node, **settings)
    assert len(list((node / "checkpoints").iterdir())) == 1
    assert not (node / "model").exists()

    caplog.set_level(logging.INFO, "newsdesk.trainer")
    resumed = read_variables(train(world, node, **settings))
    said = [record.message.partition(":")[0] for record in caplog.records if record.name == "newsdesk.trainer"]
    assert [line for line in said if "epoch" in line] == ["resumed after epoch 1", "epoch 2 of 3", "epoch 3 of 3"]
    assert list((node / "checkpoints").iterdir()) == []
    assert set(resumed) == set(whole)
    for name, value in whole.items():
        np.testing.assert_allclose(resumed[name], value, atol=1e-6, err_msg=name)
    histories = [read_history(place) for place in (node, tmp_path / "whole")]
    for history in histories:
        for epoch in history["epochs"]:
            del epoch["seconds"]
    assert histories[0]["epochs"] == [pytest.approx(epoch, rel=1e-5) for epoch in histories[1]["epochs"]]
    assert histories[0]["steps"] == histories[1]["steps"] == 18


def test_a_checkpoint_of_other_settings_is_not_resumed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write_and_die(self: Checkpoints, *arguments: Any) -> None:
        write(self, *arguments)
        raise KeyboardInterrupt

    write = Checkpoints.write
    settings = {"train": "frozen", "head_epochs": 2}
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            train(world, tmp_path, **settings)
    caplog.set_level(logging.INFO, "newsdesk.trainer")
    train(world, tmp_path, **(settings | {"pooling": "pooled"}))
    assert not [record for record in caplog.records if "resumed" in record.message]
    assert len(read_history(tmp_path)["epochs"]) == 2


def test_the_model_of_serving_gets_the_weights(world: World, tmp_path: Path) -> None:
    """What is exported computes as ``serving`` does, with what was learned in ``training``."""
    half = write_saved_encoder(tmp_path / "half", precision="bfloat16")
    settings = {"train": "top", "epochs": 1}
    answers = {}
    for serving in (world.encoder["serving"], str(half)):
        place = tmp_path / Path(serving).name
        other = World(world.root, world.transform_graph, world.patterns, world.encoder | {"serving": serving})
        model = train(other, place / "node", **settings)
        signature = tf.saved_model.load(str(model)).signatures["serving_default"]
        answers[serving] = signature(text=tf.constant(TEXTS))["probabilities"].numpy()
    whole, rough = answers.values()
    assert 1e-5 < np.abs(whole - rough).max() < 0.1
