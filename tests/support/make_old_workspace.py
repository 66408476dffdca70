"""Keeps a workspace of today's code in ``tests/golden/old_workspace``, for later versions to be held to.

    .venv/bin/python tests/support/make_old_workspace.py NAME

It is made by the command line of the environment that runs it, in ``HOME``, a place that no machine has: a later
version unpacks it elsewhere and writes the new place over ``HOME`` (``old_workspace.py``). ``NAME.tar.xz`` holds the
workspace and the spans behind it; ``NAME.json`` says how each was made and what the commands answered, among them what
the test compares with. Nothing of the machine, the user or the checkout stays in either; what the tool cannot take out
makes it fail. The rows are those of ``span_world.py``.
"""

import io
import json
import os
import platform
import re
import shutil
import socket
import sqlite3
import sys
import tarfile
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from newsdesk_process import call
from old_workspace import HOME, KEPT, write_over
from span_world import age, rows, write_csv
from tiny_settings import TINY, to_options

SETTINGS = TINY | {
    "data.spans": "last 2",
    "data.eval_fraction": "0.1",
    "data.malformed_budget": "0.02",
    "retrain.least_rows": "50",
    "retrain.champion_days": "none",
    "retrain.warm_start": "true",
}
REJECTED = {"data.spans": "20260301..20260302", "floors.calibration_error": "0"}
"""The rows of the second push, and a floor that no model reaches."""
JOB = "job-1"
STEPS = (
    *("ExampleGen", "ImportSchema", "StatisticsGen", "ExampleValidator", "Champion", "DataGate", "Baseline"),
    *("Transform", "Trainer", "Evaluator", "Answers", "Register", "ModelGate"),
)
TEXTS = ("The coach and the striker", "Shares of the bank", "A treaty at the border", "software for a robot")
USER_HOME = str(Path.home())
WORKSPACE, SPANS, CHECKOUT = HOME / "workspace", HOME / "spans", Path("/newsdesk")
# Nothing reads them again: what runs had to say, pictures, and pages, which are drawn anew from the facts beside them.
LEFT_OUT = ("logs/*", "mlartifacts/*/artifacts/*.png", "reports/*/index.html")


def main() -> None:
    (name,) = sys.argv[1:]
    if HOME.exists():
        raise SystemExit(f"{HOME} is in the way: delete it first")
    SPANS.mkdir(parents=True)
    os.environ |= {"HOME": str(HOME / "user"), "NEWSDESK_CACHE": str(HOME / "cache")}
    os.environ |= {"LOGNAME": "newsdesk", "USER": "newsdesk", "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    made = make()
    tidy()
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    pack(KEPT / f"{name}.tar.xz")
    shutil.rmtree(HOME)


def make() -> dict[str, Any]:
    """Three pushes, a quiet day, a day that is refused, and a job whose candidate is rejected.

    The second push began with the first one's weights. Its graph reads the vocabulary where the first one lies, so it
    answers only at ``HOME`` and only as long as that one is there: the third, a rejected candidate whose floor was
    lifted, serves, and the first is what a rollback returns to.
    """
    data = ["--data", str(SPANS), "--workspace", str(WORKSPACE), *to_options(SETTINGS)]
    asked: dict[str, list[Any]] = {}
    arrive(1)
    first = newsdesk(0, "retrain", "--json", *data)
    asked["1"] = newsdesk(0, "predict", "--json", "--workspace", WORKSPACE, *TEXTS)
    quiet = newsdesk(0, "retrain", "--json", *data)
    arrive(2)
    second = newsdesk(0, "retrain", "--json", *data)
    asked["2"] = newsdesk(0, "predict", "--json", "--workspace", WORKSPACE, *TEXTS)
    arrive(3, without="2")
    refused = newsdesk(3, "retrain", "--json", *data)
    rejected = job(*data[:2], *to_options(SETTINGS | REJECTED))
    compared = newsdesk(0, "compare", "--json", "--workspace", WORKSPACE, second["run_id"], rejected["run_id"])
    third = newsdesk(0, "run", "--json", *data, *to_options({"data.spans": REJECTED["data.spans"]}))
    asked["3"] = newsdesk(0, "predict", "--json", "--workspace", WORKSPACE, *TEXTS)
    for number in ("1", "3"):
        newsdesk(0, "models", "promote", number, "--workspace", WORKSPACE)
    # A day is refused as long as the champion is the same: this one refuses it once more, and knows it from then on.
    again = newsdesk(3, "retrain", "--json", *data)
    return {
        "made_with": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("newsdesk", "tfx", "ml-metadata", "tensorflow", "mlflow")},
        },
        "settings": SETTINGS,
        "runs": {
            "first": first,
            "quiet": quiet,
            "second": second,
            "refused": refused,
            "rejected": rejected,
            "third": third,
            "refused again": again,
        },
        "job": JOB,
        "answers": asked,
        "compared": compared,
    }


