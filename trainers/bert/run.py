"""Adapter between TFX's Trainer node and the BERT family."""

from dataclasses import replace
from pathlib import Path

import tensorflow_text  # noqa: F401  registers the ops of the transform graph
import tf_keras
from tfx.components.trainer.fn_args_utils import FnArgs

from components.text.vocabulary import read_vocabulary
from trainers.bert.config import AS_SAVED, BertConfig, Encoder
from trainers.bert.digest import encoder_digest
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
    vocab_size = len(read_vocabulary(encoder.vocabulary, encoder.vocabulary_digest))
    _check(encoder)
    model = build(config, encoder.training, vocab_size, len(task.classes))
    _check(encoder)  # or its checkpoints would be found again under this digest
    warm_start(model.whole, task.settings.get("warm_start"), encoder.vocabulary_digest)
    if config.train == "frozen":
        train, held_out = encode(model.encoder, task.train, "train"), encode(model.encoder, task.held_out, "eval")
        history = fit(model.head, config.head_fit(), train, held_out, TABLES, checkpoints=task.checkpoints)
        history = replace(history, parameters=model.whole.count_params())
    else:
        learning = trained_variables(config, model.whole)
        history = fit(model.whole, config, task.train, task.held_out, TABLES, learning, task.checkpoints)
    _check(encoder)
    served = build(config, encoder.serving, vocab_size, len(task.classes)).whole
    _check(encoder)
    served.set_weights(model.whole.get_weights())
    task.finish(served, history)


def _check(encoder: Encoder) -> None:
    """Refuses an encoder that is read where it lies and is no longer what its digest says."""
    if encoder.precision == AS_SAVED:
        encoder_digest(Path(encoder.training), Path(encoder.vocabulary), encoder.digest)
