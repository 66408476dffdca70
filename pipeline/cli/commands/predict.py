"""``newsdesk predict``."""

import codecs
import json
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from components.errors import BadInputError
from components.files import undamaged
from pipeline.cli.options import json_option, name_option, workspace_option
from pipeline.cli.process import say

if TYPE_CHECKING:
    from serving.client.rest import Client
    from serving.model.loaded import Prediction

_BATCH = 256


@click.command("predict", short_help="classify texts with the pushed model")
@click.argument("texts", nargs=-1)
@click.option("--file", "file", type=click.File("r", encoding="utf-8"), help="One text a line; - is standard input.")
@name_option
@click.option("--url", help="Ask a server, such as http://127.0.0.1:8501, instead of the workspace.")
@click.option("--label", help="With --url: which version to ask, such as champion, instead of what the server chooses.")
@click.option("--token-env", metavar="VARIABLE", help="With --url: the environment variable that holds its token.")
@click.option(
    "--classes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --url: class names, one a line in the order of their numbers. TensorFlow Serving does not say them.",
)
@workspace_option
@json_option
def command(
    texts: tuple[str, ...],
    file: IO[str] | None,
    name: str,
    url: str | None,
    label: str | None,
    token_env: str | None,
    classes: Path | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """Classifies TEXTS with the champion, without a server, or with --url by asking one."""
    for option, value in (("--label", label), ("--token-env", token_env), ("--classes", classes)):
        if url is None and value is not None:
            raise BadInputError(f"{option} is for a server: name it with --url")
    everything = [text.encode(errors="replace").decode() for text in (*texts, *_read_lines(file))]
    if not everything:
        raise BadInputError("nothing to classify: give texts, or --file with one a line")
    if url is None:
        answers = _ask_model(everything, name, workspace)
    else:
        from serving.client.rest import Client

        answers = _ask_server(
            everything, name, label, Client(url, _read_token(token_env), classes=_read_names(classes))
        )
    if as_json:
        escaped = codecs.lookup(sys.stdout.encoding).name != "utf-8"
        click.echo(json.dumps([answer.to_dict() for answer in answers], ensure_ascii=escaped))
        return
    for answer in answers:
        text = answer.text if len(answer.text) <= 80 else answer.text[:79] + "…"
        say(f"{answer.label:<10}{answer.probability:6.1%}  {text}")


def _ask_model(texts: list[str], name: str, workspace: Path) -> list["Prediction"]:
    from pipeline.cli.screen import quiet, silence_warnings
    from pipeline.workspace.place import Workspace
    from serving.model.loaded import LoadedModel, NoModelError, champion_version

    try:
        directory = champion_version(Workspace(workspace).serving, name)
    except NoModelError as error:
        raise BadInputError(f"{error}: run newsdesk run first, or name another --workspace") from error
    silence_warnings()
    answers: list[Prediction] = []
    with quiet(Path(os.devnull)):
        model = LoadedModel(directory)
        for start in range(0, len(texts), _BATCH):
            answers += model.predict(texts[start : start + _BATCH])
    return answers


def _ask_server(texts: list[str], name: str, label: str | None, client: "Client") -> list["Prediction"]:
    from serving.errors import RequestError

    with client:
        try:
            return client.predict(texts, name, label=label)
        except RequestError as error:
            raise BadInputError(f"{error.message} ({error.code.name})") from error


def _read_lines(file: IO[str] | None) -> list[str]:
    try:
        return [line.rstrip("\n") for line in file] if file else []
    except UnicodeDecodeError as error:
        raise BadInputError(f"{file.name if file else ''} is not UTF-8 text: {error}") from error


def _read_token(variable: str | None) -> str | None:
    if variable is None:
        return None
    token = os.environ.get(variable)
    if not token:
        raise BadInputError(f"the environment variable {variable} is not set: put the token there, or drop --token-env")
    return token


def _read_names(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    with undamaged(path, "name a file of class names, one a line, in UTF-8"):
        return path.read_text(encoding="utf-8").splitlines()
