"""Reads what the nodes of a run left behind, for tracking, report and card alike."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from components.evaluation.predictions import Predictions, load
from components.file_names import HISTORY_FILE, PREDICTIONS_FILE, REPORT_FILE, VERDICT_FILE
from components.gates.verdict import Verdict, read_verdict
from components.records import (
    BaselineRecord,
    ChampionRecord,
    RegistrationRecord,
    read_baseline,
    read_champion,
    read_registration,
)

if TYPE_CHECKING:
    import numpy as np

    from components.evaluation.result import SliceMetrics

Found = TypeVar("Found")
VERDICT = "verdict"
"""The output of a gate. A node with such an output is a gate."""
Outputs = Mapping[str, Mapping[str, Any]]
"""Node id to output name to artifact: anything with a ``uri``."""


class LeftBehind:
    """The outputs of a run's nodes.

    What a node that did not finish would have left is None; what a finished one left and is gone or damaged raises
    ``OSError`` or ``ValueError``.
    """

    def __init__(self, finished: Outputs, failed: Outputs | None = None):
        """Takes the artifacts of the nodes that finished, and of gates that said no."""
        self._finished, self._failed = finished, failed or {}

    def artifact(self, node: str, output: str) -> Any:
        """Returns the artifact of a finished node."""
        return self._finished[node][output] if node in self._finished else None

    def of(self, node: str, output: str) -> Path | None:
        """Returns the directory of a finished node's output."""
        artifact = self.artifact(node, output)
        return Path(artifact.uri) if artifact else None

    def behind(self, node: str, output: str, file: str) -> Path | None:
        """Returns an output's directory, also of a gate that said no, if that had written ``file`` by then."""
        artifact = self._failed.get(node, {}).get(output)
        if artifact is None:
            return self.of(node, output)
        return Path(artifact.uri) if Path(artifact.uri, file).is_file() else None

    def ingest(self) -> dict[str, Any] | None:
        """Returns ExampleGen's counts."""
        return self._read("ExampleGen", "report", lambda directory: _read_json(directory / REPORT_FILE))

    def verdicts(self) -> list[Verdict]:
        """Returns the verdict of every gate that came to one, in running order; that of a gate that said no is last.

        Raises:
            BadInputError: The verdict of a gate that finished is missing, or any is damaged.
        """
        finished = [left[VERDICT].uri for left in self._finished.values() if VERDICT in left]
        failed = [left[VERDICT].uri for left in self._failed.values() if VERDICT in left]
        return [read_verdict(uri) for uri in (*finished, *(uri for uri in failed if Path(uri, VERDICT_FILE).is_file()))]

    def champion(self) -> ChampionRecord | None:
        """Returns who serves."""
        return self._read("Champion", "champion", read_champion)

    def baseline(self) -> "tuple[BaselineRecord, np.ndarray] | None":
        """Returns what the linear model is worth, and its answers to the test split."""
        return self._read("Baseline", "baseline", read_baseline)

    def history(self) -> dict[str, Any] | None:
        """Returns the training curves."""
        return self._read("Trainer", "model_run", lambda directory: _read_json(directory / HISTORY_FILE))

    def slices(self, classes: tuple[str, ...]) -> "list[SliceMetrics] | None":
        """Returns the Evaluator's metrics, those of the whole test split first."""
        directory = self.of("Evaluator", "evaluation")
        if directory is None:
            return None
        # It brings TensorFlow, which a reader of anything else need not wait for.
        from components.evaluation.result import read_slices

        return read_slices(str(directory), classes)

    def answers(self) -> Predictions | None:
        """Returns what the candidate answers on the test split."""
        return self._read("Answers", "answers", lambda directory: load(directory / PREDICTIONS_FILE))

    def registration(self) -> RegistrationRecord | None:
        """Returns the candidate's place in the registry."""
        return self._read("Register", "registration", read_registration)

    def _read(self, node: str, output: str, read: Callable[[Path], Found]) -> Found | None:
        directory = self.of(node, output)
        return read(directory) if directory else None


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
