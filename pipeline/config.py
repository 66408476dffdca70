"""What a run is made of: one frozen, strictly parsed configuration.

A preset makes a ``Config``, ``--set key=value`` changes single values of it, and each node is handed only
the part that concerns it. Nothing here imports TensorFlow.
"""

import difflib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.errors import BadInputError
from components.gates.config import DataGateConfig, ModelGateConfig, ServingGateConfig
from pipeline.beam import BeamConfig
from pipeline.orchestrator import OrchestratorConfig
from pipeline.retrain.policy import RetrainConfig
from pipeline.schedule.cron import ScheduleConfig
from pipeline.stores import StoresConfig
from trainers.bert.config import BertConfig
from trainers.transformer.config import TransformerConfig


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True)


class DataConfig(_Section):
    """Ingest."""

    directory: str | None = Field(None, description="where train.csv and test.csv are; None for the bundled sample")
    malformed_budget: float = Field(0.001, ge=0, le=1, description="largest share of malformed rows let pass")
    eval_fraction: float = Field(0.05, gt=0, lt=1, description="share of train.csv held out to choose the epoch on")
    spans: str = Field("all", description="of a directory of spans: all, last N or FROM..TO with days as YYYYMMDD")
    settle_minutes: float = Field(60, ge=0, description="minutes without a change after which a span is whole")
    late_spans: Literal["leave out", "take"] = Field(
        "leave out", description="spans that came, or changed, after newer ones had been trained on"
    )


class TextConfig(_Section):
    """Tokenisation of the transformer family."""

    vocab_size: int = Field(30_000, ge=3, description="token ids in all, padding and out-of-vocabulary included")
    min_count: int = Field(2, ge=1, description="occurrences below which a word is out of vocabulary")
    max_tokens: int = Field(128, ge=1, description="tokens kept per text")
    clean: bool = Field(False, description="entities resolved and markup dropped before texts are split")


class BaselineConfig(_Section):
    """The linear model that the candidate is shown beside."""

    rows: int = Field(200_000, ge=1, description="of train to fit it on at most, evenly spread")


class Floors(_Section):
    """What a model must reach on the test split to be pushed."""

    accuracy: float = Field(ge=0, le=1)
    macro_f1: float = Field(ge=0, le=1)
    worst_class_f1: float = Field(ge=0, le=1)
    calibration_error: float = Field(ge=0, le=1, description="a ceiling, not a floor")


class PushConfig(_Section):
    """What becomes of a model that every gate let pass."""

    as_: Literal["champion", "challenger"] = Field(
        "champion", alias="as", description="serves everyone, or only who asks for the challenger"
    )


class Config(_Section):
    """One pipeline run."""

    preset: str
    name: str = Field("ag_news", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="of pipeline and model")
    model: Literal["transformer", "bert"] = "transformer"
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    transformer: TransformerConfig = TransformerConfig()
    bert: BertConfig = BertConfig()
    baseline: BaselineConfig = BaselineConfig()
    floors: Floors
    data_gate: DataGateConfig = DataGateConfig()
    model_gate: ModelGateConfig = ModelGateConfig()
    serving_gate: ServingGateConfig = ServingGateConfig()
    push: PushConfig = PushConfig()
    retrain: RetrainConfig = RetrainConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    stores: StoresConfig = StoresConfig()
    orchestrator: OrchestratorConfig = OrchestratorConfig()
    beam: BeamConfig = BeamConfig()

    @property
    def encoder(self) -> str | None:
        """What the configured model is fine-tuned from; None for one that is trained from scratch."""
        return self.bert.encoder if self.model == "bert" else None


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
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise BadInputError(f"there is no setting {key!r}: did you mean {near!r}?")
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
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        got = "" if isinstance(first["input"], dict) else f", not {first['input']!r}"
        raise BadInputError(f"setting {key}: {message}{got}" if key else message) from error


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
