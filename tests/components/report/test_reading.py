"""What nodes left on disk, as it is and as it must not be."""

import gzip
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.example_gen.source import SAMPLE_DIR
from components.gates.verdict import Verdict
from components.report import reading
from components.report.facts import Lengths
from components.report.left_behind import LeftBehind


def left_by(node: str, output: str, directory: Path) -> LeftBehind:
    return LeftBehind({node: {output: SimpleNamespace(uri=str(directory))}})


def write_ingest(directory: Path) -> Path:
    directory.mkdir()
    report = {"rows": 12, "splits": {"test": {"World": 4}}, "malformed": 3, "unknown_labels": [], "digest": "d"}
    (directory / "report.json").write_text(json.dumps(report))
    lines = [{"file": "train.csv", "line": number, "reason": reason} for number, reason in enumerate("abb")]
    (directory / "quarantine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


def test_rows_and_quarantine_are_counted(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("x")
    drawn = {"length_counts": [1, 2]}
    gates = [Verdict("DataGate", True, numbers={"length_edges": [0, 1], "data": drawn, "champion": None})]
    found = reading.read_data(
        left_by("ExampleGen", "report", write_ingest(tmp_path / "r")), tmp_path, "test.csv", "d", gates
    )
    assert (found.rows, found.malformed, found.splits) == (12, 3, {"test": {"World": 4}})
    assert list(found.quarantine.items()) == [("b", 2), ("a", 1)]
    assert found.lengths == [Lengths("this run", [0, 1], [1, 2])]
    assert (found.source, found.directory, found.digest) == ("own", str(tmp_path), "d")


def test_without_ingest_nothing_is_counted(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("x")
    found = reading.read_data(LeftBehind({}), tmp_path, "test.csv", "d")
    assert (found.rows, found.splits, found.lengths) == (0, {}, [])


def test_public_data_are_known_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b'"1","a","b"\n'
    monkeypatch.setattr(reading, "FILES", {"train.csv": "0", "test.csv": hashlib.sha256(content).hexdigest()})
    (tmp_path / "test.csv").write_bytes(content)
    (tmp_path / "test.csv.gz").write_bytes(gzip.compress(content))
    (tmp_path / "other.csv").write_bytes(content + b"more")
    assert reading.recognise(tmp_path, "test.csv") == "ag-news"
    assert reading.recognise(tmp_path, "test.csv.gz") == "ag-news"
    assert reading.recognise(tmp_path, "other.csv") == "own"
    assert reading.recognise(SAMPLE_DIR, "test.csv") == "sample"


def test_versions_are_those_installed() -> None:
    found = reading.installed_versions("4b1d")
    assert found["code"] == "4b1d"
    assert {"newsdesk", "python", "tfx", "tensorflow", "mlflow", "system"} <= set(found)
