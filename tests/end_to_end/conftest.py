"""Runs the real command line in its own process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from newsdesk_process import Finished, call
from tiny_settings import TINY, to_options


@pytest.fixture(scope="session")
def newsdesk() -> Callable[..., Finished]:
    """Runs ``newsdesk ARGUMENTS``; ``prelude`` is Python to run in that process first."""
    return call


@pytest.fixture(scope="session")
def run_tiny(newsdesk: Callable[..., Finished]) -> Callable[..., Finished]:
    """Runs the whole pipeline with a tiny model: ``run_tiny(data, workspace, key=value...)``."""

    def run(data: Path, workspace: Path, *flags: str, settings: dict[str, str] | None = None, **more: Any) -> Finished:
        options = to_options({**TINY, **(settings or {})})
        return newsdesk("run", "--json", "--data", data, "--workspace", workspace, *options, *flags, **more)

    return run
