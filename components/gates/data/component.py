"""DataGate: stops the run when the data break the schema, or are not such as a model should be trained on."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from components import features
from components.artifacts import Champion, DataProfile, Verdict
from components.errors import BadInputError
from components.example_gen.examples import read_texts
from components.file_names import PROFILE_FILE
from components.files import write_whole
from components.gates.data.checks import check_data
from components.gates.data.facts import Data, gather, leaked_rows
from components.gates.data.gate import GATE, DataGateConfig
from components.gates.data.profile import LENGTH_EDGES, Profile, from_json, to_json
from components.gates.data.schema_checks import Anomaly, check_schema, find_anomalies, find_unreadable
from components.gates.verdict import write_verdict

_log = logging.getLogger("newsdesk.data_gate")


def measure(data: Data, champion: Profile | None) -> dict[str, Any]:
    """Returns the numbers of a verdict that no check has: what a report draws. ``champion`` is null without one."""
    test = data.splits[features.TEST].texts
    return {
        "test_rows": len(test),
        "test_rows_in_train": len(leaked_rows(data)),
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
    path = Path(directory, PROFILE_FILE)
    if not path.exists():
        return None
    try:
        return from_json(path.read_bytes())
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
    """Writes the verdict and the data's profile.

    ``settings`` is a ``DataGateConfig`` as JSON. ``classes`` are the class names as JSON, in label-id order. Rows that
    cannot be read leave a verdict and no profile.
    """
    config = DataGateConfig.model_validate_json(settings)
    curated = io_utils.SchemaReader().read(os.path.join(schema.uri, "schema.pbtxt"))
    found: list[Anomaly] = []
    unreadable: list[Anomaly] = []
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        stats = statistics_pb2.DatasetFeatureStatisticsList.FromString(
            Path(statistics.uri, f"Split-{split}", "FeatureStats.pb").read_bytes()
        ).datasets[0]
        changes = Path(anomalies.uri, f"Split-{split}", "SchemaDiff.pb").read_bytes()
        diff = anomalies_pb2.Anomalies.FromString(changes)
        found += find_anomalies(split, diff, stats, curated)
        unreadable += find_unreadable(split, stats)
    if unreadable:
        write_verdict(verdict.uri, GATE.name, check_schema(found, unreadable, {}, config))
        return
    names = json.loads(classes)
    rows = {split: list(read_texts(examples.uri, split)) for split in features.SPLITS}
    unknown = {split: [row for row in pairs if not 0 <= row[1] < len(names)] for split, pairs in rows.items()}
    data = gather(rows, names)
    write_whole(Path(profile.uri, PROFILE_FILE), to_json(data.profile))
    before = read_champion_profile(champion.uri)
    numbers = measure(data, before)
    _log.info("%d of %d test rows stand in train or eval too", numbers["test_rows_in_train"], numbers["test_rows"])
    checks = check_schema(found, [], unknown, config) + check_data(data, before, config)
    write_verdict(verdict.uri, GATE.name, checks, numbers)


def _drawn(profile: Profile) -> dict[str, Any]:
    return {
        "rows": profile.rows,
        "class_counts": {split: list(counts) for split, counts in profile.classes.items()},
        "length_counts": list(profile.lengths),
        "words": profile.tokens,
    }