def job(*options: str) -> dict[str, Any]:
    """A run by steps, as an orchestrator has them, until the ModelGate says no."""
    same = ["--job", JOB, "--workspace", str(WORKSPACE)]
    newsdesk(0, "node", "begin", *same, *options)
    for node in STEPS:
        newsdesk(3 if node == STEPS[-1] else 0, "node", node, *same)
    return json.loads(newsdesk(0, "node", "finish", *same).out.splitlines()[-1])


def arrive(day: int, without: str | None = None) -> None:
    """A day's span, perhaps without a class; that of the first day has a malformed row."""
    directory = SPANS / f"span-202603{day:02}"
    directory.mkdir()
    write_csv(directory / "train.csv", [row for row in rows(200, day * 1000) if row[0] != without])
    write_csv(directory / "test.csv", rows(60, day * 1000 + 500))
    if day == 1:
        with (directory / "train.csv").open("a", encoding="utf-8") as file:
            file.write('"1","a row without a text"\n')
    (directory / "_SUCCESS").touch()
    age(directory, 600, datetime.now(UTC))


def newsdesk(code: int, *arguments: Any) -> Any:
    done = call(*arguments, cwd=HOME)
    sys.stderr.write(f"newsdesk {' '.join(map(str, arguments[:2]))}: {done.code}\n")
    if done.code != code:
        raise SystemExit(f"{arguments} ended with {done.code}, not {code}: {done.err}")
    return done.result if "--json" in arguments else done


def tidy() -> None:
    """Deletes what no later version reads, and takes the checkout's place out of what stays."""
    for pattern in LEFT_OUT:
        for path in WORKSPACE.glob(pattern):
            path.unlink()
    checkout = Path(sys.prefix).parent
    write_over(WORKSPACE, str(checkout), str(CHECKOUT))
    for name in ("metadata.sqlite", "mlflow.db"):
        with closing(sqlite3.connect(WORKSPACE / name)) as connection:
            connection.execute("VACUUM")
    places = (str(checkout), f"{USER_HOME}/")
    host = re.compile(rf"(?<![\w.-]){re.escape(socket.gethostname())}(?![\w.-])")
    for path in WORKSPACE.rglob("*"):
        text = read_text(path)
        if host.search(path.name) or host.search(text) or any(place in text for place in places):
            raise SystemExit(f"{path} names this machine")


def read_text(path: Path) -> str:
    """Returns what can be read in a file, of a database all of it."""
    if not path.is_file():
        return ""
    if path.suffix in (".db", ".sqlite"):
        with closing(sqlite3.connect(path)) as database:
            return "\n".join(database.iterdump())
    return path.read_bytes().decode("ascii", "replace")


def pack(target: Path) -> None:
    """Writes what is there in the order of names; times of files stay, since a span's tell how old it is."""
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for path in sorted((WORKSPACE, SPANS, *WORKSPACE.rglob("*"), *SPANS.rglob("*"))):
            entry = archive.gettarinfo(path, str(path.relative_to(HOME)))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = int(entry.mtime)
            archive.addfile(entry, io.BytesIO(path.read_bytes()) if entry.isreg() else None)
    sys.stderr.write(f"{target}: {target.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
