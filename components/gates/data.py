"""DataGate: stops the run when the data break the schema, and counts rows that leak from train into test."""

import logging
import os
from dataclasses import dataclass
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from components import features
from components.artifacts import Verdict
from components.errors import GateRejectedError
from components.examples import read_texts
from components.gates.verdict import write_verdict

_MOST_VALUES = 5
_log = logging.getLogger("newsdesk.data_gate")


@dataclass(frozen=True)
class Anomaly:
    """One broken rule of the schema. ``values`` are offending values with the rows that hold them."""

    split: str
    feature: str
    problem: str
    values: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        found = ", ".join(
            f"{value!r} in {count} row{'s' * (count != 1)}" for value, count in self.values[:_MOST_VALUES]
        )
        return f"{self.split} split, feature {self.feature}: {self.problem}" + (f" ({found})" if found else "")


def find_anomalies(
    split: str,
    anomalies: anomalies_pb2.Anomalies,
    statistics: statistics_pb2.DatasetFeatureStatistics,
    schema: schema_pb2.Schema,
) -> list[Anomaly]:
    """Returns the anomalies of one split, with the values behind them taken from its statistics."""
    found = []
    for name, info in sorted(anomalies.anomaly_info.items()):
        values = _offending_values(name, statistics, schema)
        found.append(Anomaly(split, name, info.description or info.short_description, values))
    if anomalies.HasField("dataset_anomaly_info"):
        found.append(Anomaly(split, "(all)", anomalies.dataset_anomaly_info.description, ()))
    if anomalies.data_missing:
        found.append(Anomaly(split, "(all)", "the split holds no rows", ()))
    return found


def count_overlap(train: set[bytes], test: list[bytes]) -> int:
    """Returns how many rows of ``test`` have a text that stands in ``train`` as well."""
    return sum(text in train for text in test)


@component
def DataGate(
    examples: InputArtifact[standard_artifacts.Examples],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    verdict: OutputArtifact[Verdict],
    code_digest: Parameter[str],
) -> None:
    """Raises ``GateRejectedError`` on any anomaly; otherwise writes the verdict with the overlap counts."""
    curated = io_utils.SchemaReader().read(os.path.join(schema.uri, "schema.pbtxt"))
    found: list[Anomaly] = []
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        stats = statistics_pb2.DatasetFeatureStatisticsList.FromString(
            _read(os.path.join(statistics.uri, f"Split-{split}", "FeatureStats.pb"))
        )
        diff = anomalies_pb2.Anomalies.FromString(_read(os.path.join(anomalies.uri, f"Split-{split}", "SchemaDiff.pb")))
        found += find_anomalies(split, diff, stats.datasets[0], curated)
    if found:
        raise GateRejectedError("DataGate", [str(anomaly) for anomaly in found])
    train = {text for split in (features.TRAIN, features.EVAL) for text, _ in read_texts(examples.uri, split)}
    test = [text for text, _ in read_texts(examples.uri, features.TEST)]
    numbers: dict[str, Any] = {"test_rows": len(test), "test_rows_in_train": count_overlap(train, test)}
    _log.info("%d of %d test rows stand in train or eval too", numbers["test_rows_in_train"], len(test))
    write_verdict(verdict.uri, "DataGate", numbers)


def _offending_values(
    name: str, statistics: statistics_pb2.DatasetFeatureStatistics, schema: schema_pb2.Schema
) -> tuple[tuple[str, int], ...]:
    spec = next((feature for feature in schema.feature if feature.name == name), None)
    stats = next((feature for feature in statistics.features if feature.path.step[:] == [name]), None)
    if spec is None or stats is None:
        return ()
    seen = {bucket.label: int(bucket.sample_count) for bucket in stats.string_stats.rank_histogram.buckets}
    if spec.HasField("int_domain"):
        low, high = spec.int_domain.min, spec.int_domain.max
        allowed = {str(value) for value in range(low, high + 1)}
    elif spec.HasField("domain"):
        allowed = {value for domain in schema.string_domain if domain.name == spec.domain for value in domain.value}
    else:
        return ()
    return tuple((value, count) for value, count in seen.items() if value not in allowed)


def _read(path: str) -> bytes:
    with fileio.open(path, "rb") as file:
        return file.read()
