"""The real command line in a process of its own."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SECONDS = 600
# Each command is forked from a process that has imported the stack once, which takes a command ten seconds.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["pipeline.run.execute", "serving.model.models"])


@dataclass(frozen=True)
class Finished:
    """What a run left behind. ``result`` is what it printed as JSON, None if nothing."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.out)

    def states(self) -> dict[str, str]:
        return {node["id"]: node["state"] for node in self.result["nodes"]}


def call(*arguments: str | Path, prelude: str = "", cwd: Path | None = None, **environment: str) -> Finished:
    """Runs ``newsdesk ARGUMENTS``; ``prelude`` is Python to run in that process first.

    With a directory or a path to import from, the interpreter is started anew.
    """
    given = [str(part) for part in arguments]
    if cwd or "PYTHONPATH" in environment:
        command = [sys.executable, "-c", f"{prelude}\nfrom pipeline.cli.main import main\nmain()", *given]
        everything = {**os.environ, **environment}
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=everything, timeout=_SECONDS, check=False
        )
        return Finished(done.returncode, done.stdout, done.stderr)
    with tempfile.TemporaryDirectory() as directory:
        out, err = Path(directory, "out"), Path(directory, "err")
        process = fork(given, {**os.environ, **environment}, out, err, prelude)
        process.join(_SECONDS)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            raise TimeoutError(f"{given[:1]} did not end within {_SECONDS} s: {err.read_text(encoding='utf-8')}")
        return Finished(process.exitcode, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))


def fork(arguments: list[str], environment: dict[str, str], out: Path, err: Path, prelude: str = "") -> Any:
    """Starts ``newsdesk ARGUMENTS`` in a session of its own, with this environment and its output in files."""
    process = _FORKS.Process(target=_run, args=(arguments, environment, out, err, prelude))
    process.start()
    return process


def _run(arguments: list[str], environment: dict[str, str], out: Path, err: Path, prelude: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = ["newsdesk", *arguments]
    exec(prelude, {"__name__": "__main__"})
    from pipeline.cli.main import main

    main()
