"""``newsdesk doctor``."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from pipeline.cli.options import json_option, workspace_option


@click.command("doctor", short_help="is this machine ready, and if not what to do")
@workspace_option
@json_option
def command(workspace: Path, as_json: bool) -> None:
    """Says whether this machine is ready, and if not what to do. Exit code 2 where something is missing."""
    from pipeline.doctor import examine, this_machine

    checks = examine(this_machine(workspace))
    if as_json:
        click.echo(
            json.dumps({"ready": all(check.ok for check in checks), "checks": [asdict(check) for check in checks]})
        )
    else:
        for check in checks:
            mark = click.style("ok", fg="green") if check.ok else click.style("no", fg="red")
            click.echo(f"{mark}  {check.name:<16} {check.found}" + ("" if check.ok else f": {check.advice}"))
    if not all(check.ok for check in checks):
        sys.exit(2)
