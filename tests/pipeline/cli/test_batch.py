"""``newsdesk batch``: options, exit codes, and what is printed where."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest

from components.push.manifest import hash_files, make_manifest
from pipeline.cli.commands import batch as module
from pipeline.config.beam import BeamConfig, beam_args
from serving.batch import classify as batch
from serving.model.loaded import Answers

Newsdesk = Callable[..., tuple[object, str, str]]


class Sports:
    """Stands in for a model that knows one answer."""

    def __init__(self, directory: Path):
        self.classes = ["World", "Sports"]

    def answer(self, texts: Sequence[bytes]) -> Answers:
        count = len(texts)
        return Answers(["Sports"] * count, np.ones(count, np.int64), np.tile(np.float32([0.25, 0.75]), (count, 1)))


def push(base: Path, version: int) -> None:
    directory = base / str(version)
    directory.mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"graph")
    (directory / "MANIFEST.json").write_text(make_manifest(version, hash_files(directory), {}))
    (base / "aliases.json").write_text(json.dumps({"champion": version}))


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory with a workspace whose champion is version 3, and an input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch, "LoadedModel", Sports)
    monkeypatch.delenv("NEWSDESK_WORKSPACE", raising=False)
    push(tmp_path / "workspace" / "serving" / "ag_news", 3)
    (tmp_path / "in.csv").write_text("id,text\n1,A goal\n2,\n3,Two goals\n")
    return tmp_path / "workspace"


def test_it_says_what_it_wrote(newsdesk: Newsdesk, tmp_path: Path) -> None:
    code, out, err = newsdesk("batch", "in.csv", "out.csv")
    assert code == 0, err
    assert out.splitlines()[:2] == [
        "classes   Sports 2",
        f"left out  1 malformed record, listed in {tmp_path}/out.csv.quarantine.jsonl",
    ]
    assert out.splitlines()[2].startswith(f"written   2 rows to {tmp_path}/out.csv, model version 3, ")
    assert err.splitlines() == [
        "read as csv, UTF-8, delimiter comma, with a header, text in 'text'",
        f"2 rows in 1 shard, model {tmp_path}/workspace/serving/ag_news/3",
    ]
    with (tmp_path / "out.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["id", "text", "label", "probability"],
            ["1", "A goal", "Sports", "0.75"],
            ["3", "Two goals", "Sports", "0.75"],
        ]


def test_json_is_one_object(newsdesk: Newsdesk, tmp_path: Path) -> None:
    code, out, _ = newsdesk("batch", "in.csv", "out.csv", "--json")
    found = json.loads(out)
    assert code == 0
    assert found.pop("seconds") >= 0
    assert found == {
        "output": str(tmp_path / "out.csv"),
        "format": "csv",
        "rows": 2,
        "labels": {"Sports": 2},
        "malformed": 1,
        "quarantine": str(tmp_path / "out.csv.quarantine.jsonl"),
        "shards": 1,
        "resumed_shards": 0,
        "model_version": "3",
    }
    again = json.loads(newsdesk("batch", "in.csv", "out.csv", "--json")[1])
    assert (again["resumed_shards"], again["rows"]) == (1, 2)


def test_the_options_arrive(newsdesk: Newsdesk, tmp_path: Path) -> None:
    push(tmp_path / "models" / "other", 8)
    (tmp_path / "in.csv").write_text("label,a,b\n1,one,two\n2,three,four\n")
    options = ["--text-column", "b", "--text-column", "a", "--prefix", "p_", "--format", "jsonl", "--shard-rows", "1"]
    code, out, err = newsdesk("batch", "in.csv", "parts", *options, "--model-dir", "models/other", "--json")
    assert code == 0, err
    assert (json.loads(out)["model_version"], json.loads(out)["shards"]) == ("8", 2)
    (first, second) = sorted((tmp_path / "parts").glob("part-*.jsonl"))
    assert json.loads(first.read_text()) == {
        "label": "1",
        "a": "one",
        "b": "two",
        "p_label": "Sports",
        "p_probability": 0.75,
    }
    assert json.loads(second.read_text())["label"] == "2"


def test_the_name_chooses_the_model_in_the_workspace(newsdesk: Newsdesk, workspace: Path, tmp_path: Path) -> None:
    push(tmp_path / "elsewhere" / "serving" / "desk", 5)
    code, out, _ = newsdesk("batch", "in.csv", "o.csv", "--name", "desk", "--workspace", "elsewhere", "--json")
    assert (code, json.loads(out)["model_version"]) == (0, "5")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["INPUT"]),
        (["in.csv"], ["OUTPUT"]),
        (["missing.csv", "out.csv"], ["there is no file", "missing.csv"]),
        (["in.csv", "in.csv"], ["input and output"]),
        (["in.csv", "out.xml"], ["out.xml", ".jsonl"]),
        (["in.csv", ""], ["name"]),
        (["in.csv", "out.csv", "--format", "xml"], ["xml", "parquet"]),
        (["in.csv", "out.csv", "--format", "jsonl"], ["csv by its name"]),
        (["in.csv", "out.csv", "--text-column", "title"], ["no column 'title'", "'id', 'text'", "did you mean 'text'"]),
        (["in.csv", "out.csv", "--delimiter", "::"], ["'::' is no delimiter", "tab"]),
        (["in.csv", "out.csv", "--encoding", "utf-88"], ["no encoding 'utf-88'", "utf-16"]),
        (["workspace", "out.csv"], ["workspace is a directory", "in quotes"]),
        (["in.csv", "out.csv", "--malformed-budget", "0.1"], ["1 of 3", "--malformed-budget"]),
        (["in.csv", "out.csv", "--shard-rows", "0"], ["--shard-rows"]),
        (["in.csv", "out.csv", "--name", "other"], ["no model other", "--workspace"]),
        (["in.csv", "out.csv", "--model-dir", "nowhere"], ["no model nowhere", "--model-dir"]),
        (["in.csv", "out.csv", "--model-dir", "m", "--name", "n"], ["--model-dir", "--name"]),
        (["in.csv", "out.csv", "--set", "floors.accuracy=1"], ["beam.KEY=VALUE", "'floors.accuracy=1'"]),
        (["in.csv", "out.csv", "--set", "beam.project"], ["KEY=VALUE"]),
        (["in.csv", "out.csv", "--beam", "flink"], ["the profile flink needs beam.job_endpoint"]),
        (["in.csv", "out.csv", "--beam", "spark", "--set", "beam.job_endpoint=here:1"], ["name it with beam.image"]),
        (["in.csv", "out.csv", "--beam", "storm"], ["storm", "dataflow"]),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_sentence(newsdesk: Newsdesk, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    code, out, err = newsdesk("batch", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert err.startswith("newsdesk: ")
    assert [word for word in words if word not in err] == []
    assert not list(tmp_path.glob("out.csv"))
    assert not list(tmp_path.glob("*.shards"))


@pytest.mark.parametrize("output", ["out.csv", "sub/out.csv", "parts"])
def test_of_two_runs_on_one_output_the_second_is_refused(newsdesk: Newsdesk, tmp_path: Path, output: str) -> None:
    (tmp_path / "sub").mkdir()
    before = sorted(path for path in tmp_path.rglob("*") if "workspace" not in path.parts)
    with filelock.FileLock(tmp_path / f"{output}.lock"):
        code, out, err = newsdesk("batch", "in.csv", output)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert f"another run is writing {tmp_path / output}" in err
        assert newsdesk("batch", "in.csv", "other.csv")[0] == 0
    (tmp_path / f"{output}.lock").unlink()
    for path in tmp_path.glob("other*"):
        path.unlink()
    assert sorted(path for path in tmp_path.rglob("*") if "workspace" not in path.parts) == before


def test_the_lock_is_held_while_it_writes_and_a_killed_run_leaves_none(
    newsdesk: Newsdesk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # What a killed run leaves: the file, which nobody holds.
    (tmp_path / "out.csv.lock").touch()
    held: list[bool] = []
    real = batch.classify_shard

    def note(*arguments: Any) -> Any:
        try:
            with filelock.FileLock(tmp_path / "out.csv.lock", timeout=0):
                held.append(False)
        except filelock.Timeout:
            held.append(True)
        return real(*arguments)

    monkeypatch.setattr(batch, "classify_shard", note)
    assert newsdesk("batch", "in.csv", "out.csv")[0] == 0
    assert held == [True]
    assert not (tmp_path / "out.csv.lock").exists()
    assert newsdesk("batch", "in.csv", "out.csv", "--malformed-budget", "0")[0] == 2
    assert not (tmp_path / "out.csv.lock").exists()


def test_output_that_has_no_place_is_refused(newsdesk: Newsdesk, tmp_path: Path) -> None:
    code, _, err = newsdesk("batch", "in.csv", "in.csv/below/out.csv")
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "cannot be written (Not a directory)" in err


def test_a_damaged_model_is_refused(newsdesk: Newsdesk, workspace: Path) -> None:
    (workspace / "serving" / "ag_news" / "3" / "saved_model.pb").write_bytes(b"changed")
    code, _, err = newsdesk("batch", "in.csv", "out.csv")
    assert code == 2
    assert "saved_model.pb has changed" in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], beam_args(BeamConfig())),
        (["--set", 'beam.options={"streaming": "false"}'], [*beam_args(BeamConfig()), "--streaming=false"]),
        (
            ["--beam", "flink", "--set", "beam.job_endpoint=flink:8099", "--set", "beam.image=newsdesk:1"],
            beam_args(BeamConfig(profile="flink", job_endpoint="flink:8099", image="newsdesk:1")),
        ),
    ],
)
def test_a_runner_gets_its_options_and_no_others(
    newsdesk: Newsdesk, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: list[str]
) -> None:
    asked: dict[str, Any] = {}

    def classify(plan: Any, names: Any, output: Any, model: Path, beam_options: list[str]) -> batch.Summary:
        asked["options"] = beam_options
        return batch.Summary(2, {"Sports": 2}, 1, 0)

    monkeypatch.setattr(batch, "classify", classify)
    assert newsdesk("batch", "in.csv", "out.csv", *options)[0] == 0
    assert asked["options"] == expected


def test_the_formats_are_those_of_the_files() -> None:
    from components.tables.files import FORMATS

    assert module._FORMATS == FORMATS
