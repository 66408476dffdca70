"""Where runs are recorded: in the workspace's own files, or on servers that several machines share."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from components.errors import BadInputError
from components.files import undamaged, write_whole
from components.settings import Settings
from pipeline.workspace.place import Workspace

if TYPE_CHECKING:
    from components.registry.tracking import Store

SQLITE = "sqlite:///"
PASSWORD = "NEWSDESK_METADATA_PASSWORD"  # noqa: S105
"""Variable that holds the password of the metadata store."""
_SCHEME, _PORT = "mysql", 3306
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_REMEMBERED = "stores.json"


@dataclass(frozen=True)
class Server:
    """A metadata store in a database of a MySQL or MariaDB server."""

    host: str
    port: int
    user: str
    database: str


class StoresConfig(Settings):
    """Stores that are not the workspace's own."""

    secrets_go: ClassVar = {
        "metadata": f"set {PASSWORD}",
        "tracking": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    }

    metadata: str | None = Field(
        None, description="mysql://USER@HOST[:PORT]/DATABASE; None for the workspace's metadata.sqlite"
    )
    tracking: str | None = Field(None, description="MLflow's address; None for MLFLOW_TRACKING_URI or mlflow.db")
    patience_seconds: float = Field(
        120, ge=0, le=3600, description="that a run waits for a metadata store which went away"
    )

    @model_validator(mode="after")
    def _addresses(self) -> "StoresConfig":
        if self.metadata:
            find_server(self.metadata)
        return self


@dataclass(frozen=True)
class Stores:
    """Where one run is recorded. ``metadata`` is a URI."""

    metadata: str
    tracking: "Store"


def find_stores(workspace: Workspace, environment: Mapping[str, str], config: StoresConfig | None = None) -> Stores:
    """Returns the stores of a workspace.

    What the configuration names comes first, then ``MLFLOW_TRACKING_URI``, then what an earlier run's configuration
    named, which ``remember`` keeps for commands that have none, then the workspace's own files.

    Raises:
        BadInputError: An address holds a password or is none, or configuration and environment contradict each other.
    """
    from components.registry.tracking import choose_store

    tracking = find_tracking(workspace, environment, config)
    chosen = {"MLFLOW_TRACKING_URI": tracking} if tracking else {}
    return Stores(
        find_metadata(workspace, config), choose_store(chosen, workspace.mlflow_store, workspace.mlflow_artifacts)
    )


def find_tracking(
    workspace: Workspace, environment: Mapping[str, str], config: StoresConfig | None = None
) -> str | None:
    """Returns MLflow's address; None where it is the workspace's own file. Errors: ``find_stores``."""
    given = environment.get("MLFLOW_TRACKING_URI") or None
    named = config.tracking if config else None
    if given and named and given != named:
        raise BadInputError("stores.tracking and MLFLOW_TRACKING_URI name different servers: leave one of them out")
    return named or given or _remembered(workspace).tracking


def find_metadata(workspace: Workspace, config: StoresConfig | None = None) -> str:
    """Returns the metadata store's URI. Errors: ``find_stores``."""
    named = config.metadata if config else None
    return named or _remembered(workspace).metadata or f"{SQLITE}{workspace.metadata}"


def remember(workspace: Workspace, config: StoresConfig) -> None:
    """Keeps what a configuration names for later commands on the same workspace; deleting the file forgets it."""
    named = {name: value for name in ("metadata", "tracking") if (value := getattr(config, name))}
    values = _remembered(workspace).model_dump(include={"metadata", "tracking"}) | named
    path = workspace.root / _REMEMBERED
    if named and (not path.exists() or json.loads(path.read_text(encoding="utf-8")) != values):
        write_whole(path, (json.dumps(values, indent=1) + "\n").encode())


def find_server(uri: str) -> Server | None:
    """Returns the server that a metadata store's URI names; None for a file.

    Raises:
        ValueError: It is no URI of a metadata store; the message does not repeat what may be secret.
    """
    if uri.startswith(SQLITE) and uri != SQLITE:
        return None
    if uri.startswith("postgres"):
        # It cuts the quotes off PostgreSQL's escaped literals, which is wrong where they begin with an E: what follows
        # a backslash is then read as SQL. Seen in 1.16.0 and 1.21.0.
        raise ValueError(
            "ml-metadata's client of PostgreSQL cannot write a text that holds a backslash: keep the metadata in MySQL "
            "or MariaDB, mysql://USER@HOST[:PORT]/DATABASE"
        )
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise ValueError("a metadata store's port is a number from 1 to 65535") from error
    database = parts.path.removeprefix("/")
    whole = parts.scheme == _SCHEME and parts.hostname and parts.username
    if not whole or not _DATABASE.fullmatch(database) or parts.query or parts.fragment:
        raise ValueError(
            f"a metadata store is sqlite:///PATH or mysql://USER@HOST[:PORT]/DATABASE, not {uri.partition(':')[0]}:"
        )
    return Server(str(parts.hostname), port or _PORT, str(parts.username), database)


def _remembered(workspace: Workspace) -> StoresConfig:
    path: Path = workspace.root / _REMEMBERED
    with undamaged(path, "it does not say which stores this workspace uses; delete it or mend it"):
        return StoresConfig.model_validate_json(path.read_bytes()) if path.exists() else StoresConfig()
