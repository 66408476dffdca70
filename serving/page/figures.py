"""The test figures of a pushed model, from the front matter of the card beside it."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from components.errors import BadInputError
from components.file_names import CARD_FILE

_FENCE = "---"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Metric(_Frozen):
    """One measured number.

    Attributes:
        type: The field's name for it, such as ``accuracy``.
        name: The same for people.
        value: What was measured.
    """

    type: str
    name: str
    value: FiniteFloat


class Dataset(_Frozen):
    """What was measured on: its name, and which split."""

    name: str
    split: str


class Figures(_Frozen):
    """What a model reached on one data set."""

    dataset: Dataset
    metrics: list[Metric]


class _Evaluated(BaseModel):
    results: list[Figures] = Field(min_length=1)


class _FrontMatter(BaseModel):
    model_index: list[_Evaluated] = Field(alias="model-index", min_length=1)


def read_figures(version_dir: Path) -> Figures:
    """Returns the test figures of a version.

    Args:
        version_dir: Directory of the version.

    Raises:
        BadInputError: There is no card, or none that says how good the model is.
    """
    card = version_dir / CARD_FILE
    try:
        text = card.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInputError(
            f"version {version_dir.name} has no {CARD_FILE}: newsdesk run pushes models with one"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(version_dir) from error
    begin, found, rest = text.partition(f"{_FENCE}\n")
    front, ended, _ = rest.partition(f"\n{_FENCE}\n")
    if begin or not found or not ended:
        raise _damaged(version_dir)
    try:
        return _FrontMatter.model_validate(yaml.safe_load(front)).model_index[0].results[0]
    except (yaml.YAMLError, ValidationError, RecursionError) as error:
        raise _damaged(version_dir) from error


def _damaged(version_dir: Path) -> BadInputError:
    return BadInputError(f"{CARD_FILE} of version {version_dir.name} does not say how good the model is: push it again")
