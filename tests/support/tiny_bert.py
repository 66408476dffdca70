"""A BERT of two layers and width 8 in the layout of Hugging Face, for the words of the tiny world.

Made of numpy and safetensors alone, so that the reference library's environment can import it too.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

ARCHITECTURE: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "hidden_act": "gelu",
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "position_embedding_type": "absolute",
}

# Words of the four classes, some of them in two pieces.
TOPICS = (
    ("minister", "treaty", "bord", "embassy", "cease", "##fire", "parliament"),
    ("goal", "coach", "strik", "season", "penalty", "league"),
    ("share", "profit", "market", "bank", "merg", "invest"),
    ("soft", "##ware", "galaxy", "chip", "robot", "genome", "brows"),
)
VOCABULARY = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", "the", "and", "report", "today", "##s", "##er", "##or"),
    *(piece for topic in TOPICS for piece in topic),
)


def make_tensors(seed: int = 0, architecture: Mapping[str, Any] = ARCHITECTURE) -> dict[str, np.ndarray]:
    """Returns random tensors under their Hugging Face names; large, so that a misplaced one shows.

    Args:
        seed: Of all numbers.
        architecture: The sizes, as in ``config.json``.
    """
    rng = np.random.default_rng(seed)
    width, inner = architecture["hidden_size"], architecture["intermediate_size"]
    dense = {
        "attention.self.query": (width, width),
        "attention.self.key": (width, width),
        "attention.self.value": (width, width),
        "attention.output.dense": (width, width),
        "intermediate.dense": (inner, width),
        "output.dense": (width, inner),
    }
    tensors = {
        f"embeddings.{name}_embeddings.weight": rng.normal(0, 0.5, (architecture[size], width))
        for name, size in (
            ("word", "vocab_size"),
            ("position", "max_position_embeddings"),
            ("token_type", "type_vocab_size"),
        )
    }
    norms = ["embeddings.LayerNorm"]
    for number in range(architecture["num_hidden_layers"]):
        layer = f"encoder.layer.{number}."
        for name, shape in dense.items():
            tensors[f"{layer}{name}.weight"] = rng.normal(0, 0.5, shape)
            tensors[f"{layer}{name}.bias"] = rng.normal(0, 0.5, shape[:1])
        norms += [f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm"]
    for name in norms:
        tensors[f"{name}.weight"] = rng.normal(1, 0.5, width)
        tensors[f"{name}.bias"] = rng.normal(0, 0.5, width)
    tensors["pooler.dense.weight"] = rng.normal(0, 0.5, (width, width))
    tensors["pooler.dense.bias"] = rng.normal(0, 0.5, width)
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def make_learned_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Returns tensors as if they had been learned: words of one class are neighbours, and layers change little."""
    tensors = make_tensors(seed)
    for name, tensor in tensors.items():
        if name.startswith("encoder.") and "LayerNorm" not in name:
            tensor *= 0.3
    table = tensors["embeddings.word_embeddings.weight"]
    for number, topic in enumerate(TOPICS):
        for piece in topic:
            table[VOCABULARY.index(piece), 2 * number : 2 * number + 2] += 5
    return tensors


def write_checkpoint(
    directory: Path,
    *,
    prefix: str = "",
    old_names: bool = False,
    seed: int = 0,
    tensors: Mapping[str, np.ndarray] | None = None,
    vocabulary: Sequence[str] = VOCABULARY,
    **changes: Any,
) -> Path:
    """Writes ``config.json``, ``vocab.txt`` and ``model.safetensors`` and returns the directory.

    Args:
        directory: Made if missing.
        prefix: Before every tensor's name, as in checkpoints of models with a head.
        old_names: Whether a norm's weights are called gamma and beta.
        seed: Of the tensors.
        tensors: Replaces those of ``make_tensors``; names are still changed as above.
        vocabulary: The pieces.
        changes: Of ``config.json``; the tensors follow.
    """
    directory.mkdir(parents=True, exist_ok=True)
    architecture = ARCHITECTURE | changes
    stored = {}
    for name, tensor in (make_tensors(seed, architecture) if tensors is None else tensors).items():
        if old_names:
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        stored[prefix + name] = np.ascontiguousarray(tensor)
    save_file(stored, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(architecture, indent=1), encoding="utf-8")
    write_vocabulary(directory / "vocab.txt", vocabulary)
    return directory


def write_vocabulary(path: Path, pieces: Sequence[str] = VOCABULARY) -> Path:
    """Writes a ``vocab.txt`` and returns its path."""
    path.write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    return path


def write_saved_encoder(
    directory: Path, *, lower_case: bool = True, precision: str = "float32", **checkpoint: Any
) -> Path:
    """Writes the SavedModel of a tiny checkpoint, through the converter, and returns the directory.

    Args:
        directory: Where to write.
        lower_case: What the encoder says of its vocabulary.
        precision: Of its arithmetic.
        checkpoint: What ``write_checkpoint`` takes.
    """
    from trainers.bert.convert import convert

    with tempfile.TemporaryDirectory() as temporary:
        source = write_checkpoint(Path(temporary) / "checkpoint", **checkpoint)
        convert(source, source / "vocab.txt", lower_case, precision, directory)
    return directory
