"""DataGate: stops the run when the data break the schema, or are not such as a model should be trained on."""

import json
import logging
import os
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from components import features
from components.artifacts import Champion, DataProfile, Verdict
from components.data_profile import LENGTH_EDGES, PROFILE_FILE, Profile, from_json, to_json
from components.errors import BadInputError
from components.examples import read_texts
from components.gates.config import DataGateConfig
from components.gates.data_checks import check_data
from components.gates.data_facts import Data, count_overlap, gather, seen_texts
from components.gates.schema_checks import Anomaly, check_schema, find_anomalies, find_unreadable
from components.gates.verdict import conclude

_log = logging.getLogger("newsdesk.data_gate")


def measure(data: Data, champion: Profile | None) -> dict[str, Any]:
    """Returns the numbers of a verdict that no check has: what a report draws. ``champion`` is null without one."""
    test = data.splits[features.TEST].texts
    return {
        "test_rows": len(test),
        "test_rows_in_train": count_overlap(seen_texts(data), test),
        "classes": list(data.classes),
        "length_edges": list(LENGTH_EDGES),
        "data": _drawn(data.profile),
        "champion": _drawn(champion) if champion else None,
    }


def read_champion_profile(directory: str) -> Profile | None:
    """Returns the profile that the champion's run kept, None if it kept none.

    Raises:
        BadInputError: It is damaged.
    """
    path = os.path.join(directory, PROFILE_FILE)
    if not fileio.exists(path):
        return None
    try:
        return from_json(_read(path))
    except ValueError as error:
        raise BadInputError(
            f"the champion's {PROFILE_FILE} is damaged, so drift cannot be judged ({error}): promote another version "
            "with newsdesk models promote"
        ) from error


@component
def DataGate(
    examples: InputArtifact[standard_artifacts.Examples],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    champion: InputArtifact[Champion],
    verdict: OutputArtifact[Verdict],
    profile: OutputArtifact[DataProfile],
    classes: Parameter[str],
    settings: Parameter[str],
    code_digest: Parameter[str],
) -> None:
    """Writes the verdict and the data's profile, and raises ``GateRejectedError`` where a check says so.

    ``settings`` is a ``DataGateConfig`` as JSON. ``classes`` are the class names as JSON, in label-id order. Rows that
    cannot be read leave a verdict and no profile.
    """
    config = DataGateConfig.model_validate_json(settings)
    curated = io_utils.SchemaReader().read(os.path.join(schema.uri, "schema.pbtxt"))
    found: list[Anomaly] = []
    unreadable: list[Anomaly] = []
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        stats = statistics_pb2.DatasetFeatureStatisticsList.FromString(
            _read(os.path.join(statistics.uri, f"Split-{split}", "FeatureStats.pb"))
        ).datasets[0]
        diff = anomalies_pb2.Anomalies.FromString(_read(os.path.join(anomalies.uri, f"Split-{split}", "SchemaDiff.pb")))
        found += find_anomalies(split, diff, stats, curated)
        unreadable += find_unreadable(split, stats)
    if unreadable:
        conclude(verdict.uri, "DataGate", check_schema(found, unreadable, {}, config))
    names = json.loads(classes)
    rows = {split: list(read_texts(examples.uri, split)) for split in features.SPLITS}
    unknown = {split: [row for row in pairs if not 0 <= row[1] < len(names)] for split, pairs in rows.items()}
    data = gather(rows, names)
    _write(os.path.join(profile.uri, PROFILE_FILE), to_json(data.profile))
    before = read_champion_profile(champion.uri)
    numbers = measure(data, before)
    _log.info("%d of %d test rows stand in train or eval too", numbers["test_rows_in_train"], numbers["test_rows"])
    checks = check_schema(found, [], unknown, config) + check_data(data, before, config)
    conclude(verdict.uri, "DataGate", checks, numbers)


def _drawn(profile: Profile) -> dict[str, Any]:
    return {
        "rows": profile.rows,
        "class_counts": {split: list(counts) for split, counts in profile.classes.items()},
        "length_counts": list(profile.lengths),
        "words": profile.tokens,
    }


def _read(path: str) -> bytes:
    with fileio.open(path, "rb") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with fileio.open(path, "w") as file:
        file.write(text)
