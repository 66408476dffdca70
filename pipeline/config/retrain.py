"""Settings of retraining."""

from typing import Literal

from pydantic import Field

from components.settings import Settings


class DriftConfig(Settings):
    """How far the newest span may be from the data behind the champion before that is a reason to retrain.

    Each limit lies between what honest samples of one source show and where the DataGate stops a run.
    """

    class_drift: float | None = Field(1.75, ge=1, description="factor by which a class's odds changed; none is never")
    length_drift: float | None = Field(0.03, ge=0, description="Jensen-Shannon divergence of words per text, bits")
    vocabulary_drift: float | None = Field(0.02, ge=0, description="Jensen-Shannon divergence of words, bits")
    oov_rate: float | None = Field(0.06, ge=0, description="growth of the share of words the champion's data lack")


class RetrainConfig(Settings):
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
