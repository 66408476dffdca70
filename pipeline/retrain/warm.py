"""Whether a run may begin with the champion's weights: only if ids mean the same words in both."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from components.errors import BadInputError

VOCABULARY_ASSET = "assets/vocabulary"
"""Where the transformer's export holds the vocabulary that Transform made."""


@dataclass(frozen=True)
class WarmStart:
    """What a run begins with.

    Attributes:
        prepared: What the graph is handed: ``warm_start`` with ``model``, ``vocabulary_digest`` and, where Transform
            must not make a vocabulary of its own, ``vocabulary``; empty for new weights.
        sentence: The same in words.
    """

    sentence: str
    prepared: dict[str, Any] = field(default_factory=dict)


def plan_warm_start(
    model: Path,
    tags: Mapping[str, str],
    family: str,
    prepared: Mapping[str, Any],
    otherwise: Literal["refuse", "from scratch"],
) -> WarmStart:
    """Returns how to begin with a pushed model.

    The transformer learns its vocabulary from the data, so a new window would make another one; it is handed the
    champion's instead. BERT's belongs to its encoder and must be the champion's already.

    Args:
        model: SavedModel directory of the champion.
        tags: Of its MLflow run: ``model_family``, and for BERT ``prepared.vocabulary_digest``.
        family: Of the run.
        prepared: What the family's ``prepare`` returned.
        otherwise: What to do where it is impossible.

    Raises:
        BadInputError: It is impossible, and ``otherwise`` is ``refuse``.
    """
    why = None
    if tags.get("model_family") != family:
        why = f"the champion is of family {tags.get('model_family', 'unknown')} and not {family}"
    elif not (model / "variables").is_dir():
        why = f"the champion's weights are no longer in {model}"
    elif family == "bert":
        digest = tags.get("prepared.vocabulary_digest", "")
        if digest != prepared["vocabulary_digest"]:
            why = f"the champion's vocabulary is not that of {prepared['name']}"
        entry = {"model": str(model), "vocabulary_digest": digest}
    else:
        vocabulary = model / VOCABULARY_ASSET
        if vocabulary.is_file():
            digest = hashlib.sha256(vocabulary.read_bytes()).hexdigest()
            entry = {"model": str(model), "vocabulary": str(vocabulary), "vocabulary_digest": digest}
        else:
            why = f"the champion's vocabulary is not at {vocabulary}"
    if why is None:
        return WarmStart(f"begins with the weights and the vocabulary of {model}", {"warm_start": entry})
    if otherwise == "refuse":
        raise BadInputError(
            f"no warm start: {why} (set retrain.vocabulary='from scratch', or retrain.warm_start=false)"
        )
    return WarmStart(f"begins from scratch: {why}")
