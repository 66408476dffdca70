"""The compiled Kubeflow file, run as it stands: every container's command as a process, to a pushed model."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from kubeflow_backend import SUCCEEDED, Backend, Outcome
from mlflow import MlflowClient
from tiny_settings import TINY, to_options

pytestmark = pytest.mark.e2e

KILLED = "transform"
NODES = 17


class Shared:
    """What the containers of a cluster share: the volume, the image's environment, a secret."""

    def __init__(self, root: Path, newsdesk: Callable[..., Any]):
        self.root, self._newsdesk = root, newsdesk
        self.workspace = root / "workspace"
        self.tracking = f"sqlite:///{root}/elsewhere.db"
        self.file = root / "kubeflow.yaml"
        # As in the image, newsdesk is on the path; nothing else of this process's environment is handed on.
        self.image = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(root)}
        self.image |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}

    def compile(self) -> None:
        place = {
            "orchestrator.workspace": str(self.workspace),
            "orchestrator.cache": str(self.root / "cache"),
            "orchestrator.mount": str(self.root),
            "orchestrator.claim": "newsdesk",
            "orchestrator.backoff_seconds": "1",
            "orchestrator.environment": json.dumps({"MLFLOW_TRACKING_URI": self.tracking}),
            "orchestrator.secrets": json.dumps({"MLFLOW_TRACKING_TOKEN": "mlflow/token"}),
        }
        done = self._newsdesk("compile", "--target", "kubeflow", "--output", self.file, *to_options(TINY | place))
        assert done.code == 0, done.err

    def run(self, job: str, on_start: Callable[..., None] | None = None, **arguments: Any) -> Outcome:
        secrets = {("mlflow", "token"): "from-the-cluster"}
        return Backend(self.file, self.image, secrets, on_start).run(job, arguments)

    def result(self, job: str) -> dict[str, Any]:
        return json.loads((self.workspace / "runs" / job / "result.json").read_text())


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, newsdesk: Callable[..., Any], tiny_world: Callable[..., Path]
) -> Shared:
    made = Shared(tmp_path_factory.mktemp("kubeflow"), newsdesk)
    tiny_world(made.root / "data")
    made.compile()
    return made


@pytest.fixture(scope="module")
def first(shared: Shared) -> Outcome:
    """A run in which one step is killed once its node has begun."""

    def kill(task: str, number: int, process: BaseProcess) -> None:
        if task == KILLED and number == 0:
            begun = shared.workspace / "runs" / "job-1" / "started" / "Transform"
            while process.exitcode is None and not begun.exists():
                time.sleep(0.05)
            # In the midst of the node's work: the launcher has written to the metadata store by then.
            while process.exitcode is None and not list((shared.workspace / "artifacts" / "Transform").glob("*/*")):
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)

    return shared.run("job-1", kill, data=str(shared.root / "data"), epochs=3)


def test_the_file_alone_leads_to_a_pushed_model(shared: Shared, first: Outcome) -> None:
    assert set(first.states.values()) == {SUCCEEDED}, first.log()
    result = shared.result("job-1")
    assert (result["status"], result["model_version"], result["reasons"]) == ("pushed", "1", [])
    assert [node["state"] for node in result["nodes"]] == ["ran"] * NODES
    assert result["metrics"]["accuracy"] > 0.9
    assert (shared.workspace / "serving" / "ag_news" / "1" / "MANIFEST.json").is_file()
    assert Path(result["report"]).is_file()


def test_the_killed_step_was_retried_and_nothing_else(first: Outcome) -> None:
    assert [attempt.code for attempt in first.of(KILLED)] == [-signal.SIGKILL, 0], first.log()
    assert all(len(first.of(task)) == 1 for task in first.states if task not in (KILLED, "exit-handler-1"))


def test_branches_run_at_once(first: Outcome) -> None:
    (examples,), (champion,) = first.of("examplegen"), first.of("champion")
    assert max(examples.started, champion.started) < min(examples.ended, champion.ended)


def test_the_run_is_tracked_where_the_file_says(shared: Shared, first: Outcome) -> None:
    result = shared.result("job-1")
    run = MlflowClient(shared.tracking).get_run(result["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["transformer.epochs"] == "3"
    assert run.data.tags["job"] == "job-1"
    assert run.data.tags["serving_version"] == "1"
    assert {"mlmd_context_id", "data_digest", "code_version"} <= set(run.data.tags)
    assert not (shared.workspace / "mlflow.db").exists()


def test_the_secret_stands_in_no_file(shared: Shared, first: Outcome) -> None:
    kept = [path for path in shared.workspace.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in (shared.file, *kept) if b"from-the-cluster" in path.read_bytes()]
    assert "from-the-cluster" not in first.log()


def test_the_pushed_model_answers(shared: Shared, first: Outcome, newsdesk: Callable[..., Any]) -> None:
    done = newsdesk("predict", "--json", "--workspace", shared.workspace, "the coach and the striker")
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["label"] == "Sports"
