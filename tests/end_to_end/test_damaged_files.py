"""What a command reads may be damaged, a directory or not to be written: one sentence, exit code 2, no traceback."""

import itertools
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from newsdesk_process import Finished
from span_world import rows, write_span

from tests.end_to_end.conftest import Served

pytestmark = pytest.mark.e2e

GARBAGE, DIRECTORY, OTHER_SHAPE = "garbage", "a directory", "another shape"
DAMAGES = {GARBAGE: b"\xff\xfe\x00 no such thing \x80", OTHER_SHAPE: b'{"a": [1, null, {"b": "x"}]}\n'}
MODELS = (["models", "list"], ["models", "promote", "1"], ["models", "gc", "--keep", "1"])
RETRAIN = ["retrain", "--data", "{spans}", "--dry-run"]
SCHEDULE = ["schedule", "--data", "{spans}"]
READERS: dict[str, tuple[list[str], ...]] = {
    "metadata.sqlite": (["doctor", "--mark"], MODELS[2]),
    "mlflow.db": (*MODELS, ["compare", "a", "b"], ["doctor", "--mark"], RETRAIN),
    ".id": (MODELS[1], ["models", "adopt"]),
    "stores.json": (*MODELS, ["doctor", "--mark"], ["ui"]),
    "retrain/history.jsonl": (RETRAIN,),
    "retrain/notes.json": (RETRAIN,),
    "retrain/schedule.json": (SCHEDULE,),
    "serving/{name}/aliases.json": (["predict", "a text"], ["batch", "{rows}", "{out}"], MODELS[0], MODELS[2]),
    "serving/{name}/versions.json": (MODELS[2],),
    "serving/{name}/1/MANIFEST.json": (["models", "show", "1"], MODELS[1]),
    "serving/{name}/1/assets.extra/classes.txt": (["predict", "a text"],),
    "reports/{run}/run.json": (["report"],),
}
# No database is JSON, any line is a class name, notes may hold more, and a line that a kill tore is passed over.
HARMLESS = {
    ("metadata.sqlite", OTHER_SHAPE),
    ("mlflow.db", OTHER_SHAPE),
    ("serving/{name}/1/assets.extra/classes.txt", OTHER_SHAPE),
    ("retrain/notes.json", OTHER_SHAPE),
    ("retrain/history.jsonl", GARBAGE),
}
CASES = [
    pytest.param(file, damage, command, id=f"{file} {damage} {' '.join(command)}")
    for file, commands in READERS.items()
    for command, damage in itertools.product(commands, (GARBAGE, OTHER_SHAPE, DIRECTORY))
    if (file, damage) not in HARMLESS
]
ONLY_READ = (["models", "list"], ["predict", "a text"])
WRITE = (*MODELS[1:], ["report"], ["doctor", "--mark"], ["run"], SCHEDULE, ["retrain", "--data", "{spans}"])
READ_ONLY = """
import ctypes, subprocess
assert ctypes.CDLL(None).unshare(0x20000) == 0  # CLONE_NEWNS: nobody else sees the mount
for options in (["--make-rprivate", "/"], ["--bind", "{ws}", "{ws}"], ["-o", "remount,bind,ro", "{ws}"]):
    subprocess.run(["mount", *options], check=True)
"""


@pytest.fixture
def fill(served: Served, tmp_path: Path) -> Callable[[str], str]:
    """A copy of the workspace with what commands take besides; fills these into an argument or a path."""
    workspace = tmp_path / "ws"
    shutil.copytree(served.workspace, workspace, symlinks=True)
    now = datetime.now(UTC)
    write_span(tmp_path / "spans" / f"span-{now:%Y%m%d}", rows(40), rows(8, start=900), now=now)
    (tmp_path / "rows.csv").write_text("text\na text\n", encoding="utf-8")
    (workspace / "retrain").mkdir(exist_ok=True)
    places = {"spans": tmp_path / "spans", "rows": tmp_path / "rows.csv", "out": tmp_path / "out.csv", "ws": workspace}
    return lambda text: text.format(**places, name=served.first.result["model_name"], run=served.first.result["run_id"])


@pytest.mark.parametrize(("file", "damage", "command"), CASES)
def test_a_damaged_file_is_one_sentence(
    newsdesk: Callable[..., Finished], fill: Callable[[str], str], file: str, damage: str, command: list[str]
) -> None:
    place = Path(fill("{ws}/" + file))
    place.unlink(missing_ok=True)
    if damage == DIRECTORY:
        place.mkdir()
    else:
        place.write_bytes(DAMAGES[damage])
    done = newsdesk(*map(fill, command), "--workspace", fill("{ws}"))
    # What the registry holds is listed all the same, and the file is named.
    listed = command == MODELS[0] and "aliases" in file
    assert done.code == (0 if listed else 2), (done.code, done.out, done.err)
    assert "Traceback" not in done.err
    said = [line for line in done.err.splitlines() if place.name in line]
    assert said, done.err
    assert place.is_dir() if damage == DIRECTORY else place.read_bytes() == DAMAGES[damage]


@pytest.mark.parametrize("command", [*ONLY_READ, *WRITE], ids=" ".join)
def test_a_workspace_that_may_only_be_read_is_read_or_refused(
    newsdesk: Callable[..., Finished], fill: Callable[[str], str], command: list[str]
) -> None:
    done = newsdesk(*map(fill, command), "--workspace", fill("{ws}"), prelude=fill(READ_ONLY))
    assert "Traceback" not in done.err
    assert done.code == (0 if command in ONLY_READ else 2), done.err
    assert command in ONLY_READ or re.search("[Rr]ead-only|may write", done.err)


def test_a_place_that_cannot_be_written_to_is_named(
    newsdesk: Callable[..., Finished], fill: Callable[[str], str]
) -> None:
    done = newsdesk("compile", "--target", "kubeflow", "--output", fill("{ws}/no/out.yaml"))
    assert (done.code, done.err.startswith(f"newsdesk: {fill('{ws}/no/out.yaml')}: No such file")) == (2, True), (
        done.err
    )


def test_a_user_without_a_home_is_told(newsdesk: Callable[..., Finished], fill: Callable[[str], str]) -> None:
    without = "import os, pwd; os.environ.pop('HOME'); pwd.getpwuid = lambda _: (_ for _ in ()).throw(KeyError())"
    done = newsdesk("run", "--workspace", fill("{ws}"), prelude=without)
    assert (done.code, "Traceback" in done.err) == (2, False), done.err
    assert "set HOME" in done.err
