"""Runs the real command line in its own process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# A model this small learns the tiny world in seconds.
TINY = {
    "text.vocab_size": "200",
    "text.max_tokens": "24",
    "text.min_count": "1",
    "transformer.width": "8",
    "transformer.heads": "2",
    "transformer.head_width": "4",
    "transformer.feed_forward": "8",
    "transformer.wide_buckets": "50",
    "transformer.epochs": "3",
    "transformer.batch_size": "16",
    "transformer.learning_rate": "0.02",
    # 80 test rows tell little.
    "model_gate.margin": "0.2",
}


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


@pytest.fixture(scope="session")
def newsdesk() -> Callable[..., Finished]:
    """Runs ``newsdesk ARGUMENTS``; ``prelude`` is Python to run in that process first."""

    def call(*arguments: str | Path, prelude: str = "", cwd: Path | None = None, **environment: str) -> Finished:
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

    return call


@pytest.fixture(scope="session")
def run_tiny(newsdesk: Callable[..., Finished]) -> Callable[..., Finished]:
    """Runs the whole pipeline with a tiny model: ``run_tiny(data, workspace, key=value...)``."""

    def call(data: Path, workspace: Path, *flags: str, settings: dict[str, str] | None = None, **more: Any) -> Finished:
        assignments = [part for item in {**TINY, **(settings or {})}.items() for part in ("--set", "=".join(item))]
        return newsdesk("run", "--json", "--data", data, "--workspace", workspace, *assignments, *flags, **more)

    return call
