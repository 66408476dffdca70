"""Artifact types of this project's own components. Each is a directory with the named files."""

from tfx.types import artifact


class IngestReport(artifact.Artifact):
    """``report.json`` with counts per split and class, and ``quarantine.jsonl`` with the malformed rows."""

    TYPE_NAME = "NewsdeskIngestReport"


class Verdict(artifact.Artifact):
    """``verdict.json``: what a gate checked, the numbers it saw and its decision."""

    TYPE_NAME = "NewsdeskVerdict"
