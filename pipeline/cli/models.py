"""``newsdesk models``: what was pushed, what serves, and how to change it."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.errors import BadInputError
from pipeline.cli.models_gc import gc
from pipeline.cli.options import json_option, workspace_option

if TYPE_CHECKING:
    from components.promotion import Move
    from components.registry import RegisteredVersion, Registry
    from pipeline.workspace import Workspace

name_option = click.option("--name", default="ag_news", show_default=True, help="Model name.")


@click.group("models", short_help="pushed versions and registry aliases")
def command() -> None:
    """Pushed versions and registry aliases; a version is the number of its directory."""


@command.command("list")
@name_option
@click.option("--all", "everything", is_flag=True, help="Also candidates that were never pushed.")
@workspace_option
@json_option
def list_(name: str, everything: bool, workspace: Path, as_json: bool) -> None:
    """Lists versions, newest first."""
    registry, place = _open(name, workspace)
    found = [item for item in registry.versions() if everything or item.serving_version is not None]
    rows = [_summary(item, place) for item in found]
    if as_json:
        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo(f"no version of {name} has been pushed: newsdesk run pushes the first")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("version", "alias", "status", "family", "made", "run", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            row["version"] or "-",
            ", ".join(row["aliases"]),
            row["status"] + ("" if row["present"] or not row["version"] else " (deleted)"),
            row["model_family"] or "",
            row["made"],
            row["run"] or "",
        )
    Console(highlight=False).print(table)


@command.command("show")
@click.argument("version", type=click.IntRange(1))
@name_option
@workspace_option
@json_option
def show(version: int, name: str, workspace: Path, as_json: bool) -> None:
    """Shows one version: where it is, what the gates said, how it scored."""
    from components.manifest import verify
    from components.registry import SERVING_VERSION

    registry, place = _open(name, workspace)
    found = registry.with_tag(SERVING_VERSION, str(version))
    if found is None:
        raise BadInputError(f"no version {version} of {name} was pushed: newsdesk models list shows those")
    values = _summary(found, place) | {"tags": found.tags, "metrics": registry.test_metrics(found)}
    if values["present"]:
        verify(place.model_base(name) / str(version))
    if as_json:
        click.echo(json.dumps(values))
        return
    state = "files as pushed" if values["present"] else "deleted"
    click.echo(f"{name} version {version}  {', '.join(found.aliases) or 'no alias'}  {found.status}")
    click.echo(f"directory  {values['directory']} ({state})")
    click.echo(f"mlflow     run {found.run_id}, registered version {found.version}")
    for key, value in sorted(found.tags.items()):
        click.echo(f"{key:<20} {value}")
    for key, value in sorted(values["metrics"].items()):
        click.echo(f"{key:<20} {value:.4f}")


@command.command("promote")
@click.argument("version", type=click.IntRange(1))
@click.option("--as", "alias", type=click.Choice(["champion", "challenger"]), default="champion", show_default=True)
@name_option
@workspace_option
@json_option
def promote_(version: int, alias: str, name: str, workspace: Path, as_json: bool) -> None:
    """Makes a pushed version the champion, or the challenger."""
    from components.promotion import promote

    registry, place = _open(name, workspace)
    _tell(promote(registry, place.serving, version, alias), as_json)


@command.command("rollback")
@name_option
@workspace_option
@json_option
def rollback_(name: str, workspace: Path, as_json: bool) -> None:
    """Makes the champion before this one the champion again."""
    from components.promotion import rollback

    registry, place = _open(name, workspace)
    _tell(rollback(registry, place.serving), as_json)


command.add_command(gc)


def _open(name: str, workspace: Path) -> "tuple[Registry, Workspace]":
    from components.registry import Registry
    from pipeline.stores import find_stores
    from pipeline.workspace import Workspace

    place = Workspace(workspace.resolve())
    if not place.serving.is_dir():
        raise BadInputError(f"{place.root} is not a workspace: newsdesk run makes one, or name another --workspace")
    return Registry(find_stores(place, os.environ).tracking, name), place


def _summary(item: "RegisteredVersion", place: "Workspace") -> dict[str, Any]:
    number = item.serving_version
    directory = None if number is None else place.model_base(item.name) / str(number)
    return {
        "version": None if number is None else str(number),
        "aliases": list(item.aliases),
        "status": item.status,
        "model_family": item.tags.get("model_family"),
        "made": datetime.fromtimestamp(item.created / 1000, UTC).isoformat(timespec="seconds"),
        "run": item.tags.get("run"),
        "mlflow_run_id": item.run_id,
        "registry_version": item.version,
        "directory": None if directory is None else str(directory),
        "present": directory is not None and directory.is_dir(),
    }


def _tell(move: "Move", as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"version": str(move.version), "aliases": move.aliases, "changed": move.changed}))
    else:
        click.echo(move.sentence)
