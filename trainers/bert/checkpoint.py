"""Reads a Hugging Face BERT checkpoint directory and checks it against what its own ``config.json`` promises."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.errors import BadInputError
from components.settings import describe

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
_PREFIX = "bert."
_OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


class Architecture(BaseModel):
    """The sizes of a BERT encoder, under the names of ``config.json``."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    vocab_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    hidden_act: str
    max_position_embeddings: int = Field(ge=2)
    type_vocab_size: int = Field(ge=1)
    layer_norm_eps: float = Field(1e-12, gt=0)
    hidden_dropout_prob: float = Field(0.1, ge=0, lt=1)
    attention_probs_dropout_prob: float = Field(0.1, ge=0, lt=1)
    position_embedding_type: str = "absolute"
    is_decoder: bool = False
    add_cross_attention: bool = False


def read_architecture(directory: Path) -> Architecture:
    """Returns what ``config.json`` says.

    Raises:
        BadInputError: The file is missing or malformed, or describes something that is not a BERT encoder.
    """
    path = directory / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read: name a directory with a BERT checkpoint") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadInputError(f"{path} is not JSON ({error}): fetch the checkpoint again") from error
    if not isinstance(values, dict):
        raise BadInputError(f"{path} is not a JSON object: fetch the checkpoint again")
    # Before the sizes, which other architectures give other names.
    if (model_type := values.get("model_type", "bert")) != "bert":
        raise BadInputError(f"{path}: model_type is {model_type!r}, and only 'bert' can be converted")
    try:
        found = Architecture.model_validate(values)
    except ValidationError as error:
        raise BadInputError(f"{path}: {describe(error)}") from error
    if found.hidden_act not in ACTIVATIONS:
        raise BadInputError(f"{path}: hidden_act is {found.hidden_act!r}, not one of {', '.join(ACTIVATIONS)}")
    if found.position_embedding_type != "absolute":
        raise BadInputError(
            f"{path}: position_embedding_type is {found.position_embedding_type!r}, and only 'absolute' is supported"
        )
    if found.is_decoder or found.add_cross_attention:
        raise BadInputError(f"{path} describes a decoder: only encoders can classify")
    if found.hidden_size % found.num_attention_heads:
        raise BadInputError(
            f"{path}: hidden_size {found.hidden_size} is no multiple of {found.num_attention_heads} attention heads"
        )
    return found


def weights_file(directory: Path) -> Path:
    """Returns the path of the weights; raises ``BadInputError`` if there is none."""
    path = directory / WEIGHTS_FILE
    if not path.is_file():
        raise BadInputError(
            f"{path} is missing: save the checkpoint in the safetensors format; pickled weights are not read"
        )
    return path


def read_tensors(directory: Path, architecture: Architecture) -> dict[str, np.ndarray]:
    """Returns every tensor of the encoder, float32, under its name without the prefix ``bert.``.

    Tensors of pre-training heads are left out. Read with the safetensors library, which executes nothing.

    Raises:
        BadInputError: The file is missing, truncated or malformed; a tensor is missing or has another shape than
            ``config.json`` asks for.
    """
    from safetensors import SafetensorError, safe_open

    path = weights_file(directory)
    tensors = {}
    try:
        with safe_open(path, framework="numpy") as file:
            present = set(file.keys())
            for name, shape in _expected(architecture):
                stored = _stored_name(name, present)
                if stored is None:
                    raise BadInputError(f"{path} lacks tensor {name}, which {CONFIG_FILE} asks for")
                found = tuple(file.get_slice(stored).get_shape())
                if found != shape:
                    raise BadInputError(
                        f"{path}: tensor {stored} has shape {found}, and {CONFIG_FILE} asks for {shape}"
                    )
                tensors[name] = np.asarray(file.get_tensor(stored), np.float32)
    except (SafetensorError, OSError) as error:
        raise BadInputError(f"{path} is truncated or no safetensors file ({error}): fetch it again") from error
    except (TypeError, AttributeError) as error:
        raise BadInputError(f"{path} holds a number format that numpy lacks ({error}): save it as float32") from error
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise BadInputError(f"{path}: tensor {name} holds NaN or infinite numbers: fetch the checkpoint again")
    return tensors


def _expected(sizes: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields name and shape of each tensor; a dense layer's weight is [out, in]."""
    width, inner = sizes.hidden_size, sizes.intermediate_size
    yield "embeddings.word_embeddings.weight", (sizes.vocab_size, width)
    yield "embeddings.position_embeddings.weight", (sizes.max_position_embeddings, width)
    yield "embeddings.token_type_embeddings.weight", (sizes.type_vocab_size, width)
    yield from _weight_and_bias("embeddings.LayerNorm", width)
    for number in range(sizes.num_hidden_layers):
        layer = f"encoder.layer.{number}."
        for part in ("query", "key", "value"):
            yield from _weight_and_bias(f"{layer}attention.self.{part}", width, width)
        yield from _weight_and_bias(f"{layer}attention.output.dense", width, width)
        yield from _weight_and_bias(f"{layer}attention.output.LayerNorm", width)
        yield from _weight_and_bias(f"{layer}intermediate.dense", inner, width)
        yield from _weight_and_bias(f"{layer}output.dense", width, inner)
        yield from _weight_and_bias(f"{layer}output.LayerNorm", width)
    yield from _weight_and_bias("pooler.dense", width, width)


def _weight_and_bias(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _stored_name(name: str, present: set[str]) -> str | None:
    """Checkpoints of models with a head prefix every name; the oldest call a norm's weights gamma and beta."""
    old = name
    for new, former in _OLD_NAMES.items():
        old = old.replace(new, former)
    candidates = (name, _PREFIX + name, old, _PREFIX + old)
    return next((item for item in candidates if item in present), None)
