"""``newsdesk serve`` as a process of its own, on a free port of loopback."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

ROOT = Path(__file__).parents[2]
_READY = re.compile(r"ready at (http://\S+)")


@dataclass
class Served:
    """A server that answers.

    Attributes:
        url: Of it.
        process: Its process.
        said: What it has written to standard error so far.
    """

    url: str
    process: "subprocess.Popen[str]"
    said: list[str]

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def predict(self, *texts: str, path: str = "/v1/models/ag_news:predict") -> requests.Response:
        """Asks for predictions."""
        return requests.post(self.url + path, json={"instances": texts}, timeout=30)

    def get(self, path: str) -> requests.Response:
        """Asks for anything."""
        return requests.get(self.url + path, timeout=30)

    def answers(self, text: str, path: str = "/v1/models/ag_news:predict") -> tuple[str, float]:
        """Returns class and probability of one text."""
        (row,) = self.predict(text, path=path).json()["predictions"]
        return row["label"], round(max(row["probabilities"]), 4)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Tells it to end and returns its exit code."""
        self.process.send_signal(how)
        return self.process.wait(60)


@contextmanager
def serving_process(model_dir: Path, *arguments: str, out: Path | None = None, **settings: object) -> Iterator[Served]:
    """Starts a server and waits until it is ready; ends it, if that has not happened.

    Args:
        model_dir: What to serve.
        arguments: More of the command line.
        out: Where its standard output goes.
        settings: Of ``--set``.
    """
    command = [sys.executable, "-m", "pipeline.cli.main", "serve", "--model-dir", str(model_dir), "--port", "0"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    with (out or Path(os.devnull)).open("w", encoding="utf-8") as stdout:
        process = subprocess.Popen(
            [*command, *arguments], cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, env={**os.environ}
        )
    said: list[str] = []
    ready = threading.Event()
    reader = threading.Thread(target=_read, args=(process, said, ready))
    reader.start()
    try:
        if not ready.wait(600):
            raise TimeoutError("the server did not get ready: " + "".join(said))
        found = [match[1] for line in said if (match := _READY.search(line))]
        if not found:
            raise RuntimeError("the server ended: " + "".join(said))
        yield Served(found[0], process, said)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)
        reader.join(20)
        if process.stderr:
            process.stderr.close()


def _read(process: "subprocess.Popen[str]", said: list[str], ready: threading.Event) -> None:
    assert process.stderr
    for line in process.stderr:
        said.append(line)
        if _READY.search(line):
            ready.set()
    ready.set()
