"""What each gate checks, and what it takes to pass."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Severity = Literal["fail", "warn", "off"]


class GateConfig(BaseModel):
    """Base of every gate's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Limit(GateConfig):
    """One check: ``fail`` stops the run where ``threshold`` is passed, ``warn`` only says so, ``off`` does not look."""

    severity: Severity = "fail"
    threshold: float = Field(ge=0)


class DataGateConfig(GateConfig):
    """Checks of the data. Shares are between 0 and 1; drift is against the data of the champion, if there is one.

    The limits of drift lie between what honest samples of one source show and what planted faults do. On news,
    against 93,416 rows or the other way round: samples of 600 to 10,000 rows differ by up to 0.013 bits in length,
    0.007 in vocabulary, 0.04 in growth of unknown words and 1.25-fold in odds. Texts cut to three quarters differ by
    0.2 bits in length, markup around each by 0.07 in vocabulary, program text by 0.37 in vocabulary and 0.29 in growth
    of unknown words, a class sampled ten times as densely 9-fold in odds.
    """

    schema_anomalies: Severity = Field("fail", description="whatever breaks the curated schema")
    missing_class: Severity = Field("fail", description="a class without a row in train or test")
    class_ratio: Limit = Field(Limit(threshold=5), description="largest class over smallest, in train and in test")
    class_drift: Limit = Field(Limit(threshold=3), description="factor by which a class's odds in train grew or shrank")
    length_drift: Limit = Field(Limit(threshold=0.1), description="Jensen-Shannon divergence of words per text, bits")
    vocabulary_drift: Limit = Field(Limit(threshold=0.05), description="Jensen-Shannon divergence of words, bits")
    oov_rate: Limit = Field(
        Limit(threshold=0.1), description="growth of the share of words that the champion's data lack"
    )
    row_collapse: Limit = Field(Limit(threshold=0.5), description="least rows of train, as a share of the champion's")
    duplicates: Limit = Field(Limit(severity="warn", threshold=0.05), description="share of a split's rows that repeat")
    leakage: Limit = Field(Limit(threshold=0.01), description="share of test rows whose text stands in train or eval")
    near_empty: Limit = Field(Limit(threshold=0.01), description="share of a split's rows with fewer than three words")


class ModelGateConfig(GateConfig):
    """What a candidate must show against the champion, on the same test rows."""

    require: Literal["not worse", "better"] = Field("not worse", description="the least verdict that passes")
    margin: float = Field(0.01, ge=0, le=1, description="loss of accuracy that still counts as not worse")
    confidence: float = Field(0.95, gt=0, lt=1, description="of the interval of the difference")
    length_accuracy: float = Field(0.0, ge=0, le=1, description="floor of accuracy in each slice of text length")
    baseline: Severity = Field("warn", description="what it means not to be more accurate than the linear baseline")
    slice_rows: int = Field(100, ge=1, description="slices with fewer rows are shown and not judged")


class ServingGateConfig(GateConfig):
    """What the exported model must do in a process of its own."""

    process_seconds: float = Field(180, gt=0, description="the process is ended after as many, start-up included")
    load_seconds: float = Field(30, gt=0, description="most seconds from the call that loads it to the first answer")
    p50_ms: float = Field(100, gt=0, description="ceiling of the median time of one text")
    p95_ms: float = Field(200, gt=0, description="ceiling of the 95th percentile of it")
    memory_mb: float = Field(2_000, gt=0, description="ceiling of the process's peak resident memory, MiB")
    size_mb: float = Field(500, gt=0, description="ceiling of the SavedModel on disk, MiB")
    tolerance: float = Field(1e-5, gt=0, description="largest difference of a probability, alone or in company")
    requests: int = Field(50, ge=10, description="single-text requests that are timed")
