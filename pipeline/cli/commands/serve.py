"""``newsdesk serve``."""

import logging
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from components.errors import BadInputError
from pipeline.cli.asked import read_settings
from pipeline.cli.options import workspace_option
from pipeline.cli.process import say

if TYPE_CHECKING:
    from serving.repository.repository import Repository


@click.command("serve", short_help="the REST server")
@click.option(
    "--model-dir",
    type=click.Path(path_type=Path),
    show_default="the workspace's serving/",
    help="Directory of models, or the base of one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8501, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@workspace_option
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one setting; may be repeated.")
def command(model_dir: Path | None, host: str, port: int, workspace: Path, settings: tuple[str, ...]) -> None:
    """Answers over TensorFlow Serving's REST API until interrupted.

    Follows the model directory: what is pushed, promoted or rolled back there is served within seconds. Says "ready"
    with the URL on standard error when it answers; the access log goes to standard output.
    """
    from components.push.aliases import MODELS_CONFIG
    from components.push.model_base import settle_models_config
    from pipeline.cli.screen import aside, silence_warnings
    from pipeline.workspace.place import Workspace
    from serving.config import make_config

    values = read_settings(settings)
    for key in ("host", "port", "model_dir"):
        if key in values:
            raise BadInputError(f"{key} is not a setting of --set: use --{key.replace('_', '-')}")
    place = Workspace(workspace)
    directory = (model_dir or place.serving).resolve()
    config = make_config({"model_dir": directory, "host": host, "port": port, **values})
    if not directory.is_dir():
        raise BadInputError(f"there is no directory {directory}: newsdesk run makes one, or name another")
    silence_warnings()
    if not model_dir and settle_models_config(directory):
        say(f"newsdesk serve: {MODELS_CONFIG} said something else than the aliases, and is written anew", err=True)
    say(f"newsdesk serve: loading {directory}", err=True)
    if not model_dir:
        place.logs.mkdir(parents=True, exist_ok=True)
    with aside(2, Path(os.devnull) if model_dir else place.logs / "serve.log") as screen:
        from serving.http.server import serve

        _log_to(screen)
        serve(config, os.environ, lambda url, repository: _show(url, repository, screen))


def _log_to(screen: IO[str]) -> None:
    handler = logging.StreamHandler(screen)
    handler.setFormatter(logging.Formatter("newsdesk serve: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("newsdesk").setLevel(logging.INFO)
    # It has a line for every client that speaks no HTTP.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    # And TensorFlow one for developers about how a SavedModel is loaded.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def _show(url: str, repository: "Repository", screen: IO[str]) -> None:
    for version in repository.versions():
        labels = ", ".join(sorted(version.labels))
        say(f"  {version.model} version {version.number}{f' ({labels})' if labels else ''}", screen)
    for name in repository.models():
        for status in repository.status(name):
            if status.message:
                say(f"  not served: {name} version {status.version}: {status.message}", screen)
    say(f"  page {url}/   docs {url}/docs   (Ctrl-C stops it)", screen)
    say(f"newsdesk serve: ready at {url}", screen)
