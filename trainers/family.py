"""What the pipeline knows of a model family; each describes itself in ``family.py`` of its own folder.

Neither this module nor those import TensorFlow: the command line and the configuration read them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from components.download import Progress
from components.settings import Settings

Prepared = dict[str, Any]
"""What a family brought into place before the graph starts, as plain values."""
Handed = dict[str, Any]
"""What a node is handed as its ``custom_config``: plain values."""
Say = Callable[[str], None]
"""Called with one line per step."""
Sections = TypeVar("Sections", bound=Settings)


@dataclass(frozen=True)
class Downloads:
    """How a family may bring things into place.

    Attributes:
        cache: Directory of all downloads.
        environment: Environment variables.
        code_digest: Returns the digest of the source of modules, so that what older code made is made again.
        progress: Told how far a download is.
    """

    cache: Path
    environment: Mapping[str, str]
    say: Say = lambda _: None
    code_digest: Callable[..., str] = lambda *modules: ""
    progress: Progress | None = None


@dataclass(frozen=True)
class Champion:
    """The model that serves, of the same family, with its weights in ``variables/``.

    Attributes:
        directory: SavedModel.
        tags: Of its MLflow run; what its family prepared is there as ``prepared.<name>``.
    """

    directory: Path
    tags: Mapping[str, str]


class NoWarmStartError(Exception):
    """A run cannot begin with the champion's weights; the message says why."""


@dataclass(frozen=True)
class Family(Generic[Sections]):
    """A model family.

    Attributes:
        sections: Has one field for each section of the configuration that is the family's own, with a default.
        epochs: Dotted key of the setting that says how often the train split is passed.
        summary: What a model of it is, as the beginning of a sentence, for the model card and the report.
        preprocessing_fn, run_fn: Dotted names of what Transform and Trainer call, resolved where a node runs.
        transform_config, trainer_config: What these two nodes are handed.
        warm_start: What a run that begins with the champion's weights is handed besides their place, under
            ``prepared["warm_start"]``; the Trainer finds it as ``warm_start``. Raises ``NoWarmStartError`` where the
            weights would mean something else.
        prepare: Brings into place what the nodes need and may not fetch.
    """

    sections: type[Sections]
    epochs: str
    summary: Callable[[Sections], str]
    preprocessing_fn: str
    run_fn: str
    transform_config: Callable[[Sections, Prepared], Handed]
    trainer_config: Callable[[Sections, Prepared], Handed]
    warm_start: Callable[[Sections, Prepared, Champion], Handed]
    prepare: Callable[[Sections, Downloads], Prepared] = lambda own, downloads: {}

    def of(self, config: object) -> Sections:
        """Returns the family's own sections of a configuration."""
        return self.sections.model_validate({name: getattr(config, name) for name in self.sections.model_fields})

    @staticmethod
    def module(function: str) -> str:
        """Returns the module of a dotted function name."""
        return function.rpartition(".")[0]
