"""Tests of bringing an encoder into place: from wherever it comes, once, and only if it fits."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tiny_bert import VOCABULARY, write_checkpoint, write_saved_encoder, write_vocabulary

from components.errors import BadInputError
from trainers.bert.checkpoint import read_architecture
from trainers.bert.config import BertConfig, Encoder
from trainers.bert.convert import INPUTS
from trainers.bert.encoders import _choose_precision, prepare_encoder
from trainers.bert.saved import inspect_encoder
from trainers.family import Downloads

CASED = (*VOCABULARY[:-1], "Brows")
QUERY = "?tf-hub-format=compressed"
# A checkpoint's two SavedModels would take twice the time.
FLOAT32 = {"precision": "float32", "top_layers": 2, "max_tokens": 16}

# Kills itself in the middle of a conversion that takes its time.
KILLED = """
import os, signal, sys, types
from pathlib import Path

def convert(checkpoint, vocabulary, lower_case, precision, target):
    target.mkdir()
    (target / "saved_model.pb").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

sys.modules["trainers.bert.convert"] = types.SimpleNamespace(convert=convert)
from trainers.bert.config import BertConfig
from trainers.bert.encoders import prepare_encoder
config = BertConfig(encoder=sys.argv[1], precision="float32", top_layers=2, max_tokens=16)
from trainers.family import Downloads
prepare_encoder(config, Downloads(Path(sys.argv[2]), {}, code_digest=lambda *modules: "code"))
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_saved_encoder(tmp_path_factory.mktemp("encoders") / "saved")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A SavedModel of the test's own."""
    return Path(shutil.copytree(saved, tmp_path / "saved"))


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., Encoder]:
    """Calls ``prepare_encoder`` with a cache of the test's own."""

    def call(
        encoder: str | Path,
        code_digest: str = "code",
        said: list[str] | None = None,
        environment: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> Encoder:
        config = BertConfig(encoder=str(encoder), **({"top_layers": 2, "max_tokens": 16} | changes))
        say = said.append if said is not None else lambda _: None
        return prepare_encoder(config, Downloads(tmp_path / "cache", environment or {}, say, lambda *_: code_digest))

    return call


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces the conversion by one that takes no time; notes the precision of each."""
    done: list[str] = []

    def convert(checkpoint: Path, vocabulary: Path, lower_case: bool, precision: str, target: Path) -> None:
        done.append(precision)
        target.mkdir()
        (target / "saved_model.pb").write_text(f"{checkpoint.name} {lower_case} {precision} {len(done)}")

    monkeypatch.setattr("trainers.bert.convert.convert", convert)
    return done


def refused(call: Callable[[], Any], *words: str) -> None:
    """Checks that it ends with one sentence that holds the words."""
    with pytest.raises(BadInputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def tree(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def converted(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "encoders" / "converted"


def answer(directory: str) -> Any:
    """Returns what a SavedModel makes of two pieces."""
    ids = tf.constant([[2, 3]])
    outputs = tf.saved_model.load(directory)(
        dict.fromkeys(INPUTS, ids * 0 + 1) | {"input_word_ids": ids}, training=False
    )
    return outputs["sequence_output"].numpy().tolist()


def test_a_checkpoint_becomes_a_saved_model_in_the_cache(
    prepare: Callable[..., Encoder], checkpoint: Path, saved: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    encoder = prepare(checkpoint, said=said, precision="float32")
    assert Path(encoder.training).parent == converted(tmp_path)
    assert encoder.serving == encoder.training
    assert answer(encoder.training) == answer(str(saved))
    assert (encoder.name, encoder.precision, encoder.lower_case) == (str(checkpoint), "float32", True)
    assert encoder.vocabulary == str(checkpoint / "vocab.txt")
    assert encoder.vocabulary_digest == sha256(checkpoint / "vocab.txt")
    assert len(encoder.digest) == 64
    assert said == [f"converting {checkpoint} to a SavedModel in float32"]
    assert not [name for name in tree(tmp_path / "cache") if ".tmp" in name]


def test_a_saved_model_is_used_where_it_lies(prepare: Callable[..., Encoder], copy: Path, tmp_path: Path) -> None:
    encoder = prepare(copy)
    assert (encoder.training, encoder.serving, encoder.precision) == (str(copy), str(copy), "as saved")
    assert encoder.vocabulary == str(copy / "assets" / "vocab.txt")
    assert encoder.vocabulary_digest == sha256(encoder.vocabulary)
    assert encoder.lower_case is True
    assert not (tmp_path / "cache").exists()


def test_a_vocabulary_beside_a_saved_model_goes_before_its_asset(prepare: Callable[..., Encoder], copy: Path) -> None:
    path = write_vocabulary(copy / "vocab.txt", (*VOCABULARY[:-1], "tomorrow"))
    assert prepare(copy).vocabulary == str(path)


def test_a_handle_is_fetched_once(prepare: Callable[..., Encoder], saved: Path, web: Any, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(saved, arcname=".")
    web.pages[f"/tiny/1{QUERY}"] = ("application/gzip", packed.getvalue())
    handle = web.url("/tiny/1")
    encoder = prepare(handle)
    place = tmp_path / "cache" / "encoders" / "hub" / hashlib.sha1(handle.encode()).hexdigest()
    assert (encoder.name, encoder.training, encoder.serving) == (handle, str(place), str(place))
    assert encoder.vocabulary == str(place / "assets" / "vocab.txt")
    assert answer(encoder.training) == answer(str(saved))
    assert prepare(handle) == encoder
    assert web.paths() == [f"/tiny/1{QUERY}"]


def test_an_encoder_survives_json(prepare: Callable[..., Encoder], conversions: list[str], checkpoint: Path) -> None:
    encoder = prepare(checkpoint)
    assert Encoder(**json.loads(json.dumps(asdict(encoder)))) == encoder


@pytest.mark.parametrize(
    ("precision", "serving", "done"),
    [
        ("float32", "float32", ["float32"]),
        ("bfloat16", "bfloat16", ["bfloat16"]),
        ("bfloat16", "float32", ["bfloat16", "float32"]),
        ("float32", "bfloat16", ["bfloat16", "float32"]),
    ],
)
def test_each_precision_is_converted_once(
    prepare: Callable[..., Encoder],
    conversions: list[str],
    checkpoint: Path,
    precision: str,
    serving: str,
    done: list[str],
) -> None:
    for _ in range(2):
        encoder = prepare(checkpoint, precision=precision, serving_precision=serving)
        assert encoder.precision == precision
        for directory, wanted in ((encoder.training, precision), (encoder.serving, serving)):
            assert (Path(directory) / "saved_model.pb").read_text().split()[2] == wanted
        assert sorted(conversions) == done


def test_what_is_in_the_cache_is_used_again(
    prepare: Callable[..., Encoder], conversions: list[str], checkpoint: Path
) -> None:
    said: list[str] = []
    first = prepare(checkpoint, **FLOAT32)
    for path in checkpoint.iterdir():
        os.utime(path, (1, 1))
    assert prepare(checkpoint, said=said, **(FLOAT32 | {"top_layers": 1, "max_tokens": 12, "train": "full"})) == first
    assert (conversions, said) == (["float32"], [])


@pytest.mark.parametrize(
    "change",
    [
        lambda directory: write_checkpoint(directory, seed=1),
        lambda directory: write_checkpoint(directory, hidden_act="relu"),
        lambda directory: write_vocabulary(directory / "vocab.txt", (*VOCABULARY[:-1], "tomorrow")),
        None,
    ],
    ids=["weights", "config", "vocabulary", "code"],
)
def test_what_changed_is_converted_again(
    prepare: Callable[..., Encoder], conversions: list[str], checkpoint: Path, change: Callable[[Path], Any] | None
) -> None:
    first = prepare(checkpoint, **FLOAT32)
    if change:
        change(checkpoint)
    second = prepare(checkpoint, code_digest="code" if change else "newer", **FLOAT32)
    assert conversions == ["float32"] * 2
    assert second.training != first.training
    # Who follows the encoder by its digest notices a change of the encoder, not of the code.
    assert (second.digest == first.digest) == (change is None)


CHANGED = "changed while it was read: run again once nobody writes there"


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "model.safetensors", "tokenizer_config.json"])
def test_a_checkpoint_that_changes_while_it_is_converted_is_not_kept(
    prepare: Callable[..., Encoder], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def convert(*arguments: Any) -> None:
        arguments[-1].mkdir()
        (checkpoint / name).write_bytes(b"another")

    monkeypatch.setattr("trainers.bert.convert.convert", convert)
    refused(lambda: prepare(checkpoint, **FLOAT32), f"{checkpoint} {CHANGED}")
    assert [path for path in converted(tmp_path).iterdir() if path.is_dir()] == []


def test_a_vocabulary_that_changes_beside_a_converted_encoder_is_refused(
    prepare: Callable[..., Encoder], conversions: list[str], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the cache was made of another vocabulary than Transform would read."""
    prepare(checkpoint, **FLOAT32)

    def read(directory: Path) -> Any:
        write_vocabulary(directory / "vocab.txt", (*VOCABULARY[:-1], "tomorrow"))
        return read_architecture(directory)

    monkeypatch.setattr("trainers.bert.encoders.read_architecture", read)
    refused(lambda: prepare(checkpoint, **FLOAT32), f"{checkpoint} {CHANGED}")


def test_a_saved_model_that_changes_while_it_is_tried_is_refused(
    prepare: Callable[..., Encoder], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspect(directory: Path, max_tokens: int) -> Any:
        found = inspect_encoder(directory, max_tokens)
        (directory / "variables" / "variables.index").write_bytes(b"another")
        return found

    monkeypatch.setattr("trainers.bert.saved.inspect_encoder", inspect)
    refused(lambda: prepare(copy), f"{copy} {CHANGED}")


def test_a_converted_encoder_that_is_named_itself_tokenises_as_its_checkpoint(
    prepare: Callable[..., Encoder], checkpoint: Path
) -> None:
    settings = {"strip_accents": False, "tokenize_chinese_chars": False, "model_max_length": 20}
    first = prepare(checkpoint, precision="float32")
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    second = prepare(checkpoint, precision="float32")
    again = prepare(second.training)
    assert (again.strip_accents, again.tokenize_chinese_chars) == (False, False)
    assert (again.lower_case, again.vocabulary_digest) == (second.lower_case, second.vocabulary_digest)
    refused(lambda: prepare(second.training, max_tokens=21), "model_max_length is 20")
    # That of the checkpoint as it was before keeps the defaults.
    assert (prepare(first.training).strip_accents, prepare(first.training).tokenize_chinese_chars) == (None, True)


def test_weights_and_vocabulary_of_a_saved_model_count(prepare: Callable[..., Encoder], copy: Path) -> None:
    digests = [prepare(copy).digest]
    write_vocabulary(copy / "assets" / "vocab.txt", (*VOCABULARY[:-1], "tomorrow"))
    digests.append(prepare(copy).digest)
    write_vocabulary(copy / "assets" / "vocab.txt")
    assert prepare(copy).digest == digests[0]
    shutil.rmtree(copy)
    write_saved_encoder(copy, seed=1)
    digests.append(prepare(copy).digest)
    assert len(set(digests)) == 3


def test_a_conversion_that_fails_leaves_nothing(
    prepare: Callable[..., Encoder], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(*arguments: Any) -> None:
        arguments[-1].mkdir()
        (arguments[-1] / "saved_model.pb").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("trainers.bert.convert.convert", convert)
    with pytest.raises(KeyboardInterrupt):
        prepare(checkpoint, **FLOAT32)
    assert [path for path in converted(tmp_path).iterdir() if path.is_dir()] == []


def test_a_conversion_that_is_killed_is_done_again(
    prepare: Callable[..., Encoder], conversions: list[str], checkpoint: Path, tmp_path: Path
) -> None:
    program = [sys.executable, "-c", KILLED, str(checkpoint), str(tmp_path / "cache")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (half,) = [path for path in converted(tmp_path).iterdir() if path.is_dir()]
    assert half.name.startswith(".")
    encoder = prepare(checkpoint, **FLOAT32)
    assert conversions == ["float32"]
    assert [path for path in converted(tmp_path).iterdir() if path.is_dir()] == [Path(encoder.training)]
    assert half.name.startswith(f".{Path(encoder.training).name}.")
    assert (Path(encoder.training) / "saved_model.pb").read_text() == "checkpoint True float32 1"


@pytest.mark.parametrize(
    ("setting", "tokenizer", "pieces", "lower_case"),
    [
        (None, None, VOCABULARY, True),
        (None, None, CASED, False),
        (None, {"do_lower_case": True}, VOCABULARY, True),
        (None, {"do_lower_case": False}, CASED, False),
        (None, {"strip_accents": None}, CASED, False),
        (None, {"do_lower_case": None}, VOCABULARY, True),
        (True, {"do_lower_case": False}, VOCABULARY, True),
        (False, {"do_lower_case": True}, CASED, False),
    ],
)
def test_casing_is_as_set_or_said_or_seen(
    prepare: Callable[..., Encoder],
    conversions: list[str],
    checkpoint: Path,
    setting: bool | None,
    tokenizer: dict[str, Any] | None,
    pieces: tuple[str, ...],
    lower_case: bool,
) -> None:
    write_vocabulary(checkpoint / "vocab.txt", pieces)
    if tokenizer is not None:
        (checkpoint / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    encoder = prepare(checkpoint, lower_case=setting, **FLOAT32)
    assert encoder.lower_case is lower_case
    assert (Path(encoder.training) / "saved_model.pb").read_text().split()[1] == f"{lower_case}"


@pytest.mark.parametrize("kind", ["checkpoint", "copy"])
def test_settings_of_the_tokenizer_are_handed_on(
    prepare: Callable[..., Encoder], request: pytest.FixtureRequest, saved: Path, conversions: list[str], kind: str
) -> None:
    # ``saved`` is a real SavedModel, made before conversions are pretended.
    directory = request.getfixturevalue(kind)
    found = prepare(directory)
    assert (found.strip_accents, found.tokenize_chinese_chars) == (None, True)
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps({"strip_accents": False, "tokenize_chinese_chars": False}))
    found = prepare(directory)
    assert (found.strip_accents, found.tokenize_chinese_chars) == (False, False)
    path.write_text(json.dumps({"do_basic_tokenize": False}))
    refused(lambda: prepare(directory), f"{path}: do_basic_tokenize is false, and only true is supported")


@pytest.mark.parametrize("cased", [True, False])
def test_a_saved_model_says_its_casing(prepare: Callable[..., Encoder], tmp_path: Path, cased: bool) -> None:
    pieces = CASED if cased else VOCABULARY
    directory = write_saved_encoder(tmp_path / "saved", lower_case=not cased, vocabulary=pieces)
    assert prepare(directory).lower_case is not cased
    # What it says goes before what its vocabulary looks like, and contradicts it here.
    write_vocabulary(directory / "vocab.txt", VOCABULARY if cased else CASED)
    refused(lambda: prepare(directory), str(directory / "vocab.txt"), "bert.lower_case=")


@pytest.mark.parametrize(
    "encoder", ["minilm-l7", "no/such/directory", "bert-base-uncased", "a" * 300, "~nobody-here/x"]
)
def test_an_unknown_name_is_refused(prepare: Callable[..., Encoder], encoder: str) -> None:
    refused(lambda: prepare(encoder), f"{encoder!r}", "bert.encoder", "minilm-l6 or small-bert", "directory")


def test_a_file_is_no_encoder(prepare: Callable[..., Encoder], checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    refused(lambda: prepare(path), f"{str(path)!r}", "directory")


def test_a_directory_without_an_encoder_is_refused(prepare: Callable[..., Encoder], checkpoint: Path) -> None:
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (checkpoint / name).unlink()
        refused(lambda: prepare(checkpoint), f"{checkpoint} holds no encoder", "saved_model.pb", "config.json")


@pytest.mark.parametrize("kind", ["checkpoint", "copy"])
def test_an_encoder_without_a_vocabulary_is_refused(
    prepare: Callable[..., Encoder], request: pytest.FixtureRequest, kind: str
) -> None:
    directory = request.getfixturevalue(kind)
    for path in directory.rglob("vocab.txt"):
        path.unlink()
    refused(lambda: prepare(directory), f"{directory} has no vocab.txt", "assets")


@pytest.mark.parametrize("kind", ["checkpoint", "copy"])
@pytest.mark.parametrize("pieces", [VOCABULARY[:-1], (*VOCABULARY, "tomorrow")], ids=["shorter", "longer"])
def test_a_vocabulary_of_another_encoder_is_refused(
    prepare: Callable[..., Encoder], request: pytest.FixtureRequest, kind: str, pieces: tuple[str, ...]
) -> None:
    directory = request.getfixturevalue(kind)
    path = write_vocabulary(directory / "vocab.txt", pieces)
    refused(lambda: prepare(directory), f"{path} has {len(pieces)} pieces", f"{len(VOCABULARY)} rows")


@pytest.mark.parametrize("kind", ["checkpoint", "copy"])
def test_a_broken_vocabulary_is_refused(
    prepare: Callable[..., Encoder], request: pytest.FixtureRequest, kind: str
) -> None:
    directory = request.getfixturevalue(kind)
    path = write_vocabulary(directory / "vocab.txt", (*VOCABULARY[:-1], "coach"))
    refused(lambda: prepare(directory), f"{path}", "'coach' twice")


@pytest.mark.parametrize(
    ("setting", "tokenizer", "pieces", "words"),
    [
        (True, None, CASED, ("is cased", "bert.lower_case=false")),
        (None, {"do_lower_case": True}, CASED, ("is cased", "bert.lower_case=false")),
        (True, {"do_lower_case": False}, CASED, ("is cased", "bert.lower_case=false")),
        (False, None, VOCABULARY, ("no upper-case letter", "bert.lower_case=true")),
        (None, {"do_lower_case": False}, VOCABULARY, ("no upper-case letter", "bert.lower_case=true")),
    ],
)
def test_casing_that_contradicts_the_vocabulary_is_refused(
    prepare: Callable[..., Encoder],
    conversions: list[str],
    checkpoint: Path,
    setting: bool | None,
    tokenizer: dict[str, Any] | None,
    pieces: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    path = write_vocabulary(checkpoint / "vocab.txt", pieces)
    if tokenizer:
        (checkpoint / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    refused(lambda: prepare(checkpoint, lower_case=setting), str(path), *words)
    assert conversions == []


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"true", b"", b"[" * 100_000])
def test_a_damaged_tokenizer_config_is_refused(
    prepare: Callable[..., Encoder], checkpoint: Path, content: bytes
) -> None:
    path = checkpoint / "tokenizer_config.json"
    path.write_bytes(content)
    refused(lambda: prepare(checkpoint), f"{path} is not a JSON object")


@pytest.mark.parametrize("kind", ["checkpoint", "copy"])
def test_more_layers_than_there_are_are_refused(
    prepare: Callable[..., Encoder], request: pytest.FixtureRequest, conversions: list[str], kind: str
) -> None:
    directory = request.getfixturevalue(kind)
    refused(lambda: prepare(directory, top_layers=3), "bert.top_layers is 3", f"{directory} has 2 layers")
    assert conversions == []
    for train in ("full", "frozen"):
        prepare(directory, top_layers=3, train=train)


@pytest.mark.parametrize("kind", ["checkpoint", "copy"])
def test_more_tokens_than_there_are_positions_are_refused(
    prepare: Callable[..., Encoder], request: pytest.FixtureRequest, conversions: list[str], kind: str
) -> None:
    directory = request.getfixturevalue(kind)
    prepare(directory, max_tokens=32)
    refused(lambda: prepare(directory, max_tokens=33), "33", str(directory), "bert.max_tokens")


@pytest.mark.parametrize(
    ("setting", "value"), [("precision", "float32"), ("precision", "bfloat16"), ("serving_precision", "bfloat16")]
)
def test_the_precision_of_a_saved_model_cannot_be_set(
    prepare: Callable[..., Encoder], saved: Path, setting: str, value: str
) -> None:
    refused(lambda: prepare(saved, **{setting: value}), f"bert.{setting} is {value}", str(saved), "when it was saved")


def test_a_checkpoint_that_is_not_whole_is_refused(
    prepare: Callable[..., Encoder], checkpoint: Path, tmp_path: Path
) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    refused(lambda: prepare(checkpoint), f"{path} is truncated")
    path.rename(checkpoint / "pytorch_model.bin")
    refused(lambda: prepare(checkpoint), f"{path} is missing", "safetensors format", "pickled weights")
    assert not [path for path in converted(tmp_path).rglob("*") if path.is_dir()]


def write_text_model(directory: Path, answer: Callable[[tf.Tensor], Any], name: str = "table") -> Path:
    """Writes a model that takes what a text encoder takes, looks it up, and answers as it is told to."""
    table = tf.Variable(tf.ones((len(VOCABULARY), 4)), name=name)

    @tf.function(autograph=False)
    def call(inputs: dict[str, tf.Tensor], training: bool = False) -> Any:
        return answer(tf.gather(table, inputs["input_word_ids"]))

    model = tf.train.Checkpoint()
    model.__call__ = call
    spec = {name: tf.TensorSpec((None, None), tf.int32, name=name) for name in INPUTS}
    for training in (True, False):
        call.get_concrete_function(spec, training=training)
    model.variables = model.trainable_variables = [table]
    tf.saved_model.save(model, str(directory))
    write_vocabulary(directory / "vocab.txt")
    return directory


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        (lambda states: states, "pooled_output of rank 2"),
        (lambda states: {"sequence_output": states, "default": states[:, 0]}, "pooled_output of rank 2"),
        (lambda states: {"pooled_output": states[:, 0]}, "sequence_output of rank 3"),
        (lambda states: {"pooled_output": states[:, 0], "sequence_output": states[:, 0]}, "sequence_output of rank 3"),
        (lambda states: {"pooled_output": states, "sequence_output": states}, "pooled_output of rank 2"),
    ],
    ids=["no_dict", "no_pooled", "no_sequence", "flat_sequence", "deep_pooled"],
)
def test_a_model_with_other_outputs_is_refused(
    prepare: Callable[..., Encoder], tmp_path: Path, answer: Callable[[tf.Tensor], Any], missing: str
) -> None:
    directory = write_text_model(tmp_path / "saved", answer)
    refused(lambda: prepare(directory), f"{directory} does not return {missing}", "text encoder")


def test_a_model_that_takes_something_else_is_refused(prepare: Callable[..., Encoder], tmp_path: Path) -> None:
    model = tf.train.Checkpoint(table=tf.Variable(tf.ones(3)))
    model.__call__ = tf.function(tf.strings.length, input_signature=[tf.TensorSpec([None], tf.string)])
    model.trainable_variables = [model.table]
    tf.saved_model.save(model, str(tmp_path / "saved"))
    write_vocabulary(tmp_path / "saved" / "vocab.txt")
    refused(lambda: prepare(tmp_path / "saved"), str(tmp_path / "saved"), ", ".join(INPUTS), "text encoder")


def test_a_model_that_cannot_be_called_is_refused(prepare: Callable[..., Encoder], tmp_path: Path) -> None:
    tf.saved_model.save(tf.train.Checkpoint(table=tf.Variable(tf.ones(3))), str(tmp_path / "saved"))
    write_vocabulary(tmp_path / "saved" / "vocab.txt")
    refused(lambda: prepare(tmp_path / "saved"), f"{tmp_path / 'saved'} is no TF2 SavedModel", "fine-tuned")


def test_a_model_whose_names_tell_no_layer_cannot_be_trained_from_the_top(
    prepare: Callable[..., Encoder], tmp_path: Path
) -> None:
    directory = write_text_model(
        tmp_path / "saved", lambda states: {"pooled_output": states[:, 0], "sequence_output": states}
    )
    refused(lambda: prepare(directory, top_layers=1), str(directory), "which layer", "bert.train", "full or frozen")
    for train in ("full", "frozen"):
        encoder = prepare(directory, train=train)
        assert (encoder.training, encoder.lower_case) == (str(directory), True)


def test_a_saved_model_without_its_variables_is_refused(prepare: Callable[..., Encoder], copy: Path) -> None:
    shutil.rmtree(copy / "variables")
    refused(lambda: prepare(copy), f"{copy} cannot be loaded", "fetch it again")


def test_a_saved_model_that_reads_files_is_refused_before_it_is_loaded(
    prepare: Callable[..., Encoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(states: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.io.read_file("/etc/hostname")]):
            return {"pooled_output": states[:, 0] + 0, "sequence_output": states}

    directory = write_text_model(tmp_path / "saved", answer)
    monkeypatch.setattr(tf.saved_model, "load", lambda _: pytest.fail("loaded"))
    refused(lambda: prepare(directory), str(directory), "ReadFile")


CPU = "processor : {}\nmodel name : A processor\nflags : fpu sse4_2 {}\nbugs : spectre_v1\n"


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("avx2 avx512f", "float32"),
        ("avx2 avx512f avx512_bf16", "bfloat16"),
        ("avx2 amx_bf16 amx_tile", "bfloat16"),
        ("avx2 amx_tile avx512_bf16x", "float32"),
        ("", "float32"),
    ],
)
def test_precision_is_half_where_the_processor_has_it(tmp_path: Path, flags: str, precision: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("\n".join(CPU.format(number, flags) for number in range(2)))
    assert _choose_precision("auto", path) == precision
    for wanted in ("float32", "bfloat16"):
        assert _choose_precision(wanted, path) == wanted


def test_precision_is_whole_where_the_processor_is_unknown(tmp_path: Path) -> None:
    assert _choose_precision("auto", tmp_path / "cpuinfo") == "float32"


def test_auto_precision_goes_by_this_processor(
    prepare: Callable[..., Encoder], conversions: list[str], checkpoint: Path
) -> None:
    encoder = prepare(checkpoint, precision="auto")
    assert encoder.precision == _choose_precision("auto")
    assert sorted(conversions) == sorted({encoder.precision, "float32"})
