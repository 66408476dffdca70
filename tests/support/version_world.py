"""Versions on a disk, models that remember where they were read from, and a clock that tests move."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from components.push.aliases import write_aliases
from components.push.garbage import read_leases
from components.push.manifest import MANIFEST, hash_model, make_manifest
from serving.errors import Code, RequestError
from serving.model.loaded import Answers
from serving.repository.repository import Observer, Repository

SECONDS = 60


class FakeModel:
    """Knows where it was read from, and is part of a cycle, as a SavedModel is."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.graph = (directory / "saved_model.pb").read_text()
        self.classes = ["World", "Sports"]
        self.signatures: dict[str, Any] = {}
        self.itself = self

    def answer(self, texts: Sequence[bytes]) -> Answers:
        raise AssertionError("nobody asks it")

    answer_examples = answer


@dataclass
class World:
    """A directory of models, and what was done with it.

    Attributes:
        serving: The directory.
        errors: What reading raises, by the text of the graph.
        warming: The same of warming up.
        loads: Directories in the order in which they were read.
        alive: Every model that was ever read, by its directory's name; dead ones have no target.
    """

    serving: Path
    errors: dict[str, Callable[[], Exception]] = field(default_factory=dict)
    warming: dict[str, Callable[[], Exception]] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    warmed: list[str] = field(default_factory=list)
    alive: list[tuple[str, "weakref.ref[FakeModel]"]] = field(default_factory=list)
    now: float = 1000.0

    @property
    def base(self) -> Path:
        return self.serving / "ag_news"

    def open(self, place: Path | None = None, **options: Any) -> Repository:
        options = {"load": self.load, "warm": self.warm, "clock": lambda: self.now} | options
        return Repository(place or self.serving, **options)

    def load(self, directory: Path) -> FakeModel:
        self.loads.append(directory.name)
        model = FakeModel(directory)
        self.alive.append((directory.name, weakref.ref(model)))
        if model.graph in self.errors:
            raise self.errors[model.graph]()
        return model

    def warm(self, model: Any) -> None:
        self.warmed.append(model.directory.name)
        if model.graph in self.warming:
            raise self.warming[model.graph]()

    def living(self) -> list[str]:
        """Returns the versions whose models are in memory; nothing is collected here."""
        return [name for name, reference in self.alive if reference() is not None]

    def push(self, number: int, graph: str = "graph", name: str = "ag_news") -> Path:
        """Puts a version there at once, as a push does."""
        aside = self.serving / name / f".tmp-{number}"
        for place, text in (
            ("saved_model.pb", graph),
            ("variables/variables.index", "index"),
            ("variables/variables.data-00000-of-00001", "weights" * 100),
            ("assets.extra/classes.txt", "World\nSports\n"),
        ):
            (aside / place).parent.mkdir(parents=True, exist_ok=True)
            (aside / place).write_text(text)
        (aside / MANIFEST).write_text(make_manifest(number, hash_model(aside), {}))
        directory = self.serving / name / str(number)
        aside.rename(directory)
        return directory

    def point(self, name: str = "ag_news", **aliases: int) -> None:
        write_aliases(self.serving, name, aliases)


class Diary(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []

    def loaded(self, model: str, version: int, seconds: float) -> None:
        self.entries.append(("loaded", model, version, seconds))

    def load_failed(self, model: str, version: int, message: str) -> None:
        self.entries.append(("failed", model, version, message))


def number(repository: Repository, model: str = "ag_news", **asked: Any) -> int:
    """Returns the version that answers."""
    with repository.use(model, **asked) as version:
        return version.number


def refusal(call: Callable[[], Any]) -> tuple[Code, str]:
    with pytest.raises(RequestError) as caught:
        call()
    return caught.value.code, caught.value.message


def states(repository: Repository, model: str = "ag_news") -> dict[int, str]:
    return {status.version: status.state.name for status in repository.status(model)}


NOT_FOUND, INVALID = Code.NOT_FOUND, Code.INVALID_ARGUMENT


def change_weights(directory: Path) -> None:
    (directory / "variables" / "variables.data-00000-of-00001").write_text("other")


def leased(base: Path) -> list[int]:
    return sorted(version for lease in read_leases(base) for version in lease.versions)
