"""Spans of a tiny world: days of four classes, each row with words of its own class and a number of its own."""

import csv
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

NOW = datetime(2026, 3, 10, 6, tzinfo=UTC)
WORDS = {
    "1": ["minister", "treaty", "border", "embassy", "ceasefire", "parliament"],
    "2": ["goal", "coach", "striker", "season", "penalty", "league"],
    "3": ["shares", "profit", "market", "bank", "merger", "investor"],
    "4": ["software", "galaxy", "chip", "robot", "genome", "browser"],
}
Rows = list[tuple[str, str, str]]


def rows(count: int, start: int = 0) -> Rows:
    """Returns rows of the four classes in turn."""
    made = []
    for number in range(start, start + count):
        label = str(number % 4 + 1)
        words = WORDS[label]
        first, second, third = (words[(number // 4 + step) % len(words)] for step in range(3))
        made.append(
            (label, f"The {first} and the {second}", f"Report {number} on the {third} of today, {first} again.")
        )
    return made


def write_csv(path: Path, content: Rows) -> None:
    """Writes rows in the AG News layout."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(content)


def write_span(
    directory: Path, train: Rows, test: Rows, marker: bool = True, minutes: float = 600, now: datetime = NOW
) -> Path:
    """Writes a span whose files are so many minutes old at ``now``."""
    directory.mkdir(parents=True)
    write_csv(directory / "train.csv", train)
    write_csv(directory / "test.csv", test)
    if marker:
        (directory / "_SUCCESS").touch()
    age(directory, minutes, now)
    return directory


def age(directory: Path, minutes: float, now: datetime = NOW) -> None:
    """Makes a directory and all in it so many minutes old."""
    then = (now - timedelta(minutes=minutes)).timestamp()
    for path in (*directory.iterdir(), directory):
        os.utime(path, (then, then))
