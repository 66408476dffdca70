"""Runs batch inference from files to files, with a model that stands in for a real one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from batch_world import NAMES, ByLength, Classify

from components.push.manifest import hash_files, make_manifest
from components.tables.files import find_files, format_of
from components.tables.rows import Asked
from pipeline.config.beam import BeamConfig, beam_args
from serving.batch import classify as batch
from serving.batch.output import Output, choose_output
from serving.batch.plan import make_plan


@pytest.fixture(autouse=True)
def fake_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "LoadedModel", ByLength)
    monkeypatch.setattr(ByLength, "made", 0)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A pushed version whose manifest is true."""
    directory = tmp_path / "models" / "1"
    directory.mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"graph")
    files = hash_files(directory)
    (directory / "MANIFEST.json").write_text(make_manifest(1, files, {}))
    return directory


@pytest.fixture
def classify(tmp_path: Path, version: Path) -> Classify:
    """Runs all of it: ``classify("in.csv", "out.csv", shard_rows=2)``, both below the test's directory."""

    def call(
        source: str,
        target: str,
        text: Sequence[str] = (),
        names: tuple[str, str] = NAMES,
        shard_rows: int = 10_000,
        budget: float = 0.5,
        format_: str | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
    ) -> tuple[batch.Summary, Output]:
        files = find_files(str(tmp_path / source))
        output = choose_output(str(tmp_path / target) + "/" * target.endswith("/"), str(format_of(files[0])), format_)
        output.check_input(files)
        output.check()
        plan = make_plan(files, Asked(tuple(text), delimiter, encoding), names, output, shard_rows, budget)
        return batch.classify(plan, names, output, version, beam_args(BeamConfig())), output

    return call


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the shards that were computed."""
    numbers: list[int] = []
    real = batch.classify_shard

    def note(shard: batch.Shard, job: batch.Job, model: batch.Model) -> dict[str, Any]:
        numbers.append(shard.number)
        return real(shard, job, model)

    monkeypatch.setattr(batch, "classify_shard", note)
    return numbers
