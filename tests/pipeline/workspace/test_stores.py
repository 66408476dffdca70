"""Where runs are recorded: what is chosen, what is remembered, and that no address carries a password."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow_stores import make_store
from sqlalchemy import make_url

from components.errors import BadInputError
from components.registry.spool import Spool
from components.registry.tracking import Store, find_runs, start_run
from pipeline.config.config import Config, override
from pipeline.config.presets import make_config
from pipeline.workspace.place import Workspace
from pipeline.workspace.stores import Server, StoresConfig, find_server, find_stores, remember

METADATA = "mysql://newsdesk@db.example/mlmd"
TRACKING = "https://mlflow.example"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def configured(**settings: str) -> Config:
    return override(make_config("sample"), {f"stores.{key}": value for key, value in settings.items()})


def test_by_default_everything_is_in_the_workspace(workspace: Workspace) -> None:
    found = find_stores(workspace, {}, StoresConfig())
    assert found.metadata == f"sqlite:///{workspace.metadata}"
    assert found.tracking == Store(f"sqlite:///{workspace.mlflow_store}", workspace.mlflow_artifacts.as_uri())


def test_every_workspace_has_its_own_mlflow_store_and_makes_no_other(tmp_path: Path) -> None:
    names = [
        "w%31",
        "w1",
        "%2e",
        "%2E%2E",
        "w%2Fx",
        "a#b",
        "a b",
        "a;b&c=d",
        "ä 通貨",
        "a\nb",
        "a@b:c",
        "a'\"b",
        "%",
        "x%zz",
    ]
    template = make_store(tmp_path / "template")
    for number, name in enumerate(names):
        place = Workspace(tmp_path / name)
        place.root.mkdir()
        place.mlflow_store.write_bytes(Path(make_url(template.uri).database).read_bytes())
        store = find_stores(place, {}).tracking
        with start_run(store, "ag_news", f"run {number}", Spool(place.spool)) as run:
            run.json("run.json", name)
        (listed,) = find_runs(store, run.id)
        assert listed.name == f"run {number}"
        (kept,) = place.mlflow_artifacts.rglob("run.json")
        assert json.loads(kept.read_text()) == name
    assert {path.name for path in tmp_path.iterdir()} == {"template", *names}


@pytest.mark.parametrize("name", ["w", "a#b", "a b", "a;b&c", "ä", "100%", "a@b:c"])
def test_a_workspace_that_worked_keeps_its_address(tmp_path: Path, name: str) -> None:
    place = Workspace(tmp_path / name)
    assert find_stores(place, {}).tracking.uri == f"sqlite:///{place.mlflow_store}"


def test_the_configuration_names_servers(workspace: Workspace) -> None:
    found = find_stores(workspace, {}, configured(metadata=METADATA, tracking=TRACKING).stores)
    assert (found.metadata, found.tracking) == (METADATA, Store(TRACKING, None))


def test_the_same_server_may_be_named_twice_but_not_two(workspace: Workspace) -> None:
    config = StoresConfig(tracking=TRACKING)
    assert find_stores(workspace, {"MLFLOW_TRACKING_URI": TRACKING}, config).tracking.uri == TRACKING
    with pytest.raises(BadInputError, match=r"stores.tracking and MLFLOW_TRACKING_URI name different servers"):
        find_stores(workspace, {"MLFLOW_TRACKING_URI": "https://other.example"}, config)


def test_commands_without_a_configuration_find_what_a_run_named(workspace: Workspace) -> None:
    remember(workspace, StoresConfig(metadata=METADATA))
    remember(workspace, StoresConfig(tracking=TRACKING))
    remember(workspace, StoresConfig())
    found = find_stores(workspace, {})
    assert (found.metadata, found.tracking.uri) == (METADATA, TRACKING)
    assert find_stores(workspace, {"MLFLOW_TRACKING_URI": "https://other.example"}).tracking.uri == (
        "https://other.example"
    )
    assert find_stores(workspace, {}, StoresConfig()).metadata == METADATA


def test_nothing_named_is_nothing_kept(workspace: Workspace) -> None:
    remember(workspace, StoresConfig())
    assert not list(workspace.root.iterdir())


@pytest.mark.parametrize("content", ["not json", '{"metadata": "oracle://a@b/c"}', '{"metadata": 3}', '{"other": 1}'])
def test_a_damaged_memory_is_told(workspace: Workspace, content: str) -> None:
    (workspace.root / "stores.json").write_text(content)
    with pytest.raises(BadInputError, match=r"stores.json is damaged: it does not say .* delete it or mend it$"):
        find_stores(workspace, {})


@pytest.mark.parametrize(
    ("key", "uri", "variable"),
    [
        ("metadata", "mysql://newsdesk:s3cr3t@db.example/mlmd", "NEWSDESK_METADATA_PASSWORD"),
        ("metadata", "mysql://newsdesk@db.example/mlmd?password=s3cr3t", "NEWSDESK_METADATA_PASSWORD"),
        ("tracking", "https://me:s3cr3t@mlflow.example", "MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(key: str, uri: str, variable: str) -> None:
    with pytest.raises(BadInputError, match=f"stores.{key} holds a password: .* {variable}") as refused:
        configured(**{key: uri})
    assert "s3cr3t" not in str(refused.value)


def test_a_password_for_the_steps_is_refused_too() -> None:
    with pytest.raises(BadInputError, match="metadata holds a password") as refused:
        override(make_config("sample"), {"orchestrator.metadata": "mysql://a:s3cr3t@db/mlmd"})
    assert "s3cr3t" not in str(refused.value)


def test_a_password_in_mlflows_own_variable_is_refused(workspace: Workspace) -> None:
    with pytest.raises(BadInputError, match="MLFLOW_TRACKING_URI holds a password") as refused:
        find_stores(workspace, {"MLFLOW_TRACKING_URI": "https://me:s3cr3t@mlflow.example"})
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:////a/b", None),
        (METADATA, Server("db.example", 3306, "newsdesk", "mlmd")),
        ("mysql://a@10.0.0.1:3307/b_c", Server("10.0.0.1", 3307, "a", "b_c")),
    ],
)
def test_addresses(uri: str, expected: Any) -> None:
    assert find_server(uri) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///",
        "/a/file",
        "oracle://a@b/c",
        "mysql://b/c",
        "mysql://a@b",
        "mysql://a@b/c/d",
        "mysql://a@b/c d",
        "mysql://a@b/c?ssl_ca=x",
    ],
)
def test_what_is_no_address(uri: str) -> None:
    with pytest.raises(ValueError, match="a metadata store is sqlite:///PATH or mysql://"):
        find_server(uri)


@pytest.mark.parametrize("uri", ["postgresql://a@b/c", "postgres://a@b/c"])
def test_postgresql_is_refused_with_the_reason(uri: str) -> None:
    with pytest.raises(BadInputError, match=r"cannot write a text that holds a backslash: keep .* mysql://USER@HOST"):
        configured(metadata=uri)


@pytest.mark.parametrize("port", ["99999", "x"])
def test_a_port_is_a_number(port: str) -> None:
    with pytest.raises(ValueError, match="port"):
        find_server(f"mysql://a@b:{port}/c")
