"""``newsdesk schedule``."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from components.errors import BadInputError
from pipeline.cli.options import run_options
from pipeline.cli.process import say


@click.command("schedule", short_help="retrain on schedule, or print the schedule for another scheduler")
@run_options("Directory of the spans.", data_required=True)
@click.option(
    "--print",
    "target",
    type=click.Choice(["systemd", "crontab", "kubernetes"]),
    help="Print the text for that scheduler, and do not keep the schedule here.",
)
@click.option(
    "--image", default="newsdesk:latest", show_default=True, help="For kubernetes: the image, with its digest."
)
@click.option("--claim", default="newsdesk", show_default=True, help="For kubernetes: the claim mounted at /data.")
def command(
    preset: str,
    data: Path,
    model: str | None,
    workspace: Path,
    cache: Path,
    settings: tuple[str, ...],
    target: str | None,
    image: str,
    claim: str,
) -> None:
    """Makes a retraining decision at every time of schedule.cron, until it is told to stop."""
    from pipeline.cli.asked import configure
    from pipeline.config.beam import check_local
    from pipeline.runners.parameters import slug
    from pipeline.schedule import texts
    from pipeline.schedule.cron import Cron
    from pipeline.schedule.keeper import Keeper

    config = configure(preset, model, settings)
    check_local(config.beam, config.orchestrator.image)
    cron = Cron(config.schedule.cron, config.schedule.time_zone)
    options = ["--preset", preset, *(["--model", model] if model else [])]
    options += [part for setting in settings for part in ("--set", setting)]
    if target == "kubernetes":
        # Inside the container the claim holds both.
        places = ["--data", "/data/spans", "--workspace", "/data/workspace", "--cache", "/data/cache"]
        arguments, name = ["retrain", *options, *places], f"{slug(config.name)}-retrain"
        click.echo(texts.kubernetes(config.schedule, arguments, image, name, claim), nl=False)
        return
    places = ["--data", str(data.resolve()), "--workspace", str(workspace)]
    places += ["--cache", str(cache)]
    if target:
        write = {"systemd": texts.systemd, "crontab": texts.crontab}[target]
        click.echo(write(config.schedule, [_executable(), "retrain", *options, *places], Path.cwd()), nl=False)
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    own = [sys.executable, "-m", "pipeline.cli.main", "retrain", *options, *places]
    keeper = Keeper(config.schedule, workspace / "retrain", lambda: subprocess.Popen(own))  # noqa: S603  our own command line
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, keeper.stop)
    say(f"next decision {cron.after(datetime.now(UTC)).isoformat()}; stop with Ctrl-C or SIGTERM", err=True)
    keeper.keep()


def _executable() -> str:
    beside = Path(sys.executable).with_name("newsdesk")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("newsdesk")
    if not found:
        raise BadInputError("the command newsdesk is not on the path: install the package where the schedule will run")
    return found
