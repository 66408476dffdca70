"""Adapter between TFX's Trainer node and the transformer family."""

from pathlib import Path
from typing import Any

import tensorflow_transform as tft
import tf_keras
from tfx.components.trainer.fn_args_utils import FnArgs

from components import features
from trainers.export import export
from trainers.fit import fit
from trainers.input import read_rows, split_pattern
from trainers.transformer.config import TransformerConfig
from trainers.transformer.model import TABLES, build


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports; ``custom_config`` holds ``model``, ``vocab_size``, ``max_tokens`` and ``classes``."""
    custom: dict[str, Any] = fn_args.custom_config
    config = TransformerConfig.model_validate(custom["model"])
    classes = tuple(custom["classes"])
    tf_keras.utils.set_random_seed(config.seed)
    model = build(config, custom["vocab_size"], custom["max_tokens"], len(classes))
    history = fit(
        model,
        config,
        read_rows(split_pattern(fn_args.train_files, features.TRAIN)),
        read_rows(split_pattern(fn_args.eval_files, features.EVAL)),
        TABLES,
    )
    transform = tft.TFTransformOutput(fn_args.transform_graph_path).transform_features_layer()
    export(model, transform, classes, fn_args.serving_model_dir)
    run_dir = Path(fn_args.model_run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    history.save(run_dir / features.HISTORY_FILE)
