"""What a gate found and decided: written by its component, and read here by all who ask."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from components.clean import clean_all, to_json
from components.errors import BadInputError, GateRejectedError
from components.file_names import VERDICT_FILE
from components.files import write_whole

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


@dataclass(frozen=True)
class Verdict:
    """What one gate says of one run.

    Attributes:
        gate: Name of the gate, which is the id of its node. A report's ``run.json`` calls it ``name``.
        passed: Whether the run may go on.
        reasons: Sentences of the checks of severity ``fail`` that did not pass.
        warnings: Sentences of those of severity ``warn``.
        checks: All that was looked at.
        numbers: What else was measured.
    """

    gate: Annotated[str, Field(validation_alias=AliasChoices("gate", "name"), serialization_alias="name")]
    passed: bool
    reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Returns what stands in ``verdict.json``."""
        return to_json(clean_all(asdict(self)), indent=1, ensure_ascii=False)


_ADAPTER = TypeAdapter(Verdict)


def write_verdict(uri: str, gate: str, checks: Sequence[Check], numbers: dict[str, Any] | None = None) -> None:
    """Writes a gate's verdict into the artifact at ``uri``. A no raises nothing: whoever launched the gate reads it.

    The run stops where a check of severity ``fail`` did not pass; ``numbers`` are what else was measured.
    """
    missed = [check for check in checks if not check.passed]
    reasons = [check.sentence for check in missed if check.severity == "fail"]
    warnings = [check.sentence for check in missed if check.severity == "warn"]
    verdict = Verdict(gate, not reasons, reasons, warnings, list(checks), numbers or {})
    write_whole(Path(uri, VERDICT_FILE), verdict.to_json())


def read_verdict(directory: str | Path) -> Verdict:
    """Returns the verdict in an artifact's directory.

    Raises:
        BadInputError: There is none, or it is damaged.
    """
    path = Path(directory, VERDICT_FILE)
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadInputError(f"{path} is missing or damaged: run again with --no-cache") from error


def check_verdict(verdict: Verdict) -> None:
    """Stops the run where a verdict says no.

    Raises:
        GateRejectedError: With the verdict's reasons.
    """
    if not verdict.passed:
        raise GateRejectedError(verdict.gate, verdict.reasons)
