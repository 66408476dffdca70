"""Entry point of ``newsdesk``. Imports nothing heavy: each subcommand's module is loaded when it is called."""

import importlib
import os
import sys

import click

from components.errors import BadInputError, GateRejectedError
from pipeline.environment import prepare

COMMANDS = {
    "run": "one whole pipeline run: ingest, validate, transform, train, evaluate, push, track",
    "predict": "classify texts with the pushed model, without a server",
    "serve": "the REST server",
    "batch": "classify files on Beam: CSV, JSON lines or Parquet in, the same rows with label and probability out",
    "retrain": "one retraining decision, and what follows from it",
    "schedule": "retrain on schedule, or print the schedule for another scheduler",
    "compile": "the same graph for an orchestrator",
    "submit": "hand a run, or a schedule of runs, to an orchestrator",
    "node": "one step of a run, for orchestrators",
    "models": "pushed versions and registry aliases: list, show, promote, rollback, gc",
    "report": "the page of one run",
    "compare": "two runs side by side on the same rows",
    "fetch": "download data into the cache, with checksum",
    "ui": "MLflow's pages on the workspace",
    "doctor": "is this machine ready, and if not what to do",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"pipeline.cli.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="newsdesk")
def cli() -> None:
    """Trains, gates, ships and tracks text classifiers.

    Exit codes: 0 done, 1 unexpected failure, 2 bad input, 3 a gate said no.
    """


def main() -> None:
    """Runs the command line and turns this project's errors into exit codes."""
    prepare(os.environ)
    try:
        sys.exit(cli(prog_name="newsdesk", standalone_mode=False))
    except BadInputError as error:
        _end(f"newsdesk: {error}", 2)
    except GateRejectedError as error:
        _end(f"newsdesk: {error}", 3)
    except click.exceptions.NoArgsIsHelpError as error:
        _end(error.format_message(), 2)
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        _end(f"newsdesk: {error.format_message().rstrip('.')}{hint}", 2)
    except click.exceptions.Abort:
        _end("newsdesk: interrupted", 130)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)


def _end(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
