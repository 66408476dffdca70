"""Ready-to-use texts for schedulers that are there already: systemd, cron and Kubernetes."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml

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
    calendar = [f"OnCalendar={value}" for value in Cron(config.cron, config.time_zone).systemd()]
    service = [
        "[Unit]",
        "Description=newsdesk: one retraining decision",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "Type=oneshot",
        f"WorkingDirectory={_percent(str(directory))}",
        f"ExecStart={' '.join(map(_unit_word, command))}",
        "# A gate or a refused span is an answer and no failure of the unit.",
        "SuccessExitStatus=3",
        f"TimeoutStopSec={config.stop_seconds:g}",
        f"TimeoutStartSec={_JOB_SECONDS}",
        "# A URL for alerts, MLflow's address and its token belong in this file.",
        "EnvironmentFile=-/etc/newsdesk/environment",
    ]
    timer = [
        "[Unit]",
        "Description=newsdesk: when to decide on retraining",
        "",
        "[Timer]",
        *calendar,
        f"RandomizedDelaySec={config.jitter_seconds:g}",
        f"Persistent={'true' if config.misfire == 'once' else 'false'}",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return "\n".join(["# newsdesk-retrain.service", *service, "", "# newsdesk-retrain.timer", *timer, ""])


def crontab(config: ScheduleConfig, command: Sequence[str], directory: Path) -> str:
    """Returns the lines of a crontab; arguments and errors are those of ``systemd``."""
    _check_breaks(*command, str(directory))
    # cron takes a bare % for the end of the line.
    line = f"cd {shlex.quote(str(directory))} && {shlex.join(command)}".replace("%", "\\%")
    return "\n".join(
        [
            f"# Read in the zone {config.time_zone}: cronie honours CRON_TZ, Debian's cron goes by the zone of the",
            "# machine (timedatectl). Neither catches up on times that passed meanwhile, and neither waits at random.",
            f"CRON_TZ={config.time_zone}",
            f"{Cron(config.cron, config.time_zone).text} {line}",
            "",
        ]
    )


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
    container = {
        "name": "retrain",
        "image": image,
        "args": list(arguments),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108  the container's own
        "envFrom": [{"secretRef": {"name": "newsdesk", "optional": True}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": int(config.stop_seconds),
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    }
    spec = {
        "schedule": Cron(config.cron, config.time_zone).kubernetes(),
        "timeZone": config.time_zone,
        "concurrencyPolicy": "Forbid",
        # A time that passed longer ago than this is skipped, and of several only the last is made up for.
        "startingDeadlineSeconds": _JOB_SECONDS if config.misfire == "once" else 300,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 5,
        "jobTemplate": {
            "spec": {
                # The circuit decides about another try, not the cluster.
                "backoffLimit": 0,
                "activeDeadlineSeconds": _JOB_SECONDS,
                "template": {"spec": pod},
            }
        },
    }
    job = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec}
    return yaml.safe_dump(job, sort_keys=False)


def _check_breaks(*words: str) -> None:
    for word in words:
        if any(char in word for char in "\r\n\0"):
            raise BadInputError(f"{word!r} holds a line break or a NUL: name it otherwise")


def _unit_word(word: str) -> str:
    escaped = _percent(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return escaped if re.fullmatch(r"[\w./:=@%+,-]+", escaped, re.ASCII) else f'"{escaped}"'


def _percent(word: str) -> str:
    return word.replace("%", "%%")
