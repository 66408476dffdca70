"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from components.errors import BadInputError
from trainers.families import MODULES

FAMILY_NAMES = " or ".join(MODULES)


def _of_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise BadInputError(
            f"{path} is in no place, as this user has no home directory: name another with --cache, or set HOME"
        ) from error


workspace_option = click.option(
    "--workspace",
    type=click.Path(path_type=Path, resolve_path=True),
    default=Path("workspace"),
    envvar="NEWSDESK_WORKSPACE",
    show_default="./workspace, or NEWSDESK_WORKSPACE",
    help="Where runs, models and tracking are kept.",
)
cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path("~/.cache/newsdesk"),
    callback=lambda _, __, path: _of_home(path),
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
name_option = click.option("--name", default="ag_news", show_default=True, help="Model name.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else there.")
preset_option = click.option(
    "--preset", default="sample", show_default=True, help="sample, fast, ag-news, best or seed."
)
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one setting; may be repeated."
)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def several(*options: Decorator) -> Decorator:
    """Returns a decorator that gives a command several options, in the order of its help."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def run_options(data: str, data_required: bool = False) -> Decorator:
    """Returns a decorator with what says which run is meant and where: preset, data, model, places, settings.

    Args:
        data: Help of ``--data``.
        data_required: Whether it must be given.
    """
    return several(
        preset_option,
        click.option("--data", type=click.Path(path_type=Path), required=data_required, help=data),
        click.option("--model", help=f"Model family: {FAMILY_NAMES}."),
        workspace_option,
        cache_option,
        set_option,
    )


target_options = several(
    click.option(
        "--target", type=click.Choice(["kubeflow", "vertex"]), required=True, help="Kubeflow Pipelines or Vertex AI."
    ),
    preset_option,
    click.option("--model", help=f"Default of the parameter model: {FAMILY_NAMES}."),
    click.option("--image", help="Of every step, NAME@sha256:DIGEST."),
    set_option,
    beam_option,
)
