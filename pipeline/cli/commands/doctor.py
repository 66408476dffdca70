"""``newsdesk doctor``."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from components.clean import printable
from components.errors import BadInputError
from pipeline.cli.options import json_option, workspace_option
from pipeline.cli.process import say

if TYPE_CHECKING:
    from pipeline.workspace.abandoned import Abandoned


@click.command("doctor", short_help="is this machine ready, and if not what to do")
@workspace_option
@click.option(
    "--mark", is_flag=True, help="Call what killed runs have left as running cancelled, in ML Metadata and MLflow."
)
@json_option
def command(workspace: Path, mark: bool, as_json: bool) -> None:
    """Says whether this machine is ready, and if not what to do. Exit code 2 where something is missing.

    It says where the files that servers follow differ from MLflow's registry; with --mark they follow it again.

    It also names what ML Metadata and MLflow call running though nothing runs it: runs that were killed. They are in
    nobody's way.
    """
    from pipeline.workspace.doctor import examine, this_machine

    checks = examine(this_machine(workspace))
    # Without the packages nobody can read the store.
    ready = all(check.ok for check in checks)
    left, note = _left_behind(workspace, mark) if ready else ([], None)
    apart = _find_apart(workspace, mark) if ready and not note else []
    if as_json:
        click.echo(
            json.dumps(
                {
                    "ready": ready,
                    "checks": [asdict(check) for check in checks],
                    "abandoned": [asdict(item) for item in left],
                    "apart": apart,
                }
            )
        )
    else:
        for check in checks:
            sign = click.style("ok", fg="green") if check.ok else click.style("no", fg="red")
            found = f"{check.name:<16} {check.found}" + ("" if check.ok else f": {check.advice}")
            click.echo(f"{sign}  {printable(found)}")
        for item in left:
            say(f"{item.sentence}: " + ("marked" if mark else "newsdesk doctor --mark calls it cancelled"))
        for sentence in apart:
            say(sentence + (": done" if mark else ""))
    if note:
        say(f"newsdesk: {note}", err=True)
    if not ready:
        sys.exit(2)


def _left_behind(workspace: Path, mark: bool) -> "tuple[list[Abandoned], str | None]":
    """Returns what killed runs have left, or why nobody can tell: that is no reason to call the machine unfit."""
    from pipeline.workspace.abandoned import find_abandoned
    from pipeline.workspace.place import Workspace

    try:
        return find_abandoned(Workspace(workspace), mark), None
    except BadInputError as error:
        if mark:
            raise
        return [], f"whether a killed run has left anything is not known: {error}"


def _find_apart(workspace: Path, mark: bool) -> list[str]:
    """Returns how the registry and the files that servers follow differ, by model, and with ``mark`` ends that."""
    from components.push.aliases import ALIASES_FILE
    from components.registry.promotion import find_apart, settle
    from components.registry.registry import Registry
    from pipeline.workspace.place import Workspace
    from pipeline.workspace.stores import find_stores

    place = Workspace(workspace)
    found = []
    for file in sorted(place.serving.glob(f"*/{ALIASES_FILE}")):
        registry = Registry(find_stores(place, os.environ).tracking, file.parent.name)
        if sentence := find_apart(registry, place.serving):
            found.append(sentence)
            if mark:
                registry.claim(place.owner(), adopt=registry.store.artifacts is not None, make=False)
                settle(registry, place.serving)
    return found
