"""Turns what the nodes of a run left behind into what a report and a card say."""

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from components.clean import clean
from components.evaluation.comparison import accuracy_gain
from components.evaluation.paired import share
from components.evaluation.predictions import Predictions
from components.example_gen.fetch import FILES
from components.example_gen.source import SAMPLE_DIR, TEST_FILE, digest_file, is_remote
from components.file_names import QUARANTINE_FILE
from components.gates.data.gate import GATE as DATA_GATE
from components.gates.verdict import Verdict
from components.report.facts import Data, Lengths
from components.report.left_behind import LeftBehind
from components.report.measures import CONFIDENCE, Baseline, Evaluation, Training
from components.report.tables import evaluation_tables

_STACK = ("tfx", "tensorflow", "tensorflow-text", "tf-keras", "apache-beam", "mlflow", "numpy")


def read_training(left: LeftBehind) -> Training | None:
    """Returns the history of a fit; None where there was none."""
    history = left.history()
    return None if history is None else TypeAdapter(Training).validate_python(history)


def read_baseline(left: LeftBehind, classes: Sequence[str], answers: Predictions | None) -> Baseline | None:
    """Returns what the linear baseline does on the test split; None where it did not answer.

    ``answers`` are the candidate's, to the same rows in the same order.
    """
    found = left.baseline()
    if found is None:
        return None
    record, labels = found
    right = share(round(record.accuracy * record.test_rows), record.test_rows, CONFIDENCE)
    gain = None
    if answers is not None:
        gain = accuracy_gain(labels == answers.labels, answers.label_ids == answers.labels, CONFIDENCE)
    return Baseline(
        train_rows=record.train_rows,
        of_rows=record.of_rows,
        test_rows=record.test_rows,
        accuracy=replace(right, value=record.accuracy),
        macro_f1=record.macro_f1,
        f1=dict(zip(classes, record.f1, strict=True)),
        gain=gain,
    )


def read_evaluation(
    left: LeftBehind, classes: tuple[str, ...], bounds: Mapping[str, float], answers: Predictions | None
) -> Evaluation | None:
    """Returns the Evaluator's tables, None where it did not run; see ``evaluation_tables``."""
    slices = left.slices(classes)
    return None if slices is None else evaluation_tables(slices, classes, bounds, answers)


def read_data(
    left: LeftBehind, data_dir: Path | str, test_file: str, digest: str, gates: Sequence[Verdict] = ()
) -> Data:
    """Returns what came in. ``digest`` is of the input files; lengths of texts come from the DataGate's verdict."""
    counts: dict[str, Any] = {}
    report, directory = left.ingest(), left.of("ExampleGen", "report")
    if report and directory:
        counts = {name: report[name] for name in ("rows", "splits", "malformed")}
        with (directory / QUARANTINE_FILE).open(encoding="utf-8") as lines:
            counts["quarantine"] = dict(Counter(json.loads(line)["reason"] for line in lines).most_common())
    return Data(
        source=recognise(data_dir, test_file),
        directory=clean(str(data_dir)),
        digest=digest,
        lengths=_lengths(next((item.numbers for item in gates if item.gate == DATA_GATE.name), {})),
        **counts,
    )


def recognise(data_dir: Path | str, test_file: str) -> Literal["ag-news", "sample", "own"]:
    """Tells public data by content: whoever tests on the official test file of AG News uses AG News."""
    if is_remote(data_dir):
        return "own"
    data_dir = Path(data_dir)
    if data_dir.resolve() == SAMPLE_DIR.resolve():
        return "sample"
    digest, _ = digest_file(data_dir / test_file)
    return "ag-news" if digest.hex() == FILES[TEST_FILE] else "own"


def installed_versions(code: str) -> dict[str, str]:
    """Returns the versions of newsdesk, of the stack below it, and ``code``, the digest of its source."""
    return (
        {"newsdesk": version("newsdesk"), "code": code, "python": platform.python_version()}
        | {name: version(name) for name in _STACK}
        | {"system": platform.platform()}
    )


def _lengths(numbers: Mapping[str, Any]) -> list[Lengths]:
    """From the DataGate's numbers; it has none where rows could not be read."""
    sides = {"this run": numbers.get("data"), "the champion's data": numbers.get("champion")}
    return [Lengths(name, numbers["length_edges"], side["length_counts"]) for name, side in sides.items() if side]
