"""The registered model answers through MLflow, alone or as a server, without this project installed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from by_length import CLASSES, save_by_length
from running_server import wait_until

from components.registry.registry import save_pyfunc

# MLflow warns of type hints of its own when its models are first imported.
pytestmark = [pytest.mark.stack, pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")]
SECONDS = 300


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_by_length(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture(scope="module")
def answer(saved: Path) -> Any:
    """Answers with the model as MLflow has it answer."""
    from components.registry.pyfunc import TextClassifier

    model = TextClassifier()
    model.load_context(SimpleNamespace(artifacts={"saved_model": str(saved)}))
    return lambda *texts: model.predict(None, pd.DataFrame({"text": pd.Series(texts, dtype=str)}))


def test_a_row_per_text_in_their_order(answer: Any) -> None:
    found = answer("ab", "", "a", "ab")
    assert list(found.columns) == ["label", "label_id", "probabilities"]
    assert found["label_id"].tolist() == [2, 0, 1, 2]
    assert found["label"].tolist() == [CLASSES[number] for number in (2, 0, 1, 2)]
    assert found["probabilities"].tolist()[:2] == [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]]
    assert {type(label) for label in found["label"]} == {str}


def test_no_text_is_no_row(answer: Any) -> None:
    assert answer().empty


@pytest.mark.parametrize("text", ["通貨", "zero\x00byte", "🙂", "\n", "x" * 100_000])
def test_any_text_arrives_as_utf8(answer: Any, text: str) -> None:
    assert answer(text)["label_id"].tolist() == [len(text.encode()) % 3]


def test_answers_can_be_sent_as_json(answer: Any) -> None:
    (row,) = json.loads(answer("ab").to_json(orient="records"))
    assert row == {"label": "Business", "label_id": 2, "probabilities": [0.25, 0.25, 0.5]}


@pytest.mark.e2e
def test_mlflow_serves_it(saved: Path, tmp_path: Path) -> None:
    """``mlflow models serve`` in a directory, and with a path, where this project is not to be found."""
    save_pyfunc(saved, tmp_path / "wrapped")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    guard = tmp_path / "guard"
    guard.mkdir()
    hidden = ("components", "pipeline", "serving", "trainers", "tfx")
    (guard / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({hidden}))\n")
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(tmp_path / "wrapped")]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # MLflow starts uvicorn by its name, and this environment need not be an activated one.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(guard), "PATH": path},
        )  # fmt: skip
    try:
        wait_until(lambda: server.poll() is not None or answers(f"http://127.0.0.1:{port}/ping"), SECONDS)
        assert server.poll() is None, (tmp_path / "log").read_text()
        body = json.dumps({"dataframe_records": [{"text": "ab"}, {"text": ""}]}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            found = json.load(response)["predictions"]
    finally:
        # The server may have ended by itself: that is then the failure to be told, not that there is nothing to end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert [row["label"] for row in found] == ["Business", "World"]
    assert found[0]["probabilities"] == [0.25, 0.25, 0.5]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
