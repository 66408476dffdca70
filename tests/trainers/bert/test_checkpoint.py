"""Tests of reading a checkpoint directory: what is in it, and that whatever is wrong with it is named."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_bert import ARCHITECTURE, make_tensors, write_checkpoint

from components.errors import BadInputError
from trainers.bert.checkpoint import ACTIVATIONS, Architecture, read_architecture, read_tensors

QUERY = "encoder.layer.1.attention.self.query.weight"
SIZES = Architecture(**ARCHITECTURE)
# ``pickle.loads`` of it makes a directory of this name.
PICKLE = b"cposix\nmkdir\n(S'unpickled'\ntR."


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


def refused(read: Callable[[], Any], *words: str) -> None:
    """Checks that the reading ends with one sentence that holds the words."""
    with pytest.raises(BadInputError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    assert "  " not in message
    for word in words:
        assert word in message


def change_config(directory: Path, **changes: Any) -> Path:
    """Rewrites ``config.json`` without a look at the weights; ``None`` drops a key."""
    path = directory / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return path


def change_tensors(directory: Path, change: Callable[[dict[str, np.ndarray]], object]) -> Path:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return path


def test_a_config_gives_the_sizes_of_the_encoder(checkpoint: Path) -> None:
    found = read_architecture(checkpoint)
    assert found.model_dump() == {name: ARCHITECTURE.get(name, False) for name in Architecture.model_fields}
    assert len(Architecture.model_fields) >= len(ARCHITECTURE) - 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_the_list_is_taken(checkpoint: Path, activation: str) -> None:
    change_config(checkpoint, hidden_act=activation)
    assert read_architecture(checkpoint).hidden_act == activation


def test_what_old_configs_leave_out_is_what_the_reference_takes_for_granted(checkpoint: Path) -> None:
    change_config(
        checkpoint,
        model_type=None,
        layer_norm_eps=None,
        hidden_dropout_prob=None,
        attention_probs_dropout_prob=None,
        position_embedding_type=None,
    )
    found = read_architecture(checkpoint)
    assert (found.layer_norm_eps, found.hidden_dropout_prob, found.attention_probs_dropout_prob) == (1e-12, 0.1, 0.1)
    assert found.position_embedding_type == "absolute"


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    refused(lambda: read_architecture(tmp_path), str(tmp_path / "config.json"), "cannot be read")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"{'model_type': 'bert'}", "not JSON"),
        (b'{"model_type": "bert"', "not JSON"),
        (b'\xff\xfe{"', "cannot be read"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"12", "not a JSON object"),
    ],
)
def test_a_config_that_is_no_json_object_is_named(checkpoint: Path, content: bytes, words: str) -> None:
    path = checkpoint / "config.json"
    path.write_bytes(content)
    refused(lambda: read_architecture(checkpoint), str(path), words)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model_type", "roberta", ("model_type", "'roberta'", "'bert'")),
        ("hidden_act", "silu", ("hidden_act", "'silu'", "gelu, gelu_new, gelu_pytorch_tanh, relu")),
        ("position_embedding_type", "relative_key", ("position_embedding_type", "'relative_key'", "'absolute'")),
        ("is_decoder", True, ("decoder",)),
        ("add_cross_attention", True, ("decoder",)),
        ("num_attention_heads", 3, ("hidden_size 8", "3 attention heads")),
        ("hidden_act", 7, ("hidden_act",)),
        ("hidden_size", None, ("hidden_size", "required")),
        ("hidden_size", 0, ("hidden_size",)),
        ("num_hidden_layers", 0, ("num_hidden_layers",)),
        ("num_attention_heads", -2, ("num_attention_heads",)),
        ("vocab_size", "many", ("vocab_size",)),
        ("intermediate_size", 16.5, ("intermediate_size",)),
        ("max_position_embeddings", 1, ("max_position_embeddings",)),
        ("type_vocab_size", [], ("type_vocab_size",)),
        ("layer_norm_eps", 0, ("layer_norm_eps",)),
        ("layer_norm_eps", float("nan"), ("layer_norm_eps",)),
        ("hidden_dropout_prob", 1.0, ("hidden_dropout_prob",)),
        ("attention_probs_dropout_prob", -0.1, ("attention_probs_dropout_prob",)),
    ],
)
def test_a_config_of_something_else_is_refused(
    checkpoint: Path, key: str, value: object, words: tuple[str, ...]
) -> None:
    path = change_config(checkpoint, **{key: value})
    refused(lambda: read_architecture(checkpoint), str(path), *words)


def test_another_architecture_is_named_though_its_sizes_have_other_names(checkpoint: Path) -> None:
    sizes = {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16, "activation": "gelu", "vocab_size": 40}
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "distilbert", **sizes}))
    refused(lambda: read_architecture(checkpoint), "model_type", "'distilbert'")


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("old_names", [False, True], ids=["weight_and_bias", "gamma_and_beta"])
def test_tensors_are_found_under_either_name(tmp_path: Path, prefix: str, old_names: bool) -> None:
    write_checkpoint(tmp_path, prefix=prefix, old_names=old_names)
    assert ("LayerNorm.gamma" in " ".join(load_file(tmp_path / "model.safetensors"))) == old_names
    found, expected = read_tensors(tmp_path, SIZES), make_tensors()
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def test_other_tensors_are_left_out(checkpoint: Path) -> None:
    def add_head(tensors: dict[str, np.ndarray]) -> None:
        tensors["cls.predictions.bias"] = np.full(40, np.nan, np.float32)
        tensors["embeddings.position_ids"] = np.arange(32)

    change_tensors(checkpoint, add_head)
    assert set(read_tensors(checkpoint, SIZES)) == set(make_tensors())


def test_half_precision_becomes_float32(checkpoint: Path) -> None:
    def halve(tensors: dict[str, np.ndarray]) -> None:
        tensors[QUERY] = tensors[QUERY].astype(np.float16)

    change_tensors(checkpoint, halve)
    tensor = read_tensors(checkpoint, SIZES)[QUERY]
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, make_tensors()[QUERY].astype(np.float16))


@pytest.mark.parametrize("name", make_tensors())
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    tensors = make_tensors()
    del tensors[name]
    write_checkpoint(tmp_path, tensors=tensors)
    refused(lambda: read_tensors(tmp_path, SIZES), str(tmp_path / "model.safetensors"), f"lacks tensor {name},")


@pytest.mark.parametrize("name", make_tensors())
def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path: Path, name: str) -> None:
    tensors = make_tensors()
    right = tensors[name].shape
    wrong = (right[0] + 1, *right[1:])
    tensors[name] = np.zeros(wrong, np.float32)
    write_checkpoint(tmp_path, prefix="bert.", tensors=tensors)
    path = tmp_path / "model.safetensors"
    refused(lambda: read_tensors(tmp_path, SIZES), str(path), f"tensor bert.{name} ", f"{wrong}", f"{right}")


def test_a_transposed_tensor_is_refused(checkpoint: Path) -> None:
    name = "encoder.layer.0.intermediate.dense.weight"
    change_tensors(checkpoint, lambda tensors: tensors.update({name: np.ascontiguousarray(tensors[name].T)}))
    refused(lambda: read_tensors(checkpoint, SIZES), name, "(8, 16)", "(16, 8)")


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.01, 0.2, 0.5, 0.9, 0.9999])
def test_truncated_weights_are_refused(checkpoint: Path, share: float) -> None:
    path = checkpoint / "model.safetensors"
    content = path.read_bytes()
    kept = int(len(content) * share)
    path.write_bytes(content[:kept])
    refused(lambda: read_tensors(checkpoint, SIZES), f"{path} is truncated or no safetensors file")


def test_weights_with_something_behind_them_are_refused(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes() + bytes(8))
    refused(lambda: read_tensors(checkpoint, SIZES), str(path), "no safetensors file")


@pytest.mark.parametrize("content", [bytes(4096), b"\xff" * 4096, struct.pack("<Q", 1 << 60), b"PK\x03\x04" * 99])
def test_weights_that_are_something_else_are_refused(checkpoint: Path, content: bytes) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(content)
    refused(lambda: read_tensors(checkpoint, SIZES), f"{path} is truncated or no safetensors file")


def test_a_pickled_checkpoint_is_refused_unread(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = checkpoint / "model.safetensors"
    path.rename(checkpoint / "away")
    (checkpoint / "pytorch_model.bin").write_bytes(PICKLE)
    refused(lambda: read_tensors(checkpoint, SIZES), f"{path} is missing", "safetensors", "pickled weights")
    path.write_bytes(PICKLE)
    refused(lambda: read_tensors(checkpoint, SIZES), f"{path} is truncated or no safetensors file")
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["embeddings.word_embeddings.weight", QUERY, "pooler.dense.bias"])
def test_a_number_that_is_none_is_refused(checkpoint: Path, name: str, value: float) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors[name].flat[-1] = value

    path = change_tensors(checkpoint, spoil)
    refused(lambda: read_tensors(checkpoint, SIZES), f"{path}: tensor {name} holds NaN or infinite numbers")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_numbers_of_eight_bits_are_refused_with_their_format(tmp_path: Path, dtype: str) -> None:
    header, size = {}, 0
    for name, tensor in make_tensors().items():
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [size, size + tensor.size]}
        size += tensor.size
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    refused(lambda: read_tensors(tmp_path, SIZES), str(path), "number format", "float8", "save it as float32")
