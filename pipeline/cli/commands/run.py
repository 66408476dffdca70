"""``newsdesk run``."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from components.outcomes import Outcome
from pipeline.cli.asked import configure, data_directory, prepare, with_beam
from pipeline.cli.options import beam_option, json_option, run_options
from pipeline.cli.process import collect_seldom, end_on_sigterm, say

if TYPE_CHECKING:
    from pipeline.run.record import RunResult


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
    from pipeline.cli.screen import Progress, quiet, silence_warnings
    from pipeline.config.beam import check_local
    from pipeline.workspace.place import open_workspace

    end_on_sigterm()
    config = configure(preset, model, with_beam(settings, beam))
    check_local(config.beam, config.orchestrator.image)
    directory = data_directory(config, data, cache)
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
            from pipeline.run.execute import execute
            from pipeline.run.record import Request, new_run_id
            from pipeline.workspace.stores import find_stores

            stores = find_stores(place, os.environ, config.stores)
            request = Request(config, source, place, stores.tracking, prepared, not no_cache, stores.metadata)
            result = execute(request, new_run_id(), progress.update)
        if as_json:
            click.echo(result.to_json(), file=out)
    if not as_json:
        _print_result(result, stores.tracking.uri)
    where = f" (traceback in {log})" if result.outcome is Outcome.FAILED else ""
    for reason in result.reasons:
        say(f"newsdesk: {reason}{where}", err=True)
    sys.exit(result.outcome.exit_code)


def _print_result(result: "RunResult", tracking: str) -> None:
    click.echo()
    if result.metrics:
        shown = ("accuracy", "macro_f1", "worst_class_f1", "log_loss", "calibration_error")
        say("test    " + "  ".join(f"{name} {result.metrics[name]:.4f}" for name in shown))
        if "baseline_accuracy" in result.metrics:
            linear = [f"{name} {result.metrics[f'baseline_{name}']:.4f}" for name in ("accuracy", "macro_f1")]
            say(f"linear  {'  '.join(linear)}  (a linear model on the same rows)")
    if result.model_dir:
        say(f"model   {result.model_name} version {result.model_version}: {result.model_dir}")
    if result.mlflow_run_id:
        say(f"mlflow  run {result.mlflow_run_id} in {tracking} (newsdesk ui shows it)")
    say(f"{result.outcome.status}  run {result.run_id}, {result.seconds:.0f} s")
