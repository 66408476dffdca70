"""What a gate tells of itself: whatever the graph, the settings, the card and the report must know of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from components.settings import Settings

SettingsT = TypeVar("SettingsT", bound=Settings)
Severity = Literal["fail", "warn", "off"]


class Limit(Settings):
    """One check: ``fail`` stops the run where ``threshold`` is passed, ``warn`` only says so, ``off`` does not look."""

    severity: Severity = "fail"
    threshold: float = Field(ge=0)


@dataclass(frozen=True)
class Gate(Generic[SettingsT]):
    """One gate.

    Attributes:
        name: Id of its node, and the gate's name in verdicts, tags and files.
        settings: Its class of settings, each with a default.
        section: The key of its settings in a configuration, such as ``data_gate``.
        component: Dotted name of its TFX component, which has an output ``verdict``. The component is given those of
            the parameters ``settings``, ``classes`` (both JSON) and ``code_digest`` that it declares.
        inputs: Names of the component's inputs to outputs of nodes before it, such as ``ExampleGen.examples``.
        place: Where in the graph it stands. Gates of one place run one after the other, in the order of the table.
        purpose: What it is for, for people: half a sentence.
        title: Heading over its verdict in a report.
        under: Id of the report's section that shows the verdict; None for a section of its own.
        template: Its own drawing in a report, below ``components/gates`` as ``data/templates/report.html.j2``. The
            template is given ``verdict`` and the report's macros and filters; None for the table of checks.
    """

    name: str
    settings: type[SettingsT]
    section: str
    component: str
    inputs: Mapping[str, str]
    place: Literal["before training", "before the push"]
    purpose: str
    title: str
    under: str | None = None
    template: str | None = None

    @property
    def module(self) -> str:
        """The module of the component."""
        return self.component.rpartition(".")[0]

    @property
    def anchor(self) -> str:
        """Id of its own section in a report."""
        return self.section.removesuffix("_gate")

    @property
    def verdict_input(self) -> str:
        """The name of its verdict among the inputs of nodes that are given the verdicts of all gates."""
        return f"{self.section}_verdict"

    def load(self) -> Any:
        """Returns the component; this imports TFX."""
        return getattr(import_module(self.module), self.component.rpartition(".")[2])
