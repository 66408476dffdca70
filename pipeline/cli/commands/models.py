"""``newsdesk models``: what was pushed, what serves, and how to change it."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.clean import printable, to_json
from components.errors import BadInputError
from pipeline.cli.options import json_option, name_option, several, workspace_option
from pipeline.cli.process import say
from pipeline.workspace.place import Workspace

if TYPE_CHECKING:
    from components.registry.promotion import Move
    from components.registry.registry import RegisteredVersion, Registry
    from pipeline.workspace.garbage import Collection, Item

_common = several(name_option, workspace_option, json_option)


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
    registry, place = _open(name, workspace, look=True)
    found = [item for item in registry.versions() if everything or item.serving_version is not None]
    rows = [_summary(item, place) for item in found]
    if as_json:
        click.echo(to_json(rows))
        return
    if not rows:
        say(f"no version of {name} has been pushed: newsdesk run pushes the first")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("version", "alias", "status", "family", "made", "run", box=None, pad_edge=False)
    for row in rows:
        cells = (
            row["version"] or "-",
            ", ".join(row["aliases"]),
            row["status"] + ("" if row["present"] or not row["version"] else " (deleted)"),
            row["model_family"] or "",
            row["made"],
            row["run"] or "",
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(highlight=False).print(table)


@command.command("show")
@click.argument("version", type=click.IntRange(1))
@_common
def show(version: int, name: str, workspace: Path, as_json: bool) -> None:
    """Shows one version: where it is, what the gates said, how it scored."""
    from components.push.manifest import verify
    from components.registry.registry import SERVING_VERSION

    registry, place = _open(name, workspace, look=True)
    found = registry.with_tag(SERVING_VERSION, str(version))
    if found is None:
        raise BadInputError(f"no version {version} of {name} was pushed: newsdesk models list shows those")
    values = _summary(found, place) | {"tags": found.tags, "metrics": registry.test_metrics(found)}
    if values["present"]:
        verify(place.model_base(name) / str(version))
    if as_json:
        click.echo(to_json(values))
        return
    state = "files as pushed" if values["present"] else "deleted"
    say(f"{name} version {version}  {', '.join(found.aliases) or 'no alias'}  {found.status}")
    say(f"directory  {values['directory']} ({state})")
    say(f"mlflow     run {found.run_id}, registered version {found.version}")
    for key, value in sorted(found.tags.items()):
        say(f"{key:<20} {value}")
    for key, value in sorted(values["metrics"].items()):
        say(f"{key:<20} {value:.4f}")


@command.command("promote")
@click.argument("version", type=click.IntRange(1))
@click.option("--as", "alias", type=click.Choice(["champion", "challenger"]), default="champion", show_default=True)
@_common
def promote_(version: int, alias: str, name: str, workspace: Path, as_json: bool) -> None:
    """Makes a pushed version the champion, or the challenger."""
    from components.registry.promotion import promote

    registry, place = _open(name, workspace, move=True)
    _tell(promote(registry, place.serving, version, alias), as_json)


@command.command("rollback")
@_common
def rollback_(name: str, workspace: Path, as_json: bool) -> None:
    """Makes the champion before this one the champion again."""
    from components.registry.promotion import rollback

    registry, place = _open(name, workspace, move=True)
    _tell(rollback(registry, place.serving), as_json)


@command.command("adopt")
@name_option
@workspace_option
def adopt(name: str, workspace: Path) -> None:
    """Takes over the model of a workspace that was moved or copied here, or is no longer used."""
    registry, place = _open(name, workspace)
    registry.claim(place.owner(), adopt=True, make=False)
    say(f"the model {name} is that of {place.root} now")


@command.command("gc", short_help="delete old versions and old runs")
@click.option("--keep", required=True, type=click.IntRange(1), help="How many versions, and runs, stay in any case.")
@click.option("--dry-run", is_flag=True, help="Only say what would go, and how much it is.")
@_common
def gc_(keep: int, dry_run: bool, name: str, workspace: Path, as_json: bool) -> None:
    """Deletes the pushed versions and the pipeline runs that are not among the newest.

    Whatever is champion, previous or challenger stays, and whatever a server has loaded, with the runs behind it.
    Reports stay.
    """
    from pipeline.workspace.garbage import collect

    place = Workspace(workspace)
    found = collect(place, name, keep, dry_run)
    if as_json:
        click.echo(to_json(found.to_dict(place.root)))
    else:
        _show_collected(found)


def _open(name: str, workspace: Path, look: bool = False, move: bool = False) -> "tuple[Registry, Workspace]":
    from components.registry.promotion import find_apart
    from components.registry.registry import Registry
    from pipeline.workspace.stores import find_stores

    place = Workspace(workspace)
    if not place.serving.is_dir():
        raise BadInputError(f"{place.root} is not a workspace: newsdesk run makes one, or name another --workspace")
    registry = Registry(find_stores(place, os.environ).tracking, name)
    if look and (apart := find_apart(registry, place.serving)):
        say(f"newsdesk: {apart}", err=True)
    if move:
        registry.claim(place.owner(), adopt=registry.store.artifacts is not None, make=False)
    return registry, place


def _summary(item: "RegisteredVersion", place: Workspace) -> dict[str, Any]:
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
        click.echo(to_json({"version": str(move.version), "aliases": move.aliases, "changed": move.changed}))
    else:
        say(move.sentence)


def _show_collected(found: "Collection") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.workspace.garbage import to_mb

    console = Console(highlight=False)
    if found.items:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("would go" if found.dry_run else "gone", overflow="fold")
        table.add_column("MB", justify="right", no_wrap=True)
        table.add_column("why")
        for item in found.items:
            table.add_row(Text(printable(_what(item))), f"{to_mb(item.size):,.1f}", Text(printable(item.why)))
        console.print(table)
        console.print()
    verb = "would be" if found.dry_run else "was" if len(found.items) == 1 else "were"
    things = f"{len(found.items)} thing{'s' * (len(found.items) != 1)}, {to_mb(found.size):,.1f} MB, {verb} deleted"
    console.print(Text(f"{things}; artifacts marked deleted: {len(found.marks)}."), style="bold")
    for version, why in found.kept.items():
        console.print(Text(printable(f"Version {version} stays: {why}.")))


def _what(item: "Item") -> str:
    if item.kind == "run":
        return f"run {item.name}, {len(item.paths)} director{'y' if len(item.paths) == 1 else 'ies'}"
    return item.name if item.kind == "leftover" else f"{item.kind} {item.name}"
