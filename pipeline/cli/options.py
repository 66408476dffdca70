"""Options that several commands share."""

from pathlib import Path

import click

workspace_option = click.option(
    "--workspace",
    type=click.Path(path_type=Path),
    default=Path("workspace"),
    envvar="NEWSDESK_WORKSPACE",
    show_default="./workspace, or NEWSDESK_WORKSPACE",
    help="Where runs, models and tracking are kept.",
)
cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path("~/.cache/newsdesk"),
    envvar="NEWSDESK_CACHE",
    show_default="~/.cache/newsdesk, or NEWSDESK_CACHE",
    help="Where downloads are kept.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else there.")
