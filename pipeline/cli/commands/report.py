"""``newsdesk report``."""

from pathlib import Path

import click

from pipeline.cli.options import workspace_option
from pipeline.cli.process import say


@click.command("report", short_help="the HTML report of a run")
@click.argument("run", required=False)
@workspace_option
def command(run: str | None, workspace: Path) -> None:
    """Draws the report of RUN, a run id or the beginning of one, again and prints where it is.

    Without RUN, of the newest run.
    """
    from pipeline.run.report import read_facts, write_report
    from pipeline.workspace.place import Workspace

    place = Workspace(workspace)
    say(write_report(read_facts(place, run), place))
