"""Tries a SavedModel from elsewhere: does it have the interface of TF-Hub's text encoders, and what is in it?"""

from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
import tensorflow_text  # noqa: F401  an encoder may hold its ops

from components.errors import BadInputError
from trainers.bert.convert import INPUTS
from trainers.bert.model import depth

_OUTPUTS = {"pooled_output": 2, "sequence_output": 3}
"""Name to rank."""
_WORDS = "word_embeddings"


@dataclass(frozen=True)
class SavedEncoder:
    """What a SavedModel tells of itself; None where it does not."""

    layers: int
    vocab_size: int | None
    lower_case: bool | None


def inspect_encoder(directory: Path, max_tokens: int) -> SavedEncoder:
    """Loads a SavedModel and runs it once on a text of ``max_tokens`` pieces.

    Args:
        directory: Of the SavedModel; ``check_model_graph`` must have passed it.
        max_tokens: Longest text it will be given.

    Raises:
        BadInputError: It cannot be loaded, called or differentiated, or its outputs have other names or shapes.
    """
    try:
        loaded = tf.saved_model.load(str(directory))
    except Exception as error:
        raise BadInputError(f"{directory} cannot be loaded ({_first_line(error)}): fetch it again") from error
    if not callable(loaded) or not hasattr(loaded, "trainable_variables"):
        raise BadInputError(f"{directory} is no TF2 SavedModel that can be fine-tuned: choose a text encoder of TF-Hub")
    ids = tf.ones((1, max_tokens), tf.int32)
    try:
        outputs = loaded(dict.fromkeys(INPUTS, ids), training=False)
    except Exception as error:
        raise BadInputError(
            f"{directory} does not take {', '.join(INPUTS)} of {max_tokens} tokens ({_first_line(error)}): choose a "
            "text encoder of TF-Hub, or lower bert.max_tokens"
        ) from error
    for name, rank in _OUTPUTS.items():
        if not isinstance(outputs, dict) or name not in outputs or len(outputs[name].shape) != rank:
            raise BadInputError(f"{directory} does not return {name} of rank {rank}: choose a text encoder of TF-Hub")
    variables = loaded.trainable_variables
    words = [variable.shape[0] for variable in variables if _WORDS in variable.name]
    lower_case = getattr(loaded, "do_lower_case", None)
    return SavedEncoder(
        depth([variable.name for variable in variables]),
        words[0] if len(words) == 1 else None,
        bool(lower_case.numpy()) if isinstance(lower_case, tf.Variable) else None,
    )


def _first_line(error: Exception) -> str:
    return next(iter(f"{error}".strip().splitlines()), type(error).__name__)[:200]
