"""What the options of a command ask for: configuration, data, and what is brought into place before a run."""

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from components.errors import BadInputError
from pipeline.cli.process import collect_seldom, say

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from pipeline.runners.lint import Problem


def configure(preset: str, model: str | None, settings: tuple[str, ...]) -> "Config":
    """Returns the configuration that ``--preset``, ``--model`` and ``--set`` name."""
    from pipeline.config.config import override
    from pipeline.config.presets import make_config

    assignments = read_settings(settings)
    if "preset" in assignments:
        raise BadInputError("--set changes settings of a preset: choose the preset itself with --preset")
    if model:
        assignments["model"] = model
    return override(make_config(preset), assignments)


def read_settings(settings: tuple[str, ...]) -> dict[str, str]:
    """Returns what ``--set`` assigns, dotted key to text."""
    assignments = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise BadInputError(f"--set takes KEY=VALUE, not {setting!r}")
        assignments[key.strip()] = value.strip()
    return assignments


def with_beam(settings: tuple[str, ...], beam: str | None) -> tuple[str, ...]:
    """Returns the settings with what ``--beam`` stands for."""
    return (*settings, f"beam.profile={beam}") if beam else settings


def prepare(config: "Config", cache: Path, screen: IO[str]) -> dict[str, Any]:
    """Brings into place what the configured family needs before the graph starts."""
    from pipeline.cli.screen import download_bar
    from pipeline.config.families import Downloads
    from pipeline.config.families import prepare as prepare_family
    from pipeline.source_digest import source_digest

    with download_bar(screen) as progress:
        downloads = Downloads(cache, os.environ, lambda line: say(line, file=screen), source_digest, progress)
        return prepare_family(config, downloads)


def data_directory(config: "Config", data: Path | None, cache: Path) -> Path:
    """Returns where the data are: ``--data``, else the setting, else what belongs to the preset."""
    from components.example_gen.source import SAMPLE_DIR

    if data:
        return data
    if config.data.directory:
        return Path(config.data.directory)
    if config.preset == "sample":
        return SAMPLE_DIR
    fetched = cache / "ag_news"
    if not fetched.is_dir():
        raise BadInputError(
            f"preset {config.preset} needs data: name it with --data, or run newsdesk fetch ag-news once"
        )
    return fetched


def compile_target(
    target: str, preset: str, model: str | None, image: str | None, settings: tuple[str, ...], beam: str | None
) -> "tuple[Config, str, list[Problem]]":
    """Returns the configuration that ``target_options`` name, and with it what ``compile_for`` returns.

    What TensorFlow says while it is imported is not shown.
    """
    collect_seldom()
    from pipeline.cli.screen import quiet, silence_warnings

    settings = with_beam(settings, beam)
    config = configure(preset, model, (*settings, *([f"orchestrator.image={image}"] if image else [])))
    silence_warnings()
    with quiet(Path(os.devnull)):
        from pipeline.runners.compile import compile_for

        return config, *compile_for(target, config, begin_arguments(preset, settings, config))  # type: ignore[arg-type]


def begin_arguments(preset: str, settings: tuple[str, ...], config: "Config") -> list[str]:
    """Returns what gives the same settings to ``newsdesk node begin``; where steps run is not its concern."""
    kept = [item for item in settings if not item.startswith("orchestrator.")]
    if config.beam.needs_image and not config.beam.image:
        kept.append(f"beam.image={config.orchestrator.image}")
    return ["--preset", preset, *(part for item in kept for part in ("--set", item))]
