"""Begins with the weights of a model that was exported before, instead of new ones."""

import logging
import math
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow.core.protobuf import trackable_object_graph_pb2

from components.errors import BadInputError

_ADVICE = "retrain with the settings that it was made with, or set retrain.warm_start=false"
_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_log = logging.getLogger("newsdesk.trainer")


def read_weights(model: Path | str) -> dict[str, np.ndarray]:
    """Returns the variables of a SavedModel by the name that they had in the model it was made of.

    Only the file of variables is read: nothing of the model runs. Names that more than one variable has are left out.

    Args:
        model: SavedModel directory, on any file system that TensorFlow knows.

    Raises:
        BadInputError: There are no variables, or they are damaged.
    """
    try:
        reader = tf.train.load_checkpoint(f"{model}/variables/variables")
        graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(_GRAPH))
        places: dict[str, set[str]] = {}
        for node in graph.nodes:
            for attribute in node.attributes:
                places.setdefault(attribute.full_name, set()).add(attribute.checkpoint_key)
        return {name: reader.get_tensor(*keys) for name, keys in places.items() if name and len(keys) == 1}
    except (tf.errors.OpError, IndexError, ValueError, RuntimeError) as error:
        raise BadInputError(
            f"the weights of {model} cannot be read ({' '.join(str(error).split())[:100]}): set "
            "retrain.warm_start=false, or promote another version"
        ) from error


def load_weights(model: tf_keras.Model, weights: dict[str, np.ndarray], where: Path | str) -> int:
    """Gives every variable of a built model the value of the one of its name; all of them, or it raises.

    Args:
        model: Built.
        weights: What ``read_weights`` returned.
        where: They are from, for the error.

    Returns:
        The number of parameters that came over.

    Raises:
        BadInputError: One has no counterpart or another shape; the model is then as it was.
    """
    names = [variable.name.partition(":")[0] for variable in model.variables]
    for name, variable in zip(names, model.variables, strict=True):
        if name not in weights:
            raise BadInputError(f"{where} has no weight {name}, so this model cannot begin with it: {_ADVICE}")
        if weights[name].shape != tuple(variable.shape):
            raise BadInputError(
                f"weight {name} of {where} has the shape {list(weights[name].shape)}, not {variable.shape.as_list()}: "
                f"{_ADVICE}"
            )
    for name, variable in zip(names, model.variables, strict=True):
        variable.assign(weights[name])
    count = sum(math.prod(variable.shape) for variable in model.variables)
    _log.info("begins with %s parameters of %s", f"{count:,}", where)
    return count


def warm_start(model: tf_keras.Model, settings: dict[str, str] | None, vocabulary_digest: str) -> None:
    """Loads what the Trainer's ``custom_config`` names under ``warm_start``; None for new weights.

    Args:
        model: Built, its weights new.
        settings: ``model``, a SavedModel directory, and ``vocabulary_digest``, of the vocabulary it was trained with.
        vocabulary_digest: SHA-256 in hex of the vocabulary of this run.

    Raises:
        BadInputError: The vocabularies differ, so that ids would mean other words; or as of the functions above.
    """
    if not settings:
        return
    if settings["vocabulary_digest"] != vocabulary_digest:
        raise BadInputError(
            f"the vocabulary of {settings['model']} is not that of this run, so its weights mean other words: "
            "set retrain.warm_start=false"
        )
    load_weights(model, read_weights(settings["model"]), settings["model"])
