"""Adapter between TFX's Trainer node and the transformer family."""

import tf_keras
from tfx.components.trainer.fn_args_utils import FnArgs

from trainers.fit import fit
from trainers.task import Task
from trainers.transformer.config import TransformerConfig
from trainers.transformer.model import TABLES, build


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports; ``custom_config`` holds ``model``, ``vocab_size``, ``max_tokens`` and ``classes``."""
    task = Task.open(fn_args)
    config = TransformerConfig.model_validate(task.settings["model"])
    tf_keras.utils.set_random_seed(config.seed)
    model = build(config, task.settings["vocab_size"], task.settings["max_tokens"], len(task.classes))
    history = fit(model, config, task.train, task.held_out, TABLES, checkpoints=task.checkpoints)
    task.finish(model, history)
