"""Shared fixtures: a tiny world of four classes in the AG News layout."""

import os
from collections.abc import Callable
from pathlib import Path

# Before anything imports TensorFlow, as the command line does.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import pytest
from span_world import Rows, rows, write_csv


@pytest.fixture(scope="session")
def tiny_world() -> Callable[..., Path]:
    """Writes 400 train and 80 test rows to a directory: ``tiny_world(directory, malformed=[raw lines])``."""

    def make(directory: Path, malformed: list[str] | None = None) -> Path:
        directory.mkdir(parents=True)
        write_csv(directory / "train.csv", rows(400))
        write_csv(directory / "test.csv", rows(80, start=1000))
        if malformed:
            with (directory / "train.csv").open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in malformed)
        return directory

    return make


@pytest.fixture(autouse=True)
def no_wait_for_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server polls in this process's tests: a promotion need not wait until one has."""
    monkeypatch.setattr("components.push.aliases._POLLED_SECONDS", 0.0)


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """Writes a data directory: ``make_data(train=..., test=...)``; by default 400 and 80 separable rows."""

    def make(train: Rows | None = None, test: Rows | None = None, name: str = "data") -> Path:
        directory = tmp_path / name
        directory.mkdir()
        write_csv(directory / "train.csv", rows(400) if train is None else train)
        write_csv(directory / "test.csv", rows(80, start=1000) if test is None else test)
        return directory

    return make
