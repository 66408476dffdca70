"""Adapter between TFX's Trainer node and the BERT family."""

from dataclasses import replace

import tensorflow_text  # noqa: F401  registers the ops of the transform graph
import tf_keras
from tfx.components.trainer.fn_args_utils import FnArgs

from components.text.vocabulary import read_vocabulary
from trainers.bert.config import BertConfig, Encoder
from trainers.bert.model import TABLES, build, encode, trained_variables
from trainers.fit import fit
from trainers.task import Task
from trainers.warm_start import warm_start


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports; ``custom_config`` holds ``model``, ``encoder`` and ``classes``."""
    task = Task.open(fn_args)
    config = BertConfig.model_validate(task.settings["model"])
    encoder = Encoder(**task.settings["encoder"])
    tf_keras.utils.set_random_seed(config.seed)
    vocab_size = len(read_vocabulary(encoder.vocabulary))
    model = build(config, encoder.training, vocab_size, len(task.classes))
    warm_start(model.whole, task.settings.get("warm_start"), encoder.vocabulary_digest)
    if config.train == "frozen":
        train, held_out = encode(model.encoder, task.train, "train"), encode(model.encoder, task.held_out, "eval")
        history = fit(model.head, config.head_fit(), train, held_out, TABLES, checkpoints=task.checkpoints)
        history = replace(history, parameters=model.whole.count_params())
    else:
        learning = trained_variables(config, model.whole)
        history = fit(model.whole, config, task.train, task.held_out, TABLES, learning, task.checkpoints)
    served = build(config, encoder.serving, vocab_size, len(task.classes)).whole
    served.set_weights(model.whole.get_weights())
    task.finish(served, history)
