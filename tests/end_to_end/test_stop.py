"""A run that is asked to end says so everywhere, and the next goes on from what is done."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto.metadata_store_pb2 import Execution
from mlflow import MlflowClient
from tiny_settings import TINY, to_options

from pipeline.workspace.metadata import MetadataPlace

pytestmark = pytest.mark.e2e


SHORTER = {"text.max_tokens": "20"}
"""Transform and what is behind it run anew."""


def test_sigterm_ends_a_run_in_order(served: Any, run_tiny: Callable[..., Any]) -> None:
    data, workspace = served.data, served.workspace
    command = [sys.executable, "-m", "pipeline.cli.main", "run", "--data", str(data), "--workspace", str(workspace)]
    before = transformed(workspace)
    options = to_options(TINY | SHORTER)
    with subprocess.Popen([*command, *options], env=os.environ, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None and transformed(workspace) == before:
            time.sleep(0.05)
        running.terminate()
        assert running.wait(60) == 128 + signal.SIGTERM

    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    run, _ = client.search_runs([client.get_experiment_by_name("ag_news").experiment_id])
    assert run.info.status == "KILLED"
    assert run.data.tags["reason"] == "stopped by SIGTERM"
    assert run.data.tags["node.Transform"] == "failed"
    executions = MetadataPlace(f"sqlite:///{workspace}/metadata.sqlite").open().get_executions()
    stopped = [item for item in executions if item.last_known_state == Execution.CANCELED]
    assert [item.custom_properties["reason"].string_value for item in stopped] == ["stopped by SIGTERM"]
    assert not [item for item in executions if item.last_known_state == Execution.RUNNING]

    # Two start at once, and one goes on from what is done (fault 12).
    with ThreadPoolExecutor(2) as pool:
        ended = pool.map(lambda _: run_tiny(data, workspace, settings=SHORTER), range(2))
        done, refused = sorted(ended, key=lambda each: each.code)
    assert (done.code, refused.code) == (0, 2), done.err + refused.err
    assert refused.out == ""
    assert f"run {done.result['run_id']} " in refused.err.splitlines()[-1]
    assert "Traceback" not in refused.err
    states = done.states()
    assert (states["ExampleGen"], states["Transform"], states["Pusher"]) == ("cached", "ran", "ran")
    for name in ("metadata.sqlite", "mlflow.db"):
        with closing(sqlite3.connect(workspace / name)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def transformed(workspace: Path) -> set[Path]:
    return set((workspace / "artifacts" / "Transform").glob("*/*"))
