"""MLflow's stores for tests: a sqlite file that is migrated once per session and copied, and a server of its own."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mlflow import MlflowClient

from components.registry.tracking import Store, choose_store

_START_SECONDS = 300


def make_store(root: Path) -> Store:
    """Makes an empty store as a workspace has it; migrating one of its own takes MLflow ten seconds."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "mlflow.db").write_bytes(_migrated())
    return choose_store({}, root / "mlflow.db", root / "mlartifacts")


@contextmanager
def out_of_order(root: Path) -> Iterator[None]:
    """While this holds, the store that ``make_store`` made answers every call with an error."""
    # In its place, since a client may hold the file open.
    database = root / "mlflow.db"
    held = database.read_bytes()
    database.write_bytes(b"not a database\n" * 1000)
    try:
        yield
    finally:
        database.write_bytes(held)


class Server:
    """An MLflow server on this machine, whose files are below one directory.

    Attributes:
        store: How to reach it; the same after a restart.
        arguments: More of its command line.
        environment: More of its environment.
    """

    def __init__(
        self, root: Path, arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
    ):
        """Makes a sqlite store for it, unless its arguments name another."""
        self._root = root
        if arguments is None:
            make_store(root)
        self.arguments = arguments or ["--backend-store-uri", f"sqlite:///{root / 'mlflow.db'}"]
        self.environment = environment or {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.store = Store(f"http://127.0.0.1:{self._port}", None)
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Returns when it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--workers", "1", *self.arguments]
        command += ["--artifacts-destination", (self._root / "mlartifacts").as_uri()]
        with (self._root / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Jobs are eight processes that nobody here needs.
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **self.environment},
                start_new_session=True,
            )
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError((self._root / "server.log").read_text(encoding="utf-8"))
            time.sleep(0.2)

    @property
    def process_group(self) -> int:
        """Of the server that runs."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Ends it without warning, as a power cut would; ended already, nothing happens."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.store.uri}/health", timeout=5):
                return True
        except OSError:
            return False


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mlflow.db"
        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
        return path.read_bytes()
