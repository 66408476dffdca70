"""The real command line in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    """Runs ``newsdesk ARGUMENTS``; ``prelude`` is Python to run in that process first."""
    code = f"{prelude}\nfrom pipeline.cli.main import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=600,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)
