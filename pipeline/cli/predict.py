"""``newsdesk predict``."""

import json
import os
from pathlib import Path
from typing import IO

import click

from components.errors import BadInputError
from pipeline.cli.options import json_option, workspace_option

_BATCH = 256


@click.command("predict", short_help="classify texts with the pushed model")
@click.argument("texts", nargs=-1)
@click.option("--file", "file", type=click.File("r", encoding="utf-8"), help="One text a line; - is standard input.")
@click.option("--name", default="ag_news", show_default=True, help="Model name.")
@workspace_option
@json_option
def command(texts: tuple[str, ...], file: IO[str] | None, name: str, workspace: Path, as_json: bool) -> None:
    """Classifies TEXTS with the champion, without a server."""
    from pipeline.cli.screen import quiet, silence_warnings
    from pipeline.workspace import Workspace
    from serving.models import LoadedModel, NoModelError, champion_version

    try:
        lines = [line.rstrip("\n") for line in file] if file else []
    except UnicodeDecodeError as error:
        raise BadInputError(f"{file.name if file else ''} is not UTF-8 text: {error}") from error
    everything = [*texts, *lines]
    if not everything:
        raise BadInputError("nothing to classify: give texts, or --file with one a line")
    place = Workspace(workspace.resolve())
    try:
        directory = champion_version(place.serving, name)
    except NoModelError as error:
        raise BadInputError(f"{error}: run newsdesk run first, or name another --workspace") from error
    silence_warnings()
    with quiet(Path(os.devnull)):
        model = LoadedModel(directory)
        answers = []
        for start in range(0, len(everything), _BATCH):
            answers += model.predict(
                [text.encode(errors="replace").decode() for text in everything[start : start + _BATCH]]
            )
    if as_json:
        click.echo(json.dumps([answer.to_dict() for answer in answers], ensure_ascii=False))
        return
    for answer in answers:
        text = answer.text if len(answer.text) <= 80 else answer.text[:79] + "…"
        click.echo(f"{answer.label:<10}{answer.probability:6.1%}  {text}")
