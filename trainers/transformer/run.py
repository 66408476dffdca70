"""Adapter between TFX's Trainer node and the transformer family."""

from pathlib import Path

import tensorflow_transform as tft
import tf_keras
from tfx.components.trainer.fn_args_utils import FnArgs

from components.files import sha256_of
from trainers.fit import fit
from trainers.task import Task
from trainers.transformer.config import TransformerConfig
from trainers.transformer.model import TABLES, begin_with_counts, build
from trainers.warm_start import warm_start

VOCABULARY = "vocabulary"
"""Name of Transform's asset, as in ``components.text.transform``."""


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports; ``custom_config`` holds ``model``, ``vocab_size``, ``max_tokens`` and ``classes``."""
    task = Task.open(fn_args)
    config = TransformerConfig.model_validate(task.settings["model"])
    tf_keras.utils.set_random_seed(config.seed)
    model = build(config, task.settings["vocab_size"], task.settings["max_tokens"], len(task.classes))
    begin_with_counts(config, model, task.train)
    vocabulary = Path(tft.TFTransformOutput(fn_args.transform_graph_path).vocabulary_file_by_name(VOCABULARY))
    warm_start(model, task.settings.get("warm_start"), sha256_of(vocabulary))
    history = fit(model, config, task.train, task.held_out, TABLES, checkpoints=task.checkpoints)
    task.finish(model, history)
