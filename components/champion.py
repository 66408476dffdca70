"""Champion: brings the version that serves, and what its run kept, into the graph as an artifact."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component

from components.artifacts import Champion as ChampionArtifact
from components.registry import CHAMPION, Registry
from components.tracking import Store

CHAMPION_FILE = "champion.json"
MODEL_DIR = "model"
PROFILE_FILE = "profile.json"
PREDICTIONS_FILE = "predictions.npz"


@dataclass(frozen=True)
class ChampionRecord:
    """Who serves.

    Attributes:
        serving_version: Directory it was pushed to; None where there is no champion.
        registry_version, mlflow_run_id: Where it is from.
        reason: The same in words.
    """

    serving_version: str | None
    registry_version: str | None
    mlflow_run_id: str | None
    reason: str


def fetch_champion(registry: Registry, target: Path) -> ChampionRecord:
    """Copies the champion's model, and what was kept beside it, to ``target``, and writes ``champion.json`` last.

    Raises:
        BadInputError: The store does not answer, or has lost the model.
    """
    found = registry.with_alias(CHAMPION)
    if found is None:
        record = ChampionRecord(None, None, None, f"{registry.name} has no champion yet")
    else:
        registry.download(found, target)
        number = str(found.serving_version) if found.serving_version is not None else None
        record = ChampionRecord(number, found.version, found.run_id, f"version {number} of {registry.name} serves")
    (target / CHAMPION_FILE).write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
    return record


def read_champion(directory: str | Path) -> ChampionRecord:
    """Reads what ``fetch_champion`` wrote."""
    return ChampionRecord(**json.loads(Path(directory, CHAMPION_FILE).read_text(encoding="utf-8")))


@component
def Champion(
    champion: OutputArtifact[ChampionArtifact],
    name: Parameter[str],
    store: Parameter[str],
    registry: Parameter[str],
    code_digest: Parameter[str],
) -> None:
    """Fetches the champion of the model ``name`` from MLflow at ``store``.

    ``registry`` is the state of the registry when the graph was made: an answer from the cache is never stale.
    """
    os.makedirs(champion.uri, exist_ok=True)
    fetch_champion(Registry(Store(store, None), name), Path(champion.uri))
