"""The champion comes into the graph as an artifact; that there is none is recorded, and a lost one stops the run."""

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_stores import make_store, out_of_order

from components.artifacts import Champion as ChampionArtifact
from components.errors import BadInputError, GateRejectedError
from components.example_gen.source import SAMPLE_DIR, find_source
from components.file_names import CHAMPION_FILE, PREDICTIONS_FILE, PROFILE_FILE
from components.push.manifest import digest_of, hash_files, hash_model
from components.records import ChampionRecord, read_champion
from components.registry import champion as module
from components.registry.champion import MODEL_DIR, Champion, fetch_champion
from components.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, SERVING_VERSION, Registry
from components.registry.spool import Spool
from components.registry.tracking import Store, start_run
from pipeline.config.presets import make_config
from pipeline.graph import RegistryState, create_pipeline
from pipeline.workspace.place import open_workspace

NAME = "ag_news"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "workspace")


@pytest.fixture
def registry(store: Store, tmp_path: Path) -> Registry:
    """Two candidates; the first was pushed as version 4."""
    registry = Registry(store, NAME)
    for number in (1, 2):
        model = tmp_path / f"model{number}"
        model.mkdir()
        (model / "saved_model.pb").write_text(f"graph {number}")
        kept = {}
        for name in (PROFILE_FILE, PREDICTIONS_FILE):
            kept[name] = tmp_path / f"{number}-{name}"
            kept[name].write_text(f"{name} of {number}")
        with start_run(store, NAME, f"run-{number}", Spool(tmp_path / "spool")):
            pass
        registry.register(f"run-{number}", model, digest_of(hash_model(model)), "learnt", kept)
    registry.tag("1", {SERVING_VERSION: "4"})
    return registry


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def test_nobody_serves_before_the_first_promotion(registry: Registry, target: Path) -> None:
    registry.point(CHALLENGER, "1")
    registry.point(PREVIOUS, "2")
    record = fetch_champion(registry, target)
    assert record == ChampionRecord(None, None, None, "ag_news has no champion yet")
    assert read_champion(target) == record
    assert [path.name for path in target.iterdir()] == [CHAMPION_FILE]


def test_the_champion_comes_with_what_its_run_kept(registry: Registry, target: Path, tmp_path: Path) -> None:
    registry.point(CHAMPION, "1")
    registry.point(CHALLENGER, "2")
    record = fetch_champion(registry, target)
    run_id = registry.versions()[1].run_id
    assert record == ChampionRecord("4", "1", run_id, "version 4 of ag_news serves")
    assert read_champion(target) == record
    assert hash_files(target / MODEL_DIR) == hash_files(tmp_path / "model1")
    assert (target / PROFILE_FILE).read_text() == "profile.json of 1"
    assert (target / PREDICTIONS_FILE).read_text() == "predictions.npz of 1"
    assert {path.name for path in target.iterdir()} == {CHAMPION_FILE, MODEL_DIR, PROFILE_FILE, PREDICTIONS_FILE}


@pytest.mark.parametrize("fault", ["gone", "changed"])
def test_a_champion_that_is_lost_is_no_first_run(
    registry: Registry, store: Store, target: Path, tmp_path: Path, fault: str
) -> None:
    registry.point(CHAMPION, "1")
    run_id = registry.versions()[1].run_id
    (model,) = (tmp_path / "workspace" / "mlartifacts").rglob(f"{run_id}/artifacts/model")
    if fault == "gone":
        shutil.rmtree(model)
    else:
        (saved,) = model.rglob("saved_model.pb")
        saved.write_text("another graph")
    with pytest.raises(BadInputError, match="newsdesk models promote"):
        fetch_champion(registry, target)
    assert not (target / CHAMPION_FILE).exists()


def test_a_store_that_is_away_is_no_first_run(registry: Registry, target: Path, tmp_path: Path) -> None:
    with out_of_order(tmp_path / "workspace"), pytest.raises(BadInputError, match="does not answer or refuses"):
        fetch_champion(registry, target)
    assert list(target.iterdir()) == []


def test_the_record_is_written_last(registry: Registry, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.point(CHAMPION, "1")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "download", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch_champion(registry, target)
    assert not (target / CHAMPION_FILE).exists()


def test_the_node_asks_the_store_it_is_told(registry: Registry, store: Store, tmp_path: Path) -> None:
    registry.point(CHAMPION, "2")
    artifact = ChampionArtifact()
    artifact.uri = str(tmp_path / "not" / "made" / "yet")
    Champion.test_call(champion=artifact, name=NAME, store=store.uri, registry=registry.snapshot(), code_digest="x")
    assert read_champion(artifact.uri).registry_version == "2"
    assert read_champion(artifact.uri).serving_version is None


def test_a_champion_that_was_moved_since_the_run_began_is_not_compared_with(
    registry: Registry, store: Store, tmp_path: Path
) -> None:
    """The cache would keep it as the answer to how the registry stood before."""
    registry.point(CHAMPION, "1")
    snapshot = registry.snapshot()
    registry.point(CHAMPION, "2")
    artifact = ChampionArtifact()
    artifact.uri = str(tmp_path / "champion")
    with pytest.raises(GateRejectedError, match="was version 4 when this run began"):
        Champion.test_call(champion=artifact, name=NAME, store=store.uri, registry=snapshot, code_digest="x")
    assert not Path(artifact.uri).exists()


def test_a_rolled_back_champion_is_no_longer_found_in_the_cache(registry: Registry, store: Store) -> None:
    """What the node found depends on its exec property ``registry``, and that follows every alias."""
    registry.point(CHAMPION, "1")
    before = registry.snapshot()
    registry.point(CHAMPION, "2")
    assert registry.snapshot() != before
    assert "registry" in module.Champion.SPEC_CLASS.PARAMETERS
    assert json.loads(before)[CHAMPION] == "1"
    assert str(MlflowClient(store.uri, store.uri).get_model_version_by_alias(NAME, CHAMPION).version) == "2"


def test_every_node_that_looks_into_the_registry_depends_on_its_state(tmp_path: Path) -> None:
    """Else Promote would be answered from the cache after a rollback, and what it promoted would not serve."""
    state = RegistryState("sqlite:///mlflow.db", '{"champion": "1"}')
    graph = create_pipeline(make_config("sample"), find_source(SAMPLE_DIR), open_workspace(tmp_path / "w"), {}, state)
    asks = {node.id: node.exec_properties for node in graph.components if "store" in node.exec_properties}
    assert asks.keys() == {"Champion", "Register", "Pusher", "Promote"}
    assert {(given["store"], given["registry"]) for given in asks.values()} == {(state.store, state.snapshot)}
