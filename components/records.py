"""What Champion, Baseline and Register write for the nodes and people behind them; free of TFX."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from components.file_names import BASELINE_FILE, CHAMPION_FILE, LABELS_FILE, REGISTRATION_FILE
from components.files import write_whole


@dataclass(frozen=True)
class ChampionRecord:
    """Who serves: ``champion.json``; all but ``reason``, which says so in words, is None without a champion."""

    serving_version: str | None
    registry_version: str | None
    mlflow_run_id: str | None
    reason: str


@dataclass(frozen=True)
class BaselineRecord:
    """How good the linear model is: ``baseline.json``.

    Attributes:
        train_rows, of_rows: Rows that it was fitted on, of those in train.
        features: Words and word pairs it weighs.
        f1: By label id; None where a class has neither a row nor an answer.
    """

    train_rows: int
    of_rows: int
    features: int
    test_rows: int
    accuracy: float
    macro_f1: float
    f1: tuple[float | None, ...]


@dataclass(frozen=True)
class RegistrationRecord:
    """A candidate in the registry: ``registration.json``.

    The same model may have been registered before: ``mlflow_run_id`` is then the run that trained it first, ``status``
    what is known of it already, and ``serving_version`` the directory it was pushed to. Where another export of what it
    has learnt was rolled back, both are those of that version.
    """

    registry_version: str
    mlflow_run_id: str
    digest: str
    status: str
    serving_version: str | None


def write_record(directory: Path, file: str, record: ChampionRecord | BaselineRecord | RegistrationRecord) -> None:
    """Writes a record into a node's artifact, under its name in ``components.file_names``."""
    write_whole(directory / file, json.dumps(asdict(record), indent=1))


def read_champion(directory: str | Path) -> ChampionRecord:
    """Returns what Champion wrote; like the others raises ``OSError`` or ``ValueError`` where it is gone or damaged."""
    return TypeAdapter(ChampionRecord).validate_json(Path(directory, CHAMPION_FILE).read_bytes())


def read_registration(directory: str | Path) -> RegistrationRecord:
    """Returns what Register wrote."""
    return TypeAdapter(RegistrationRecord).validate_json(Path(directory, REGISTRATION_FILE).read_bytes())


def write_baseline(directory: Path, record: BaselineRecord, answers: np.ndarray) -> None:
    """Writes what the linear model is worth, and its answers, int64 [N] in the order of the test split."""
    write_record(directory, BASELINE_FILE, record)
    np.save(directory / LABELS_FILE, answers)


def read_baseline(directory: str | Path) -> tuple[BaselineRecord, np.ndarray]:
    """Returns what ``write_baseline`` wrote."""
    record = TypeAdapter(BaselineRecord).validate_json(Path(directory, BASELINE_FILE).read_bytes())
    return record, np.load(Path(directory, LABELS_FILE), allow_pickle=False)
