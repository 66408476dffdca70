"""A directory of models, and repositories that follow it by themselves."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from version_world import World

from serving.repository.repository import Repository


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "serving" / "ag_news").mkdir(parents=True)
    return World(tmp_path / "serving")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Python's own collector stays away, so that what is freed was freed on purpose."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def started(world: World) -> Iterator[Callable[..., Repository]]:
    """Opens repositories that follow the disk by themselves, and stops them."""
    with ExitStack() as stack:

        def start(**options: Any) -> Repository:
            repository = world.open(poll_seconds=0.02, clock=time.monotonic, **options)
            repository.start()
            stack.callback(repository.stop)
            return repository

        yield start
    assert not [thread for thread in threading.enumerate() if thread.name in ("newsdesk-poll", "newsdesk-load")]
