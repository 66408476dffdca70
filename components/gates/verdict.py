"""The artifact that every gate leaves behind, whether it lets pass or not."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tfx.dsl.io import fileio

from components.errors import GateRejectedError

VERDICT_FILE = "verdict.json"
MOST_ROWS = 10
"""Offending rows that one check keeps."""


@dataclass(frozen=True)
class Check:
    """One thing a gate looked at.

    Attributes:
        name: As in the gate's settings, such as ``length_drift``.
        severity: What a failure does: ``fail`` stops the run, ``warn`` is only told.
        passed: Whether it is as it should be.
        sentence: What was found, with the number and its limit; the reason where it did not pass.
        value: What was measured; None where it is not one number.
        limit: What it was held against.
        rows: Up to ``MOST_ROWS`` offending rows.
    """

    name: str
    severity: str
    passed: bool
    sentence: str
    value: float | None = None
    limit: float | None = None
    rows: tuple[str, ...] = ()


def conclude(uri: str, gate: str, checks: Sequence[Check], numbers: dict[str, Any] | None = None) -> None:
    """Writes a gate's verdict into the artifact at ``uri``, then stops the run if a check says so.

    Args:
        uri: Directory of the verdict; it is complete before anything is raised.
        gate: Name of the gate.
        checks: All that was looked at.
        numbers: What else was measured.

    Raises:
        GateRejectedError: A check of severity ``fail`` did not pass.
    """
    missed = [check for check in checks if not check.passed]
    reasons = [check.sentence for check in missed if check.severity == "fail"]
    verdict = {
        "gate": gate,
        "passed": not reasons,
        "reasons": reasons,
        "warnings": [check.sentence for check in missed if check.severity == "warn"],
        "checks": [asdict(check) for check in checks],
        "numbers": numbers or {},
    }
    with fileio.open(os.path.join(uri, VERDICT_FILE), "w") as file:
        file.write(json.dumps(verdict, indent=1, ensure_ascii=False))
    if reasons:
        paths = {name: os.path.join(uri, name) for name in fileio.listdir(uri)}
        files = {name: _read(path) for name, path in paths.items() if not fileio.isdir(path)}
        raise GateRejectedError(gate, reasons, files)


def _read(path: str) -> bytes:
    with fileio.open(path, "rb") as file:
        return file.read()
