"""What a decision rests on, as plain values that can be written down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class ChampionFacts:
    """The model that serves.

    Attributes:
        serving_version: Directory it was pushed to; None where that is not known.
        registry_version, mlflow_run_id: Where it is from.
        days: Since it was trained.
        accuracy: On the test rows of its own run; None where the run is gone.
        spans: Names of the spans it was trained on; empty where it was trained on other data.
    """

    serving_version: str | None
    registry_version: str
    mlflow_run_id: str
    days: float
    accuracy: float | None
    spans: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """One number and what it means; no number where things cannot be compared."""

    value: float | None
    said: str


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers, with Wilson's 95% interval."""

    share: float
    rows: int
    low: float
    high: float


@dataclass(frozen=True)
class NewestFacts:
    """The newest whole span.

    Attributes:
        span: Its name.
        drift: By the name of each limit in ``retrain.drift``.
        accuracy: The champion's on its rows.
    """

    span: str
    drift: Mapping[str, Measured] = field(default_factory=dict)
    accuracy: Accuracy | None = None


@dataclass(frozen=True)
class Evidence:
    """Everything that the policies look at.

    Attributes:
        moment: When it was gathered.
        champion: None where nothing serves.
        window: Spans that a run would read, oldest first.
        new: Those of them that no run has come to a verdict on.
        tried: The run that came to a verdict on just this window with the settings of now, and the verdict; or None.
        left_out: Spans that no run may read, each with the reason.
        refused: Spans that are refused from now on, each with the sentence of every check that it broke.
        newest: None where there is no whole span.
        unmeasured: Why something was not measured, by ``drift`` and ``accuracy``.
    """

    moment: datetime
    champion: ChampionFacts | None
    window: tuple[str, ...]
    new: tuple[str, ...]
    tried: str | None = None
    left_out: tuple[str, ...] = ()
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    newest: NewestFacts | None = None
    unmeasured: Mapping[str, str] = field(default_factory=dict)
