"""The servers that ``benchmarks/serving_speed.py`` compares, each a process of its own, and the bare loop."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from load import make_request

ROOT = Path(__file__).parents[1]
NEWSDESK = "newsdesk serve"
_PATIENCE_SECONDS = 180.0


@dataclass
class Side:
    """A server that answers.

    Attributes:
        name: Of it in the table.
        address: Host and port.
        requests: One whole request per headline.
        process: Its process.
        cold_seconds: From its start to its first answer.
    """

    name: str
    address: tuple[str, int]
    requests: list[bytes]
    process: psutil.Process
    cold_seconds: float

    def memory(self) -> int:
        """Returns resident bytes, of its children as well."""
        return sum(process.memory_info().rss for process in [self.process, *self.process.children(recursive=True)])

    def cpu_seconds(self) -> float:
        """Returns the processor time used so far, of its children as well."""
        times = [process.cpu_times() for process in [self.process, *self.process.children(recursive=True)]]
        return sum(each.user + each.system for each in times)

    def get(self, path: str) -> str:
        """Returns the body of a GET."""
        with urllib.request.urlopen(f"http://{self.address[0]}:{self.address[1]}{path}", timeout=10) as answer:
            return answer.read().decode()


def headlines() -> list[str]:
    """Returns the titles of the bundled sample, which is written for this project."""
    path = ROOT / "components" / "example_gen" / "sample" / "test.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [row[1] for row in csv.reader(file)]


@contextmanager
def newsdesk(serving: Path, name: str, *settings: str) -> Iterator[Side]:
    """Runs ``newsdesk serve`` as it is installed, with its access log written to a file."""
    port = _free_port()
    command = [sys.executable, "-m", "pipeline.cli.main", "serve", "--model-dir", str(serving), "--port", str(port)]
    for setting in (f"access_log={serving.parent / 'access.jsonl'}", *settings):
        command += ["--set", setting]
    url = f"http://127.0.0.1:{port}/v1/models/{name}:predict"
    requests = [make_request(url, json.dumps({"instances": [text]}).encode()) for text in headlines()]
    with _process(NEWSDESK, command, port, requests) as side:
        yield side


@contextmanager
def mlflow(store: str, model: str, workers: int = 1) -> Iterator[Side]:
    """Runs ``mlflow models serve``.

    Args:
        store: Tracking URI.
        model: URI of the model, such as ``models:/ag_news@champion``.
        workers: Its processes.
    """
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    url = f"http://127.0.0.1:{port}/invocations"
    requests = [
        make_request(url, json.dumps({"dataframe_split": {"columns": ["text"], "data": [[text]]}}).encode())
        for text in headlines()
    ]
    with _process(
        f"mlflow models serve, {workers} workers", command, port, requests, {"MLFLOW_TRACKING_URI": store}
    ) as side:
        yield side


def bare_loop(version: Path, rows: float, seconds: float, session: bool) -> float:
    """Returns the texts a second of a loop over a version in a process of its own, with batches of so many."""
    command = [sys.executable, "-P", str(ROOT / "benchmarks" / "bare_loop.py"), str(version), str(rows), str(seconds)]
    command += ["--session"] if session else []
    done = subprocess.run(
        command,
        check=True,
        input=json.dumps(headlines()).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
    )
    return float(done.stdout)


@contextmanager
def _process(
    name: str, command: list[str], port: int, requests: list[bytes], more: dict[str, str] | None = None
) -> Iterator[Side]:
    begun = time.perf_counter()
    started = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment() | (more or {}), cwd=ROOT
    )
    process = psutil.Process(started.pid)
    try:
        address = ("127.0.0.1", port)
        while not _answers(address, requests[0]):
            if started.poll() is not None:
                raise RuntimeError(f"{name} ended with {started.returncode}: {' '.join(command)}")
            if time.perf_counter() - begun > _PATIENCE_SECONDS:
                raise TimeoutError(f"{name} did not answer within {_PATIENCE_SECONDS:.0f} s")
            time.sleep(0.02)
        yield Side(name, address, requests, process, time.perf_counter() - begun)
    finally:
        family = [*process.children(recursive=True)] if process.is_running() else []
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
        for each in psutil.wait_procs(family, timeout=10)[1]:
            each.kill()


def _answers(address: tuple[str, int], request: bytes) -> bool:
    try:
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(request)
            return client.recv(65536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": str(ROOT),
        # mlflow calls uvicorn by its name.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
