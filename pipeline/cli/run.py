"""``newsdesk run``."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from components.errors import BadInputError
from pipeline.cli.memory import collect_seldom
from pipeline.cli.options import beam_option, json_option, run_options
from pipeline.cli.stopping import end_on_sigterm

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.run import RunResult


@click.command("run", short_help="one whole pipeline run")
@run_options("Directory with train.csv and test.csv.")
@beam_option
@click.option("--no-cache", is_flag=True, help="Run every node, even one that has run on the same input before.")
@json_option
def command(
    preset: str,
    data: Path | None,
    model: str | None,
    workspace: Path,
    cache: Path,
    settings: tuple[str, ...],
    beam: str | None,
    no_cache: bool,
    as_json: bool,
) -> None:
    """One whole pipeline run: ingest, validate, transform, train, evaluate, push, track."""
    collect_seldom()
    from components.example_gen.spans import describe, open_data
    from pipeline.beam import check_local
    from pipeline.cli.screen import Progress, quiet, silence_warnings
    from pipeline.workspace import open_workspace

    end_on_sigterm()
    config = configure(preset, model, with_beam(settings, beam))
    check_local(config.beam, config.orchestrator.image)
    directory = data_directory(config, data, cache.expanduser())
    source = open_data(directory, config.data.spans, config.data.settle_minutes, datetime.now(UTC))
    place = open_workspace(workspace)
    silence_warnings()
    log = place.logs / "run.log"
    with quiet(log) as (out, err):
        screen = err if as_json else out
        prepared = prepare(config, cache, screen)
        with Progress(screen) as progress:
            progress.line(f"preset {config.preset}, model {config.model}, data {source.directory}")
            for line in describe(source):
                progress.line(line)
            progress.line(f"log {log}")
            from pipeline.run import Request, execute, new_run_id
            from pipeline.stores import find_stores

            stores = find_stores(place, os.environ, config.stores)
            request = Request(config, source, place, stores.tracking, prepared, not no_cache, stores.metadata)
            result = execute(request, new_run_id(), progress.update)
        if as_json:
            click.echo(result.to_json(), file=out)
    if not as_json:
        _print_result(result, stores.tracking.uri)
    for reason in result.reasons:
        click.echo(f"newsdesk: {reason}" + (f" (traceback in {log})" if result.exit_code == 1 else ""), err=True)
    sys.exit(result.exit_code)


def configure(preset: str, model: str | None, settings: tuple[str, ...]) -> "Config":
    """Returns the configuration that ``--preset``, ``--model`` and ``--set`` name."""
    from pipeline.config import override
    from pipeline.presets import make_config

    assignments = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise BadInputError(f"--set takes KEY=VALUE, not {setting!r}")
        if key.strip() == "preset":
            raise BadInputError("--set changes settings of a preset: choose the preset itself with --preset")
        assignments[key.strip()] = value.strip()
    if model:
        assignments["model"] = model
    return override(make_config(preset), assignments)


def with_beam(settings: tuple[str, ...], beam: str | None) -> tuple[str, ...]:
    """Returns the settings with what ``--beam`` stands for."""
    return (*settings, f"beam.profile={beam}") if beam else settings


def prepare(config: "Config", cache: Path, screen: IO[str]) -> dict[str, Any]:
    """Brings into place what the configured family needs before the graph starts."""
    from pipeline.cli.download_bar import download_bar
    from pipeline.families import FAMILIES, Downloads

    with download_bar(screen) as progress:
        downloads = Downloads(cache, os.environ, lambda line: click.echo(line, file=screen), progress)
        return FAMILIES[config.model].prepare(config, downloads)


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


def _print_result(result: "RunResult", tracking: str) -> None:
    click.echo()
    if result.metrics:
        shown = ("accuracy", "macro_f1", "worst_class_f1", "log_loss", "calibration_error")
        click.echo("test    " + "  ".join(f"{name} {result.metrics[name]:.4f}" for name in shown))
        if "baseline_accuracy" in result.metrics:
            linear = [f"{name} {result.metrics[f'baseline_{name}']:.4f}" for name in ("accuracy", "macro_f1")]
            click.echo(f"linear  {'  '.join(linear)}  (a linear model on the same rows)")
    if result.model_dir:
        click.echo(f"model   {result.model_name} version {result.model_version}: {result.model_dir}")
    if result.mlflow_run_id:
        click.echo(f"mlflow  run {result.mlflow_run_id} in {tracking} (newsdesk ui shows it)")
    click.echo(f"{result.status}  run {result.run_id}, {result.seconds:.0f} s")
