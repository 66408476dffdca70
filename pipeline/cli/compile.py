"""``newsdesk compile``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from components.errors import BadInputError
from pipeline.cli.memory import collect_seldom
from pipeline.cli.options import beam_option

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.runners.lint import Problem

target_option = click.option(
    "--target", type=click.Choice(["kubeflow", "vertex"]), required=True, help="Kubeflow Pipelines or Vertex AI."
)
preset_option = click.option(
    "--preset", default="sample", show_default=True, help="sample, fast, ag-news, best or seed."
)
model_option = click.option("--model", help="Default of the parameter model: transformer or bert.")
image_option = click.option("--image", help="Of every step, NAME@sha256:DIGEST.")
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one setting; may be repeated."
)


@click.command("compile", short_help="the same graph for an orchestrator")
@target_option
@preset_option
@model_option
@image_option
@set_option
@beam_option
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="By default TARGET.yaml here.")
def command(
    target: str,
    preset: str,
    model: str | None,
    image: str | None,
    settings: tuple[str, ...],
    beam: str | None,
    output: Path | None,
) -> None:
    """Writes the graph as a file for Kubeflow Pipelines or Vertex AI; nothing is sent anywhere."""
    collect_seldom()
    from pipeline.cli.run import with_beam

    settings = with_beam(settings, beam)
    config = configure_target(preset, model, settings, image)
    text, problems = compile_quietly(target, config, begin_arguments(preset, settings, config))
    path = output or Path(f"{target}.yaml")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"{path} cannot be written ({error.strerror}): name another with --output") from error
    click.echo(path)
    for problem in problems:
        click.echo(f"newsdesk: before it can be submitted: {problem}", err=True)


def configure_target(preset: str, model: str | None, settings: tuple[str, ...], image: str | None) -> "Config":
    """Returns the configuration of a compiled graph."""
    from pipeline.cli.run import configure

    return configure(preset, model, (*settings, *([f"orchestrator.image={image}"] if image else [])))


def compile_quietly(target: str, config: "Config", preset_arguments: list[str]) -> "tuple[str, list[Problem]]":
    """Returns what ``compile_for`` does, without what TensorFlow has to say while it is imported."""
    from pipeline.cli.screen import quiet, silence_warnings

    silence_warnings()
    with quiet(Path(os.devnull)):
        from pipeline.runners.compile import compile_for

        return compile_for(target, config, preset_arguments)  # type: ignore[arg-type]


def begin_arguments(preset: str, settings: tuple[str, ...], config: "Config") -> list[str]:
    """Returns what gives the same settings to ``newsdesk node begin``; where steps run is not its concern."""
    kept = [item for item in settings if not item.startswith("orchestrator.")]
    if config.beam.needs_image and not config.beam.image:
        kept.append(f"beam.image={config.orchestrator.image}")
    return ["--preset", preset, *(part for item in kept for part in ("--set", item))]
