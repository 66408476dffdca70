"""Ready-to-use texts for schedulers that are there already: systemd, cron and Kubernetes."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from components.errors import BadInputError
from pipeline.schedule.cron import Cron, ScheduleConfig

# One that hangs must not hold up the next for ever.
_JOB_SECONDS = 6 * 3600
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")


def systemd(config: ScheduleConfig, command: Sequence[str], directory: Path) -> str:
    """Returns a service and a timer, each under the name of its file.

    Args:
        config: When.
        command: What to run; its first word is an absolute path.
        directory: Where to run it.

    Raises:
        BadInputError: A word holds a line break, which neither a unit file nor a crontab can.
    """
    _check_breaks(*command, str(directory))
    return _render(
        "retrain.systemd.j2",
        calendar=Cron(config.cron, config.time_zone).systemd(),
        command=" ".join(map(_unit_word, command)),
        directory=_percent(str(directory)),
        job_seconds=_JOB_SECONDS,
        config=config,
    )


def crontab(config: ScheduleConfig, command: Sequence[str], directory: Path) -> str:
    """Returns the lines of a crontab; arguments and errors are those of ``systemd``."""
    _check_breaks(*command, str(directory))
    # cron takes a bare % for the end of the line.
    line = f"cd {shlex.quote(str(directory))} && {shlex.join(command)}".replace("%", "\\%")
    return _render("crontab.j2", text=Cron(config.cron, config.time_zone).text, line=line, config=config)


def kubernetes(config: ScheduleConfig, arguments: Sequence[str], image: str, name: str, claim: str) -> str:
    """Returns a CronJob.

    Args:
        config: When.
        arguments: What to run, without the command itself.
        image: With its digest.
        name: Of the job.
        claim: Name of the volume claim that holds workspace and data, mounted at ``/data``.

    Raises:
        BadInputError: A name is none of Kubernetes's.
    """
    for value in (name, claim):
        if not _NAME.fullmatch(value):
            raise BadInputError(f"{value!r} is no name for Kubernetes: use small letters, digits and hyphens")
    # JSON is YAML, and quotes whatever stands in it.
    return _render(
        "cronjob.yaml.j2",
        name=json.dumps(name),
        claim=json.dumps(claim),
        image=json.dumps(image),
        arguments=json.dumps(list(arguments)),
        schedule=json.dumps(Cron(config.cron, config.time_zone).kubernetes()),
        job_seconds=_JOB_SECONDS,
        config=config,
    )


def _render(template: str, **values: Any) -> str:
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    # Texts for schedulers, in which nothing is HTML.
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    return environment.get_template(template).render(values)


def _check_breaks(*words: str) -> None:
    for word in words:
        if any(char in word for char in "\r\n\0"):
            raise BadInputError(f"{word!r} holds a line break or a NUL: name it otherwise")


def _unit_word(word: str) -> str:
    escaped = _percent(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return escaped if re.fullmatch(r"[\w./:=@%+,-]+", escaped, re.ASCII) else f'"{escaped}"'


def _percent(word: str) -> str:
    return word.replace("%", "%%")
