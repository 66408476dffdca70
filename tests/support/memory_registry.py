"""A registry in memory, which can be cut off before any of its steps; otherwise it answers as MLflow does."""

from collections.abc import Mapping

from components.registry.registry import ALIASES, RegisteredVersion, Registry


class CutError(Exception):
    """The process was killed, or the store went away."""


class MemoryRegistry(Registry):
    """Stands in for MLflow where a test asks thousands of questions.

    Attributes:
        held: Tags by version.
        pointed: Version by alias.
        steps: Looks and changes so far; each tag is a step of its own.
        cut: The step that does not happen, nor any after it; None for all do.
    """

    def __init__(self, name: str = "ag_news"):
        self.name = name
        self.held: dict[str, dict[str, str]] = {}
        self.pointed: dict[str, str] = {}
        self.steps = 0
        self.cut: int | None = None

    def step(self) -> None:
        """Counts one step, or raises ``CutError``."""
        if self.cut is not None and self.steps >= self.cut:
            raise CutError(f"cut before step {self.steps}")
        self.steps += 1

    def versions(self) -> list[RegisteredVersion]:
        self.step()
        return [
            RegisteredVersion(
                self.name,
                number,
                f"run{number}",
                1_700_000_000_000 + int(number),
                dict(tags),
                tuple(alias for alias in ALIASES if self.pointed.get(alias) == number),
            )
            for number, tags in sorted(self.held.items(), key=lambda item: -int(item[0]))
        ]

    def tag(self, version: str, values: Mapping[str, str]) -> None:
        for key, value in values.items():
            self.step()
            self.held[version][key] = value

    def point(self, alias: str, version: str | None) -> None:
        self.step()
        if version is None:
            self.pointed.pop(alias, None)
        else:
            self.pointed[alias] = version
