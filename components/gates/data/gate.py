"""The DataGate's line in the table, and what it takes to pass."""

from pydantic import Field

from components.gates.gate import Gate, Limit, Severity
from components.settings import Settings


class DataGateConfig(Settings):
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


GATE = Gate(
    name="DataGate",
    settings=DataGateConfig,
    section="data_gate",
    component="components.gates.data.component.DataGate",
    inputs={
        "examples": "ExampleGen.examples",
        "statistics": "StatisticsGen.statistics",
        "schema": "ImportSchema.schema",
        "anomalies": "ExampleValidator.anomalies",
        "champion": "Champion.champion",
    },
    place="before training",
    purpose="stops the run if the data break the schema, leak, or have moved away from the champion's",
    title="Anomalies and drift",
    under="data",
)
