"""A run that is asked to end says so everywhere, and the next goes on from what is done."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto.metadata_store_pb2 import Execution
from mlflow import MlflowClient
from tiny_settings import TINY, to_options

from pipeline.metadata import MetadataPlace

pytestmark = pytest.mark.e2e


def test_sigterm_ends_a_run_in_order(
    tmp_path: Path, tiny_world: Callable[..., Path], run_tiny: Callable[..., Any]
) -> None:
    data, workspace = tiny_world(tmp_path / "data"), tmp_path / "ws"
    command = [sys.executable, "-m", "pipeline.cli.main", "run", "--data", str(data), "--workspace", str(workspace)]
    with subprocess.Popen([*command, *to_options(TINY)], env=os.environ, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None and not list((workspace / "artifacts" / "Transform").glob("*/*")):
            time.sleep(0.05)
        running.terminate()
        assert running.wait(60) == 128 + signal.SIGTERM

    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("ag_news").experiment_id])
    assert run.info.status == "KILLED"
    assert run.data.tags["reason"] == "stopped by SIGTERM"
    assert run.data.tags["node.Transform"] == "failed"
    executions = MetadataPlace(f"sqlite:///{workspace}/metadata.sqlite").open().get_executions()
    stopped = [item for item in executions if item.last_known_state == Execution.CANCELED]
    assert [item.custom_properties["reason"].string_value for item in stopped] == ["stopped by SIGTERM"]
    assert not [item for item in executions if item.last_known_state == Execution.RUNNING]

    done = run_tiny(data, workspace)
    assert done.code == 0, done.err
    states = done.states()
    assert (states["ExampleGen"], states["Transform"], states["Pusher"]) == ("cached", "ran", "ran")
