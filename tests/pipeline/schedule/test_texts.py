"""The texts for schedulers that are there already: each is read by its own reader where that is on the machine."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from components.errors import BadInputError
from pipeline.schedule import texts
from pipeline.schedule.cron import ScheduleConfig

CONFIG = ScheduleConfig(cron="30 2 1,15 * MON-FRI", time_zone="Europe/Paris", jitter_seconds=90)
COMMAND = ["/bin/echo", "retrain", "--data", '/data/one "two" 100% $HOME', "--set", "data.spans=last 7"]


def split_units(text: str) -> dict[str, str]:
    units: dict[str, str] = {}
    for line in text.splitlines(keepends=True):
        if line.startswith("# newsdesk-retrain."):
            name = line[2:].strip()
            units[name] = ""
        else:
            units[name] += line
    return units


def test_systemd_gets_a_service_and_a_timer(tmp_path: Path) -> None:
    units = split_units(texts.systemd(CONFIG, COMMAND, tmp_path))
    assert list(units) == ["newsdesk-retrain.service", "newsdesk-retrain.timer"]
    timer = units["newsdesk-retrain.timer"].splitlines()
    assert [line for line in timer if line.startswith("OnCalendar=")] == [
        "OnCalendar=*-*-01,15 02:30:00 Europe/Paris",
        "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 02:30:00 Europe/Paris",
    ]
    assert "RandomizedDelaySec=90" in timer
    assert "Persistent=true" in timer
    skipping = split_units(texts.systemd(CONFIG.model_copy(update={"misfire": "skip"}), COMMAND, tmp_path))
    assert "Persistent=false" in skipping["newsdesk-retrain.timer"].splitlines()
    service = units["newsdesk-retrain.service"]
    assert 'ExecStart=/bin/echo retrain --data "/data/one \\"two\\" 100%% $$HOME" --set "data.spans=last 7"' in service


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd's own reader is not on this machine")
def test_systemd_reads_them(tmp_path: Path) -> None:
    for name, text in split_units(texts.systemd(CONFIG, COMMAND, tmp_path)).items():
        (tmp_path / name).write_text(text)
    for name in ("newsdesk-retrain.service", "newsdesk-retrain.timer"):
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        )
        told = [line for line in done.stderr.splitlines() if "newsdesk" in line]
        assert (done.returncode, told) == (0, [])


def test_a_crontab_line_runs_the_very_command(tmp_path: Path) -> None:
    text = texts.crontab(CONFIG, ["/usr/bin/printf", "%s\\n", *COMMAND[1:]], tmp_path)
    *_, zone, line = text.splitlines()
    assert zone == "CRON_TZ=Europe/Paris"
    assert line.startswith("30 2 1,15 * MON-FRI cd ")
    # cron gives the shell what stands before the first bare %, and drops the backslash before the others.
    given = line.removeprefix("30 2 1,15 * MON-FRI ")
    assert all(given[place - 1] == "\\" for place, char in enumerate(given) if char == "%")
    done = subprocess.run(["/bin/sh", "-c", given.replace("\\%", "%")], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == COMMAND[1:]
    assert shlex.quote(str(tmp_path)) in given


def test_kubernetes_gets_a_cron_job_that_runs_once_at_a_time_and_as_nobody() -> None:
    text = texts.kubernetes(
        CONFIG, ["retrain", "--data", "/data/spans"], "example.org/newsdesk@sha256:0", "daily", "feed"
    )
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"], job["metadata"]["name"]) == ("batch/v1", "CronJob", "daily")
    spec = job["spec"]
    assert spec["schedule"] == "30 2 1,15 * 1,2,3,4,5"
    assert spec["timeZone"] == "Europe/Paris"
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "feed"}}]
    (container,) = pod["containers"]
    assert container["image"] == "example.org/newsdesk@sha256:0"
    assert container["args"] == ["retrain", "--data", "/data/spans"]


@pytest.mark.parametrize("name", ["Daily", "daily_", "-daily", "daily-", "da ily", "d" * 60, ""])
def test_a_name_that_kubernetes_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(BadInputError, match="no name for Kubernetes"):
        texts.kubernetes(CONFIG, ["retrain"], "image", name, "feed")


def test_a_line_break_is_refused_where_it_would_begin_another_line(tmp_path: Path) -> None:
    for write in (texts.systemd, texts.crontab):
        with pytest.raises(BadInputError, match="line break"):
            write(CONFIG, ["/bin/echo", "one\n* * * * * two"], tmp_path)
        with pytest.raises(BadInputError, match="line break"):
            write(CONFIG, ["/bin/echo"], Path("/one\ntwo"))
