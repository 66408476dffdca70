"""The table of model families: a third one is one more line here and a folder beside ``trainers/transformer``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.source_digest import source_digest

Prepared = dict[str, Any]
"""What a family brought into place before the graph starts, as plain values."""


@dataclass(frozen=True)
class Downloads:
    """How a family may bring things into place.

    Attributes:
        cache: Directory of all downloads.
        environment: Environment variables.
        say: Called with one line per step.
        progress: Called with the bytes that are there and the bytes there will be.
    """

    cache: Path
    environment: Mapping[str, str]
    say: Callable[[str], None]
    progress: Callable[[int, int | None], None] | None = None


@dataclass(frozen=True)
class Family:
    """How the graph reaches a family.

    Attributes:
        preprocessing_fn, run_fn: Dotted names, resolved where a node runs.
        prepare: Brings into place what the nodes need and may not fetch.
        transform_config, trainer_config: What these two nodes are handed.
    """

    preprocessing_fn: str
    run_fn: str
    prepare: Callable[[Config, Downloads], Prepared]
    transform_config: Callable[[Config, Prepared], dict[str, Any]]
    trainer_config: Callable[[Config, Prepared], dict[str, Any]]

    @staticmethod
    def module(function: str) -> str:
        """Returns the module of a dotted function name."""
        return function.rpartition(".")[0]


def _prepare_encoder(config: Config, downloads: Downloads) -> Prepared:
    from trainers.bert.encoders import prepare_encoder

    code = source_digest("trainers.bert.convert")
    where = downloads
    return prepare_encoder(config.bert, where.cache, where.environment, code, where.say, where.progress).to_dict()


FAMILIES = {
    "transformer": Family(
        preprocessing_fn="components.transform.preprocessing_fn",
        run_fn="trainers.transformer.run.run_fn",
        prepare=lambda config, downloads: {},
        # A warm start keeps the champion's vocabulary: its weights are of those words.
        transform_config=lambda config, prepared: (
            config.text.model_dump()
            | {name: value for name, value in prepared.get("warm_start", {}).items() if name.startswith("vocabulary")}
        ),
        trainer_config=lambda config, prepared: {
            "model": config.transformer.model_dump(),
            "vocab_size": config.text.vocab_size,
            "max_tokens": config.text.max_tokens,
        },
    ),
    "bert": Family(
        preprocessing_fn="components.wordpiece.preprocessing_fn",
        run_fn="trainers.bert.run.run_fn",
        prepare=_prepare_encoder,
        transform_config=lambda config, prepared: {
            "vocabulary": prepared["vocabulary"],
            "vocabulary_digest": prepared["vocabulary_digest"],
            "lower_case": prepared["lower_case"],
            "max_tokens": config.bert.max_tokens,
            "clean": config.bert.clean,
        },
        trainer_config=lambda config, prepared: {
            "model": config.bert.model_dump(),
            "encoder": {name: value for name, value in prepared.items() if name != "warm_start"},
        },
    ),
}
