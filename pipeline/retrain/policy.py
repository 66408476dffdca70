"""When to retrain: the settings, and each reason as a function of the evidence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.retrain.evidence import Evidence


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DriftConfig(_Section):
    """How far the newest span may be from the data behind the champion before that is a reason to retrain.

    Each limit lies between what honest samples of one source show and where the DataGate stops a run.
    """

    class_drift: float | None = Field(1.75, ge=1, description="factor by which a class's odds changed; none is never")
    length_drift: float | None = Field(0.03, ge=0, description="Jensen-Shannon divergence of words per text, bits")
    vocabulary_drift: float | None = Field(0.02, ge=0, description="Jensen-Shannon divergence of words, bits")
    oov_rate: float | None = Field(0.06, ge=0, description="growth of the share of words the champion's data lack")


class RetrainConfig(_Section):
    """Reasons to retrain, and what happens when retraining fails. ``none`` switches a reason off."""

    new_spans: int | None = Field(1, ge=1, description="retrain once so many spans are there that no run has judged")
    champion_days: float | None = Field(30, gt=0, description="retrain once the champion is so many days old")
    drift: DriftConfig = DriftConfig()
    accuracy_floor: float | None = Field(None, ge=0, le=1, description="least accuracy on the newest labelled span")
    accuracy_loss: float | None = Field(
        0.03, ge=0, le=1, description="most accuracy that the champion may lose on the newest span, beyond chance"
    )
    score_rows: int = Field(2_000, ge=1, description="rows of the newest span that the champion answers, at most")
    least_rows: int = Field(200, ge=1, description="a span with fewer rows is too small to judge")
    warm_start: bool = Field(False, description="begin with the champion's weights instead of new ones")
    vocabulary: Literal["refuse", "from scratch"] = Field(
        "refuse", description="what to do where the champion's vocabulary is not that of the run it would start"
    )
    failures: int = Field(2, ge=1, description="failures in a row that open the circuit")
    cool_down_hours: float | None = Field(20, gt=0, description="until an open circuit allows one try; none is never")
    webhook_env: str = Field(
        "NEWSDESK_WEBHOOK", pattern=r"^[A-Z][A-Z0-9_]*$", description="environment variable with the URL for alerts"
    )
    webhook_seconds: float = Field(10, gt=0, description="most seconds that the webhook may take to answer")


@dataclass(frozen=True)
class Vote:
    """What one policy says.

    Attributes:
        policy: Its setting.
        retrain: Whether it is a reason to retrain.
        sentence: The same in words, with number and limit; also why it could not be measured.
    """

    policy: str
    retrain: bool
    sentence: str


Policy = Callable[[Evidence, RetrainConfig], Vote]


def no_champion(evidence: Evidence, config: RetrainConfig) -> Vote:
    """Where nothing serves, anything is better."""
    if evidence.champion is None:
        return Vote("no_champion", True, "there is no champion yet")
    return Vote("no_champion", False, f"version {evidence.champion.serving_version} serves")


def new_spans(evidence: Evidence, config: RetrainConfig) -> Vote:
    """Counts spans that no run has come to a verdict on."""
    count = len(evidence.new)
    said = f"{_spans(count)} new ({', '.join(evidence.new[-3:]) or 'none'})"
    if config.new_spans is None:
        return Vote("new_spans", False, f"{said}, which is no reason here")
    # Data of which every new day was refused are the data of last time.
    return Vote("new_spans", count >= config.new_spans, f"{said}, of {config.new_spans} that are a reason")


def champion_days(evidence: Evidence, config: RetrainConfig) -> Vote:
    """Looks at the age of the champion."""
    if evidence.champion is None:
        return Vote("champion_days", False, "there is no champion whose age could be a reason")
    days = evidence.champion.days
    if config.champion_days is None:
        return Vote("champion_days", False, f"the champion is {days:.1f} days old, which is no reason here")
    said = f"the champion is {days:.1f} days old, of {config.champion_days:g} that are a reason"
    return Vote("champion_days", days >= config.champion_days, said)


def drift(evidence: Evidence, config: RetrainConfig) -> Vote:
    """Holds the newest span against the data behind the champion."""
    if evidence.newest is None or not evidence.newest.drift:
        return Vote("drift", False, _unknown("drift", evidence))
    reasons, calm = [], []
    for name, measured in evidence.newest.drift.items():
        limit = getattr(config.drift, name)
        if limit is None:
            continue
        if measured.value is None or measured.value > limit:
            reasons.append(f"{measured.said}, above {limit:g} (retrain.drift.{name})")
        else:
            calm.append(f"{name} {measured.value:.3g} of {limit:g}")
    where = evidence.newest.span
    return Vote("drift", bool(reasons), f"{where}: " + ("; ".join(reasons) or ", ".join(calm) or "every limit is none"))


def accuracy(evidence: Evidence, config: RetrainConfig) -> Vote:
    """Looks at the champion's answers on the newest labelled span: worse than chance explains is a reason."""
    if evidence.newest is None or evidence.newest.accuracy is None:
        return Vote("accuracy", False, _unknown("accuracy", evidence))
    found = evidence.newest.accuracy
    said = (
        f"the champion's accuracy on {evidence.newest.span} is {found.share:.4f} on {found.rows:,} rows "
        f"({found.low:.4f} to {found.high:.4f} at 95%)"
    )
    reasons = []
    if config.accuracy_floor is not None and found.high < config.accuracy_floor:
        reasons.append(f"below {config.accuracy_floor:g} (retrain.accuracy_floor)")
    then = evidence.champion.accuracy if evidence.champion else None
    if config.accuracy_loss is not None and then is not None and found.high < then - config.accuracy_loss:
        reasons.append(f"more than {config.accuracy_loss:g} below its {then:.4f} of then (retrain.accuracy_loss)")
    return Vote("accuracy", bool(reasons), ", ".join([said, *reasons]))


POLICIES: tuple[Policy, ...] = (no_champion, new_spans, champion_days, drift, accuracy)


def _spans(count: int) -> str:
    return f"{count} span{'s' * (count != 1)}"


def _unknown(what: str, evidence: Evidence) -> str:
    return evidence.unmeasured.get(what, f"{what} was not measured")
