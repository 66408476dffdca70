"""The table of model families: a third one is one more line here and a folder beside ``trainers/transformer``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.config import Config


@dataclass(frozen=True)
class Family:
    """How the graph reaches a family.

    Attributes:
        preprocessing_fn, run_fn: Dotted names, resolved where a node runs.
        transform_config, trainer_config: The parts of a configuration that concern these two nodes.
    """

    preprocessing_fn: str
    run_fn: str
    transform_config: Callable[[Config], dict[str, Any]]
    trainer_config: Callable[[Config], dict[str, Any]]

    @staticmethod
    def module(function: str) -> str:
        """Returns the module of a dotted function name."""
        return function.rpartition(".")[0]


FAMILIES = {
    "transformer": Family(
        preprocessing_fn="components.transform.preprocessing_fn",
        run_fn="trainers.transformer.run.run_fn",
        transform_config=lambda config: config.text.model_dump(),
        trainer_config=lambda config: {
            "model": config.transformer.model_dump(),
            "vocab_size": config.text.vocab_size,
            "max_tokens": config.text.max_tokens,
        },
    ),
}
