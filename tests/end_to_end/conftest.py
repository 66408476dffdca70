"""Runs the real command line in its own process."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Served:
    """A workspace in which version 1 is the champion, the data that it was trained on, and the run that did."""

    workspace: Path
    data: Path
    first: Finished


@pytest.fixture(scope="session")
def champion(
    tmp_path_factory: pytest.TempPathFactory, run_tiny: Callable[..., Finished], tiny_world: Callable[..., Path]
) -> Served:
    """Made once; nothing may be changed in it but through ``served``, which takes all changes back."""
    root = tmp_path_factory.mktemp("champion")
    data = tiny_world(root / "data")
    first = run_tiny(data, root / "ws")
    assert first.code == 0, first.err
    return Served(root / "ws", data, first)


@pytest.fixture(scope="module")
def served(champion: Served) -> Iterator[Served]:
    """The champion's workspace for the tests of one module, at its place, by which the cache knows it."""
    kept = champion.workspace.with_name("kept")
    shutil.copytree(champion.workspace, kept, symlinks=True)
    yield champion
    # The database in its place, since MLflow's client in this process holds the file open.
    database = champion.workspace / "mlflow.db"
    shutil.copyfile(kept / "mlflow.db", database)
    database.replace(kept / "mlflow.db")
    shutil.rmtree(champion.workspace)
    kept.rename(champion.workspace)
