"""Entry point of ``newsdesk``. Imports nothing heavy: each subcommand's module is loaded when it is called."""

import codecs
import encodings.ascii
import errno
import importlib
import io
import logging
import os
import sys
from collections.abc import MutableMapping

import click

from components.clean import printable
from components.errors import BadInputError, GateRejectedError

_PLAIN = "newsdesk_ascii"
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_REMEDY = "see that it is of the right kind, this user may read and write it, and its disk has space"
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
        return importlib.import_module(f"pipeline.cli.commands.{cmd_name}").command

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
    set_libraries(os.environ)
    set_output()
    try:
        sys.exit(cli(prog_name="newsdesk", standalone_mode=False))
    except BadInputError as error:
        _end(f"newsdesk: {error}", 2)
    except GateRejectedError as error:
        _end(f"newsdesk: {error}", 3)
    except OSError as error:
        # What guards a file says more; this is for a directory in a file's place, a file system that is read-only and
        # the like, wherever they are met. A socket's error names no file.
        if error.filename is None and error.errno not in _DISK:
            raise
        _end(printable(f"newsdesk: {error.filename or 'a file'}: {error.strerror}: {_REMEDY}"), 2)
    except click.exceptions.NoArgsIsHelpError as error:
        _end(error.format_message(), 2)
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        _end(printable(f"newsdesk: {error.format_message().rstrip('.')}{hint}"), 2)
    except click.exceptions.Abort:
        _end("newsdesk: interrupted", 130)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)


def set_libraries(environment: MutableMapping[str, str]) -> None:
    """Sets what TensorFlow and MLflow read; all but the first only where the user has not chosen otherwise.

    Both model families, Transform's layer and Hub's are Keras 2. MLflow reports its use to its makers by
    default, tries an absent server for four minutes, and draws bars over the screen.
    """
    environment["TF_USE_LEGACY_KERAS"] = "1"
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    environment.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    environment.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    environment.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # It would copy the lock file of whatever project is in the current directory into every registered model.
    environment.setdefault("MLFLOW_LOG_UV_FILES", "false")
    environment.setdefault("MLFLOW_UV_AUTO_DETECT", "false")


def set_output() -> None:
    """Lets standard output and standard error replace what their encoding lacks, and logs hold one printable line a
    record.

    JSON needs no more than ASCII: ``json.dumps`` escapes what an encoding may lack.
    """
    # Under its own name, click takes a stream in ASCII for a mistake and writes UTF-8 to it.
    plain = encodings.ascii.getregentry()
    plain.name = _PLAIN
    codecs.register(lambda name: plain if name == _PLAIN else None)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=_PLAIN if ascii_only else None, errors="replace")
    logging.setLogRecordFactory(_PrintableRecord)


class _PrintableRecord(logging.LogRecord):
    def getMessage(self) -> str:
        return printable(super().getMessage())


def _end(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
