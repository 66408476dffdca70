"""What a run is made of: one frozen, strictly parsed configuration.

A preset makes a ``Config``, ``--set key=value`` changes single values of it, and each node is handed only
the part that concerns it. Nothing here imports TensorFlow.
"""

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, ValidationError, create_model

from components.errors import BadInputError, nearest
from components.gates.gate import Gate, SettingsT
from components.gates.table import GATES
from components.settings import Settings, describe
from pipeline.config.beam import BeamConfig
from pipeline.config.families import FAMILIES
from pipeline.config.orchestrator import OrchestratorConfig
from pipeline.config.retrain import RetrainConfig
from pipeline.schedule.cron import ScheduleConfig
from pipeline.workspace.stores import StoresConfig


class DataConfig(Settings):
    """Ingest."""

    directory: str | None = Field(None, description="where train.csv and test.csv are; None for the bundled sample")
    malformed_budget: float = Field(0.001, ge=0, le=1, description="largest share of malformed rows let pass")
    eval_fraction: float = Field(0.05, gt=0, lt=1, description="share of train.csv held out to choose the epoch on")
    spans: str = Field("all", description="of a directory of spans: all, last N or FROM..TO with days as YYYYMMDD")
    settle_minutes: float = Field(60, ge=0, description="minutes without a change after which a span is whole")
    late_spans: Literal["leave out", "take"] = Field(
        "leave out", description="spans that came, or changed, after newer ones had been trained on"
    )


class BaselineConfig(Settings):
    """The linear model that the candidate is shown beside."""

    rows: int = Field(200_000, ge=1, description="of train to fit it on at most, evenly spread")


class Floors(Settings):
    """What a model must reach on the test split to be pushed."""

    accuracy: float = Field(ge=0, le=1)
    macro_f1: float = Field(ge=0, le=1)
    worst_class_f1: float = Field(ge=0, le=1)
    calibration_error: float = Field(ge=0, le=1, description="a ceiling, not a floor")


class PushConfig(Settings):
    """What becomes of a model that every gate let pass."""

    as_: Literal["champion", "challenger"] = Field(
        "champion", alias="as", description="serves everyone, or only who asks for the challenger"
    )


class _Run(Settings):
    preset: str
    name: str = Field("ag_news", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="of pipeline and model")
    model: str = Field(next(iter(FAMILIES)), description="family of the model")
    data: DataConfig = DataConfig()


if TYPE_CHECKING:

    class _WithTables(_Run):
        """To a type checker the sections of tables are unknown: ``Family.of`` and ``Config.of`` have their types."""

else:
    _WithTables = create_model(
        "_WithTables",
        __base__=_Run,
        model=(Literal[tuple(FAMILIES)], _Run.model_fields["model"]),
        **{
            name: (field.annotation, field)
            for family in FAMILIES.values()
            for name, field in family.sections.model_fields.items()
        },
        **{gate.section: (gate.settings, gate.settings()) for gate in GATES},
    )


class Config(_WithTables):
    """One pipeline run: the settings of every run, and the sections of all families and all gates of the tables."""

    baseline: BaselineConfig = BaselineConfig()
    floors: Floors
    push: PushConfig = PushConfig()
    retrain: RetrainConfig = RetrainConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    stores: StoresConfig = StoresConfig()
    orchestrator: OrchestratorConfig = OrchestratorConfig()
    beam: BeamConfig = BeamConfig()

    def of(self, gate: Gate[SettingsT]) -> SettingsT:
        """Returns the section of a gate."""
        settings: SettingsT = getattr(self, gate.section)
        return settings


def override(config: Config, assignments: dict[str, str]) -> Config:
    """Returns the configuration with values replaced.

    Args:
        config: What to start from.
        assignments: Dotted key, such as ``transformer.epochs``, to its value as text.

    Raises:
        BadInputError: A key does not exist, or a value has the wrong type or is out of range.
    """
    values = config.model_dump()
    known = flatten(config)
    for key, value in assignments.items():
        if key not in known:
            raise BadInputError(f"there is no setting {key!r}: did you mean {nearest(key, known)!r}?")
        *path, last = key.split(".")
        section = values
        for name in path:
            section = section[name]
        section[last] = None if value == "none" else value
    return parse(values)


def parse(values: dict[str, Any]) -> Config:
    """Returns the configuration that nested plain values describe.

    Raises:
        BadInputError: A key is unknown, or a value is missing, of the wrong type or out of range.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise BadInputError(describe(error)) from error


def flatten(config: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Returns dotted keys and values of all settings, in order; tables of the user's own are JSON."""
    flat: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value, key = getattr(config, name), field.alias or name
        if isinstance(value, BaseModel):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, dict):
            flat[f"{prefix}{key}"] = json.dumps(config.model_dump(mode="json")[key])
        else:
            flat[f"{prefix}{key}"] = value
    return flat
