"""Reads what nodes left on disk, for a report or a card. Each function takes a directory and nothing of TFX."""

import gzip
import hashlib
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from components import features
from components.comparison import Estimate, accuracy_gain
from components.example_gen.fetch import FILES
from components.example_gen.source import SAMPLE_DIR, TEST_FILE, is_remote
from components.paired import wilson_interval
from components.predictions import Predictions
from components.report.facts import Data, Gate, Lengths
from components.report.measures import CONFIDENCE, Baseline, Evaluation, Training
from components.report.tables import evaluation_tables

VERDICT_FILE = "verdict.json"
_INGEST_FILE, _QUARANTINE_FILE = "report.json", "quarantine.jsonl"
_STACK = ("tfx", "tensorflow", "tensorflow-text", "tf-keras", "apache-beam", "mlflow", "numpy")


def read_gate(directory: Path) -> Gate:
    """Returns a gate's verdict from its artifact."""
    verdict = _clean_all(json.loads((directory / VERDICT_FILE).read_text(encoding="utf-8")))
    return TypeAdapter(Gate).validate_python({**verdict, "name": verdict["gate"]})


def read_training(directory: Path) -> Training:
    """Returns the history of a fit from the Trainer's artifact ``model_run``."""
    return TypeAdapter(Training).validate_json((directory / features.HISTORY_FILE).read_bytes())


def read_baseline(directory: Path, classes: Sequence[str], answers: Predictions | None) -> Baseline:
    """Returns what the linear baseline does on the test split, from its artifact.

    Args:
        directory: The artifact.
        classes: Names in label-id order.
        answers: The candidate's, to the same rows in the same order; None if it gave none.
    """
    # It brings TFX.
    from components.baseline import read_baseline as read

    record, labels = read(directory)
    right = round(record.accuracy * record.test_rows)
    accuracy = Estimate(record.accuracy, *astuple(wilson_interval(right, record.test_rows, CONFIDENCE)))
    gain = None
    if answers is not None:
        gain = accuracy_gain(labels == answers.labels, answers.label_ids == answers.labels, CONFIDENCE)
    return Baseline(
        train_rows=record.train_rows,
        of_rows=record.of_rows,
        test_rows=record.test_rows,
        accuracy=accuracy,
        macro_f1=record.macro_f1,
        f1=dict(zip(classes, record.f1, strict=True)),
        gain=gain,
    )


def read_evaluation(
    directory: Path, classes: tuple[str, ...], bounds: Mapping[str, float], answers: Predictions | None
) -> Evaluation:
    """Returns the Evaluator's tables from its artifact; see ``evaluation_tables``."""
    # It brings TensorFlow, which a reader of anything else need not wait for.
    from components.evaluation_result import read_slices

    return evaluation_tables(read_slices(str(directory), classes), classes, bounds, answers)


def read_data(
    directory: Path | None, data_dir: Path | str, test_file: str, digest: str, gates: Sequence[Gate] = ()
) -> Data:
    """Returns what came in.

    Args:
        directory: ExampleGen's artifact ``report``; None where it was not written.
        data_dir: Where the input files are.
        test_file: Name of that of the test split.
        digest: Of their content.
        gates: Verdicts; the DataGate's has the lengths of texts.
    """
    counts: dict[str, Any] = {}
    if directory:
        report = json.loads((directory / _INGEST_FILE).read_text(encoding="utf-8"))
        counts = {name: report[name] for name in ("rows", "splits", "malformed")}
        with (directory / _QUARANTINE_FILE).open(encoding="utf-8") as lines:
            counts["quarantine"] = dict(Counter(json.loads(line)["reason"] for line in lines).most_common())
    return Data(
        source=recognise(data_dir, test_file),
        directory=clean(str(data_dir)),
        digest=digest,
        lengths=_lengths(next((gate.numbers for gate in gates if gate.name == "DataGate"), {})),
        **counts,
    )


def recognise(data_dir: Path | str, test_file: str) -> Literal["ag-news", "sample", "own"]:
    """Tells public data by content: whoever tests on the official test file of AG News uses AG News."""
    if is_remote(data_dir):
        return "own"
    data_dir = Path(data_dir)
    if data_dir.resolve() == SAMPLE_DIR.resolve():
        return "sample"
    (official,) = (file.sha256 for file in FILES if file.name == TEST_FILE)
    path = data_dir / test_file
    digest = hashlib.sha256()
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return "ag-news" if digest.hexdigest() == official else "own"


def installed_versions(code: str) -> dict[str, str]:
    """Returns the versions of newsdesk, of the stack below it, and ``code``, the digest of its source."""
    return (
        {"newsdesk": version("newsdesk"), "code": code, "python": platform.python_version()}
        | {name: version(name) for name in _STACK}
        | {"system": platform.platform()}
    )


def clean(text: str) -> str:
    """File names and messages may hold what is not Unicode; JSON and HTML may not."""
    return text.encode("utf-8", "backslashreplace").decode()


def _clean_all(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_clean_all(item) for item in value]
    return {clean(key): _clean_all(item) for key, item in value.items()} if isinstance(value, dict) else value


def _lengths(numbers: Mapping[str, Any]) -> list[Lengths]:
    """From the DataGate's numbers; it has none where rows could not be read."""
    sides = {"this run": numbers.get("data"), "the champion's data": numbers.get("champion")}
    return [Lengths(name, numbers["length_edges"], side["length_counts"]) for name, side in sides.items() if side]
