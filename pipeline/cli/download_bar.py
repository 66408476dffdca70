"""The bar that a download shows."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from components.download import Progress


@contextmanager
def download_bar() -> Iterator[Progress | None]:
    """Shows a bar on standard error if that is a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    columns = (progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn())
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
