"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
beam_option = click.option(
    "--beam",
    "beam",
    type=click.Choice(["in-memory", "flink", "spark", "dataflow"]),
    help="Engine of the data work; what it needs is set with --set beam.KEY=VALUE. By default in-memory.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else there.")


def run_options(data: str, data_required: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns a decorator with what says which run is meant and where: preset, data, model, places, settings.

    Args:
        data: Help of ``--data``.
        data_required: Whether it must be given.
    """
    options = (
        click.option("--preset", default="sample", show_default=True, help="sample, fast, ag-news, best or seed."),
        click.option("--data", type=click.Path(path_type=Path), required=data_required, help=data),
        click.option("--model", help="Model family: transformer or bert."),
        workspace_option,
        cache_option,
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one setting; may be repeated."
        ),
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
