"""Champion: brings the version that serves, and what its run kept, into the graph as an artifact."""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component

from components.artifacts import Champion as ChampionArtifact
from components.file_names import CHAMPION_FILE
from components.records import ChampionRecord, write_record
from components.registry.registry import CHAMPION, Registry
from components.registry.tracking import Store

MODEL_DIR = "model"


def fetch_champion(registry: Registry, target: Path) -> ChampionRecord:
    """Copies the champion's model, and what was kept beside it, to ``target``, and writes ``champion.json`` last.

    Raises:
        BadInputError: The store does not answer, or has lost the model.
    """
    found = registry.with_alias(CHAMPION)
    if found is None:
        record = ChampionRecord(None, None, None, f"{registry.name} has no champion yet")
    else:
        target.mkdir(parents=True, exist_ok=True)
        registry.download(found, target)
        number = str(found.serving_version) if found.serving_version is not None else None
        record = ChampionRecord(number, found.version, found.run_id, f"version {number} of {registry.name} serves")
    write_record(target, CHAMPION_FILE, record)
    return record


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
    versions = Registry(Store(store, None), name)
    versions.check_unmoved(registry)
    fetch_champion(versions, Path(champion.uri))
