"""``newsdesk submit``."""

import json
import os
from typing import Any

import click

from components.errors import BadInputError
from pipeline.cli.asked import compile_target
from pipeline.cli.options import json_option, target_options
from pipeline.cli.process import say


@click.command("submit", short_help="hand a run, or a schedule of runs, to an orchestrator")
@target_options
@click.option("--param", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option("--schedule", "scheduled", is_flag=True, help="At the times of schedule.cron, instead of once now.")
@click.option("--replace", is_flag=True, help="With --schedule: in place of the one of the same name.")
@json_option
def command(
    target: str, assignments: tuple[str, ...], scheduled: bool, replace: bool, as_json: bool, **asked: Any
) -> None:
    """Compiles the graph and hands it over, once the target can run it."""
    if replace and not scheduled:
        raise BadInputError("--replace is for schedules: add --schedule")
    config, text, problems = compile_target(target, **asked)
    from pipeline.runners.lint import refuse
    from pipeline.runners.submit import read_arguments, submit_kubeflow, submit_vertex

    arguments = read_arguments(config, assignments)
    refuse(problems, target)  # type: ignore[arg-type]
    hand_over = submit_kubeflow if target == "kubeflow" else submit_vertex
    done = hand_over(text, config, arguments, scheduled, replace, os.environ)
    if as_json:
        click.echo(json.dumps({"name": done.name, "shown_at": done.shown_at, "replaced": list(done.replaced)}))
        return
    for old in done.replaced:
        say(f"deleted {old}")
    say(f"{'schedule' if scheduled else 'run'} {done.name}" + (f": {done.shown_at}" if done.shown_at else ""))
