"""What commands show: a live table or bar on a terminal, plain lines elsewhere; all else goes to a log file."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rich import progress as rich_progress
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from components import download
from components.clean import printable
from components.outcomes import NodeState
from pipeline.run.record import NodeRun

_STYLES = {
    NodeState.WAITING: "dim",
    NodeState.RUNNING: "yellow",
    NodeState.RAN: "green",
    NodeState.CACHED: "cyan",
    NodeState.FAILED: "bold red",
    NodeState.SKIPPED: "dim",
}
_PASSING_SECONDS = 60.0


@contextmanager
def quiet(log_file: Path) -> Iterator[tuple[IO[str], IO[str]]]:
    """Sends all output of this process, that of native libraries included, to a file.

    Args:
        log_file: Appended to.

    Yields:
        The real standard output and standard error.
    """
    with aside(1, log_file) as out, aside(2, log_file) as err:
        yield out, err


@contextmanager
def aside(descriptor: int, log_file: Path) -> Iterator[IO[str]]:
    """Sends what is written to standard output (1) or standard error (2) to a file, and yields the real one."""
    stream = {1: sys.stdout, 2: sys.stderr}[descriptor]
    stream.flush()
    # A server started later must not inherit the terminal through the copy.
    real_stream = os.fdopen(os.dup(descriptor), "w", 1, stream.encoding, stream.errors)
    with log_file.open("a", encoding="utf-8") as log, real_stream as real:
        os.dup2(log.fileno(), descriptor)
        try:
            yield real
        finally:
            stream.flush()
            os.dup2(real.fileno(), descriptor)


@contextmanager
def download_bar(stream: IO[str]) -> Iterator[download.Progress | None]:
    """Shows a bar on a terminal, and nothing elsewhere."""
    if not stream.isatty():
        yield None
        return
    columns = (rich_progress.BarColumn(), rich_progress.DownloadColumn(), rich_progress.TransferSpeedColumn())
    with rich_progress.Progress(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class Progress:
    """Shows the nodes of one run as they change.

    ``stream`` is where: standard error when standard output carries JSON.
    """

    def __init__(self, stream: IO[str]):
        self._console = Console(file=stream, highlight=False)
        self._live: Live | None = None
        self._shown: dict[str, str] = {}
        self._nodes: list[NodeRun] = []
        self._passing = ""
        self._passed = time.monotonic()

    def __enter__(self) -> "Progress":
        logger = logging.getLogger("newsdesk")
        logger.setLevel(logging.INFO)
        logger.addHandler(_Handler(self))
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger("newsdesk")
        logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, _Handler)]
        if self._live:
            self._live.stop()

    def update(self, nodes: list[NodeRun]) -> None:
        """Shows the nodes' new states."""
        self._nodes, self._passing = nodes, ""
        if self._live:
            self._refresh(self._live)
            return
        for node in nodes:
            if self._shown.get(node.id, NodeState.WAITING) != node.state:
                self._shown[node.id] = node.state
                if node.state != NodeState.RUNNING:
                    seconds = f"{node.seconds:6.1f} s" if node.seconds else ""
                    self._console.print(f"{node.id:<18}{_word(node.state):<9}{seconds}".rstrip())

    def passing(self, text: str) -> None:
        """Shows a line that the next one replaces; where lines stay, one a minute."""
        self._passing = text = printable(text)
        if self._live:
            self._refresh(self._live)
        elif time.monotonic() - self._passed >= _PASSING_SECONDS:
            self._passed = time.monotonic()
            self.line(text)

    def _refresh(self, live: Live) -> None:
        below = [Text(self._passing, style="dim", no_wrap=True)] if self._passing else []
        live.update(Group(_table(self._nodes), *below), refresh=True)

    def line(self, text: str) -> None:
        """Shows one line above the table."""
        self._console.print(printable(text), style="dim", markup=False, soft_wrap=True)


class _Handler(logging.Handler):
    def __init__(self, progress: Progress):
        super().__init__()
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        show = self._progress.passing if getattr(record, "passing", False) else self._progress.line
        show(f"  {record.getMessage()}")


def silence_warnings() -> None:
    """Drops the deprecation notices that the stack's own imports raise, about code that is not ours."""
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)


def _table(nodes: list[NodeRun]) -> Table:
    table = Table("node", "state", box=None, pad_edge=False)
    table.add_column("seconds", justify="right")
    table.add_column("peak MB", justify="right")
    for node in nodes:
        measured = node.state in (NodeState.RAN, NodeState.CACHED, NodeState.FAILED)
        table.add_row(
            node.id,
            Text(_word(node.state), style=_STYLES[node.state]),
            f"{node.seconds:.1f}" if measured else "",
            f"{node.peak_mb:.0f}" if measured else "",
        )
    return table


def _word(state: NodeState) -> str:
    return "done" if state is NodeState.RAN else state
