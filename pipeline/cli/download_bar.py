"""The bar that a download shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from components.download import Progress


@contextmanager
def download_bar(stream: IO[str]) -> Iterator[Progress | None]:
    """Shows a bar on a terminal, and nothing elsewhere."""
    if not stream.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    columns = (progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn())
    with progress.Progress(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
