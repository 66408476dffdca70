"""The DataGate's line."""

from components.gates.data.config import DataGateConfig
from components.gates.gate import Gate

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
