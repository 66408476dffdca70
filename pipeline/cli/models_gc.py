"""``newsdesk models gc``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import json_option, workspace_option

if TYPE_CHECKING:
    from pipeline.garbage import Collection, Item


@click.command("gc", short_help="delete old versions and old runs")
@click.option("--keep", required=True, type=click.IntRange(1), help="How many versions, and runs, stay in any case.")
@click.option("--dry-run", is_flag=True, help="Only say what would go, and how much it is.")
@click.option("--name", default="ag_news", show_default=True, help="Model name.")
@workspace_option
@json_option
def gc(keep: int, dry_run: bool, name: str, workspace: Path, as_json: bool) -> None:
    """Deletes the pushed versions and the pipeline runs that are not among the newest.

    Whatever is champion, previous or challenger stays, and whatever a server has loaded, with the runs behind it.
    Reports stay.
    """
    from pipeline.garbage import collect
    from pipeline.workspace import Workspace

    place = Workspace(workspace.resolve())
    found = collect(place, name, keep, dry_run)
    if as_json:
        click.echo(json.dumps(found.to_dict(place.root)))
    else:
        _show(found)


def _show(found: "Collection") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.garbage import to_mb

    console = Console(highlight=False)
    if found.items:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("would go" if found.dry_run else "gone", overflow="fold")
        table.add_column("MB", justify="right", no_wrap=True)
        table.add_column("why")
        for item in found.items:
            table.add_row(Text(_printable(_what(item))), f"{to_mb(item.size):,.1f}", Text(_printable(item.why)))
        console.print(table)
        console.print()
    verb = "would be" if found.dry_run else "was" if len(found.items) == 1 else "were"
    things = f"{len(found.items)} thing{'s' * (len(found.items) != 1)}, {to_mb(found.size):,.1f} MB, {verb} deleted"
    console.print(Text(f"{things}; artifacts marked deleted: {len(found.marks)}."), style="bold")
    for version, why in found.kept.items():
        console.print(Text(_printable(f"Version {version} stays: {why}.")))


def _what(item: "Item") -> str:
    if item.kind == "run":
        return f"run {item.name}, {len(item.paths)} director{'y' if len(item.paths) == 1 else 'ies'}"
    return item.name if item.kind == "leftover" else f"{item.kind} {item.name}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
