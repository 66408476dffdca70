"""What every family's ``run_fn`` does around its fit: reads the splits, knows the checkpoint, writes the results."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow_transform as tft
import tf_keras
from tfx.components.trainer.fn_args_utils import FnArgs

from components import features
from components.file_names import HISTORY_FILE
from trainers.checkpoints import Checkpoints
from trainers.export import TransformGraph, export
from trainers.fit import History
from trainers.input import Rows, read_rows, split_pattern


@dataclass(frozen=True)
class Task:
    """One execution of the Trainer node.

    Attributes:
        settings: The node's ``custom_config``.
        classes: Names in label-id order.
        train: Rows to learn from.
        held_out: Rows to choose the epoch on.
        checkpoints: Beside this node's outputs; found again by an execution on the same input.
    """

    fn_args: FnArgs
    settings: dict[str, Any]
    classes: tuple[str, ...]
    train: Rows
    held_out: Rows
    checkpoints: Checkpoints

    @classmethod
    def open(cls, fn_args: FnArgs) -> "Task":
        """Reads what the node was handed."""
        settings: dict[str, Any] = fn_args.custom_config
        train = split_pattern(fn_args.train_files, features.TRAIN)
        held_out = split_pattern(fn_args.eval_files, features.EVAL)
        node = os.path.dirname(os.path.dirname(fn_args.model_run_dir.rstrip("/")))
        return cls(
            fn_args,
            settings,
            tuple(settings["classes"]),
            read_rows(train),
            read_rows(held_out),
            Checkpoints(os.path.join(node, "checkpoints"), settings, train, held_out),
        )

    def finish(self, model: tf_keras.Model, history: History) -> None:
        """Exports the model, writes the history and gives the checkpoint up."""
        transform = tft.TFTransformOutput(self.fn_args.transform_graph_path).transform_savedmodel_dir
        export(model, TransformGraph(transform), self.classes, self.fn_args.serving_model_dir)
        run_dir = Path(self.fn_args.model_run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        history.save(run_dir / HISTORY_FILE)
        self.checkpoints.remove()
