"""What breaks the curated schema, with the values and rows behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from components import features
from components.gates.data.facts import show_row
from components.gates.data.gate import DataGateConfig
from components.gates.verdict import MOST_ROWS, Check

_NAME = "schema_anomalies"
_EMPTY = "the split holds no rows"
_MOST_VALUES = 5
_NEEDED = {
    features.TEXT: (statistics_pb2.FeatureNameStatistics.STRING, "text"),
    features.LABEL: (statistics_pb2.FeatureNameStatistics.INT, "class id"),
}


@dataclass(frozen=True)
class Anomaly:
    """One broken rule of the schema. ``values`` are offending values with the rows that hold them."""

    split: str
    feature: str
    problem: str
    values: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        found = ", ".join(_in_rows(value, count) for value, count in self.values[:_MOST_VALUES])
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
        found.append(Anomaly(split, "(all)", _EMPTY, ()))
    return found


def find_unreadable(split: str, statistics: statistics_pb2.DatasetFeatureStatistics) -> list[Anomaly]:
    """Returns what makes a split unreadable: it is empty, or some row has not one text, or not one class id."""
    if not statistics.num_examples:
        return [Anomaly(split, "(all)", _EMPTY, ())]
    found = []
    for name, (kind, what) in _NEEDED.items():
        stats = _feature(name, statistics)
        holds = stats.WhichOneof("stats") if stats else None
        common = getattr(stats, holds).common_stats if holds else None
        whole = (
            stats is not None
            and common is not None
            and stats.type == kind
            and common.num_non_missing == statistics.num_examples
            and common.min_num_values == common.max_num_values == 1
        )
        if not whole:
            found.append(Anomaly(split, name, f"not one {what} in every row, so the rows cannot be read", ()))
    return found


def check_schema(
    anomalies: Sequence[Anomaly],
    unreadable: Sequence[Anomaly],
    unknown: Mapping[str, Sequence[tuple[bytes, int]]],
    settings: DataGateConfig,
) -> list[Check]:
    """Returns a check for each anomaly, with the rows or else the values behind it; one that passed if there is none.

    Args:
        anomalies: Those of all splits.
        unreadable: What ``find_unreadable`` returned; it stops the run whatever the settings say.
        unknown: Rows of each split whose label is no class, as far as they are known.
        settings: Whether an anomaly stops the run.
    """
    severity = settings.schema_anomalies
    checks = [_check(anomaly, severity, unknown) for anomaly in anomalies if severity != "off"]
    told = {(item.split, item.feature) for item in anomalies if severity == "fail"}
    checks += [_check(item, "fail", unknown) for item in unreadable if (item.split, item.feature) not in told]
    if not checks and severity != "off":
        checks = [Check(_NAME, severity, True, f"no split breaks the schema (data_gate.{_NAME})")]
    return checks


def _check(anomaly: Anomaly, severity: str, unknown: Mapping[str, Sequence[tuple[bytes, int]]]) -> Check:
    rows = [_in_rows(value, count) for value, count in anomaly.values]
    if anomaly.feature == features.LABEL and unknown.get(anomaly.split):
        rows = [show_row(anomaly.split, text, f" of label {label}") for text, label in unknown[anomaly.split]]
    return Check(_NAME, severity, False, f"{anomaly} (data_gate.{_NAME})", rows=tuple(rows[:MOST_ROWS]))


def _in_rows(value: str, count: int) -> str:
    return f"{value!r} in {count} row{'s' * (count != 1)}"


def _feature(
    name: str, statistics: statistics_pb2.DatasetFeatureStatistics
) -> statistics_pb2.FeatureNameStatistics | None:
    return next((feature for feature in statistics.features if feature.path.step[:] == [name]), None)


def _offending_values(
    name: str, statistics: statistics_pb2.DatasetFeatureStatistics, schema: schema_pb2.Schema
) -> tuple[tuple[str, int], ...]:
    spec = next((feature for feature in schema.feature if feature.name == name), None)
    stats = _feature(name, statistics)
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
