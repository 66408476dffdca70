"""Shared fixtures: a tiny world of four classes in the AG News layout."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

# Before anything imports TensorFlow, as the command line does.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import pytest

WORDS = {
    "1": ["minister", "treaty", "border", "embassy", "ceasefire", "parliament"],
    "2": ["goal", "coach", "striker", "season", "penalty", "league"],
    "3": ["shares", "profit", "market", "bank", "merger", "investor"],
    "4": ["software", "galaxy", "chip", "robot", "genome", "browser"],
}


def tiny_rows(count: int, start: int = 0) -> list[tuple[str, str, str]]:
    """Returns rows of the four classes in turn, each with words of its own class and a number of its own."""
    rows = []
    for number in range(start, start + count):
        label = str(number % 4 + 1)
        words = WORDS[label]
        first, second, third = (words[(number // 4 + step) % len(words)] for step in range(3))
        rows.append(
            (label, f"The {first} and the {second}", f"Report {number} on the {third} of today, {first} again.")
        )
    return rows


def write_csv(path: Path, rows: list[tuple[str, str, str]]) -> None:
    """Writes rows in the AG News layout."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)


@pytest.fixture(scope="session")
def tiny_world() -> Callable[..., Path]:
    """Writes 400 train and 80 test rows to a directory: ``tiny_world(directory, malformed=[raw lines])``."""

    def make(directory: Path, malformed: list[str] | None = None) -> Path:
        directory.mkdir(parents=True)
        write_csv(directory / "train.csv", tiny_rows(400))
        write_csv(directory / "test.csv", tiny_rows(80, start=1000))
        if malformed:
            with (directory / "train.csv").open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in malformed)
        return directory

    return make


@pytest.fixture(autouse=True)
def no_wait_for_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server polls in this process's tests: a promotion need not wait until one has."""
    monkeypatch.setattr("components.aliases._POLLED_SECONDS", 0.0)


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """Writes a data directory: ``make_data(train=..., test=...)``; by default 400 and 80 separable rows."""

    def make(
        train: list[tuple[str, str, str]] | None = None,
        test: list[tuple[str, str, str]] | None = None,
        name: str = "data",
    ) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        write_csv(directory / "train.csv", tiny_rows(400) if train is None else train)
        write_csv(directory / "test.csv", tiny_rows(80, start=1000) if test is None else test)
        return directory

    return make
