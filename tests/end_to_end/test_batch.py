"""A tiny model that the pipeline pushed classifies files, and a run that is killed goes on."""

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

KILLED_AFTER_TWO_SHARDS = """
import os, signal
from serving.batch.output import Output
mark, marked = Output.mark, []
def mark_and_die(self, number, count, values):
    mark(self, number, count, values)
    marked.append(number)
    if len(marked) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
Output.mark = mark_and_die
"""


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_test_file_is_classified_as_predict_does(
    champion: Any, newsdesk: Callable[..., Any], tmp_path: Path
) -> None:
    done = newsdesk(
        "batch", champion.data / "test.csv", tmp_path / "out.csv", "--workspace", champion.workspace, "--json"
    )
    assert done.code == 0, done.err
    # Of a slow run there is word once a minute.
    assert [line for line in done.err.splitlines() if not line.startswith(("read as csv", "80 rows", "  shard "))] == []
    rows = read(tmp_path / "out.csv")
    assert len(rows) == done.result["rows"] == 80
    assert list(rows[0]) == ["class_index", "title", "description", "label", "probability"]
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"{row['title']} {row['description']}\n" for row in rows), encoding="utf-8")
    expected = newsdesk("predict", "--json", "--workspace", champion.workspace, "--file", texts).result
    assert [row["label"] for row in rows] == [answer["label"] for answer in expected]
    shares = [float(row["probability"]) for row in rows]
    assert shares == pytest.approx([answer["probability"] for answer in expected], abs=1e-5)
    names = ["World", "Sports", "Business", "Sci/Tech"]
    right = sum(row["label"] == names[int(row["class_index"]) - 1] for row in rows)
    assert right > 60


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    champion: Any, newsdesk: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = ["batch", champion.data / "test.csv", tmp_path / "out.csv", "--workspace", champion.workspace]
    options = ["--shard-rows", "20", "--json"]
    killed = newsdesk(*arguments, *options, prelude=KILLED_AFTER_TWO_SHARDS)
    assert killed.code == -signal.SIGKILL
    assert not (tmp_path / "out.csv").exists()
    assert len(list((tmp_path / "out.csv.shards").glob("part-*.csv"))) == 2
    done = newsdesk(*arguments, *options)
    assert done.code == 0, done.err
    assert (done.result["shards"], done.result["resumed_shards"]) == (4, 2)
    arguments[2] = tmp_path / "whole.csv"
    assert newsdesk(*arguments, *options).result["resumed_shards"] == 0
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not (tmp_path / "out.csv.shards").exists()


def test_workers_in_processes_of_their_own_compute_the_same(
    champion: Any, newsdesk: Callable[..., Any], tmp_path: Path
) -> None:
    lines = [
        json.dumps({"id": n, "text": row["title"]}) for n, row in enumerate(read_plain(champion.data / "test.csv"))
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    arguments = ["batch", tmp_path / "in.jsonl", tmp_path / "one.jsonl", "--workspace", champion.workspace]
    arguments += ["--shard-rows", "20"]
    assert newsdesk(*arguments).code == 0
    arguments[2] = tmp_path / "two.jsonl"
    processes = {"direct_running_mode": "multi_processing", "direct_num_workers": "2"}
    done = newsdesk(*arguments, "--set", f"beam.options={json.dumps(processes)}")
    assert done.code == 0, done.err
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def read_plain(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, ["label", "title", "description"]))
