"""What may be chosen when a compiled run is started."""

import re
from dataclasses import dataclass

from pipeline.config.config import Config
from pipeline.config.families import FAMILIES

AS_CONFIGURED = 0
"""Value of ``epochs`` that leaves them to the settings of the family that the run is started with."""


@dataclass(frozen=True)
class Parameter:
    """A runtime parameter.

    Attributes:
        name: In the compiled file, and behind ``--`` with dashes an option of ``newsdesk node begin``.
        default: Its type is the parameter's.
        help: One line.
    """

    name: str
    default: str | int | float | bool
    help: str

    @property
    def option(self) -> str:
        """The option of ``newsdesk node begin`` that takes it."""
        return "--" + self.name.replace("_", "-")


def parameters_of(config: Config) -> list[Parameter]:
    """Returns the parameters, with what the configuration says as defaults."""
    floors = config.floors
    return [
        Parameter("data", config.data.directory or config.orchestrator.data, "directory of the data"),
        Parameter("spans", config.data.spans, "all, last N or FROM..TO"),
        Parameter("model", config.model, " or ".join(FAMILIES)),
        # A number of its own would be that of the model in the file, and a run may be started with another.
        Parameter("epochs", AS_CONFIGURED, "passes over the train split; 0: as configured for the model"),
        Parameter("accuracy", floors.accuracy, "floor"),
        Parameter("macro_f1", floors.macro_f1, "floor"),
        Parameter("worst_class_f1", floors.worst_class_f1, "floor"),
        Parameter("calibration_error", floors.calibration_error, "ceiling"),
        Parameter("reuse", True, "answer a node from an earlier run on the same input"),
    ]


def settings_of(values: dict[str, str | int | float]) -> dict[str, str]:
    """Returns the settings, dotted key to text, that parameters of a started run stand for."""
    keys = {name: f"floors.{name}" for name in ("accuracy", "macro_f1", "worst_class_f1", "calibration_error")}
    keys |= {"spans": "data.spans", "model": "model"}
    if values.get("epochs", AS_CONFIGURED) != AS_CONFIGURED:
        keys["epochs"] = FAMILIES[str(values["model"])].epochs
    return {keys[name]: str(value) for name, value in values.items() if name in keys}


def slug(name: str) -> str:
    """Returns a name as Kubernetes and Vertex take it: ``ag-news`` for ``ag_news``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
