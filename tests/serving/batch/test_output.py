"""Where output may go, and what must not change meanwhile."""

from dataclasses import replace
from pathlib import Path

import pytest
from batch_world import NAMES, ByLength, Classify, tree

from components.errors import BadInputError
from components.tables.rows import Asked, Layout
from pipeline.config.beam import BeamConfig, beam_args
from serving.batch import classify as batch
from serving.batch.output import choose_output
from serving.batch.plan import make_plan


@pytest.mark.parametrize("target", ["out.csv", "out/"])
def test_what_no_batch_run_wrote_is_not_touched(tmp_path: Path, classify: Classify, target: str) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    (tmp_path / "out").mkdir()
    for name in ("out.csv", "out/mine.csv"):
        (tmp_path / name).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(BadInputError, match="no batch run wrote it"):
        classify("in.csv", target)
    assert tree(tmp_path) == before
    assert (tmp_path / "out.csv").read_text() == "mine"


def test_an_empty_directory_is_used(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    (tmp_path / "out").mkdir()
    classify("in.csv", "out")
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_output_that_is_input_is_refused(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    classify("in.csv", "out.csv")
    with pytest.raises(BadInputError, match="input and output"):
        classify("*.csv", "out.csv")
    with pytest.raises(BadInputError, match="input and output"):
        classify("in.csv", "in.csv")


@pytest.mark.parametrize(
    ("target", "format_", "words"),
    [
        ("out.xml", None, "no known format"),
        ("out.parquet.gz", None, "no known format"),
        ("out.csv", "jsonl", "csv by its name, not jsonl"),
        ("out[1].csv", None, "in its name"),
    ],
)
def test_an_output_that_cannot_be_is_refused(
    tmp_path: Path, classify: Classify, target: str, format_: str | None, words: str
) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    with pytest.raises(BadInputError, match=words):
        classify("in.csv", target, format_=format_)


def test_a_directory_may_have_a_point_and_another_format(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    classify("in.csv", "v1.2/", format_="jsonl")
    assert (tmp_path / "v1.2" / "part-00000-of-00001.jsonl").exists()


def test_a_model_that_is_not_what_was_pushed_is_refused(tmp_path: Path, version: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    (version / "saved_model.pb").write_bytes(b"changed")
    with pytest.raises(BadInputError, match=r"saved_model.pb has changed"):
        classify("in.csv", "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert ByLength.made == 0


@pytest.mark.parametrize("target", ["out.csv", "out/"])
@pytest.mark.parametrize("changed", ["one\n", "one\nnew\n", "one\ntwo\nnew\n", '"one\n'])
def test_input_that_changes_meanwhile_is_noticed(
    tmp_path: Path, version: Path, classify: Classify, computed: list[int], target: str, changed: str
) -> None:
    """Fewer rows, as many of other texts, more of them, and what cannot be read; nothing of it is kept."""
    path, before = tmp_path / "in.csv", "text\none\ntwo\n"
    path.write_text(before)
    output = choose_output(str(tmp_path / target) + "/" * target.endswith("/"), "csv", None)
    plan = make_plan([str(path)], Asked(), NAMES, output, 1, 0.5)
    path.write_text(f"text\n{changed}")
    with pytest.raises(BadInputError) as caught:
        batch.classify(plan, NAMES, output, version, beam_args(BeamConfig()))
    assert str(caught.value) == f"{path} changed while it was read: run again once nobody writes there"
    assert not (tmp_path / "out.csv").exists()
    assert not list(tmp_path.rglob("part-*"))
    # Nor is it taken for the rows of before, should they come back.
    path.write_text(before)
    computed.clear()
    classify("in.csv", target, shard_rows=1)
    assert sorted(computed) == [0, 1]


def test_a_worker_that_sees_another_model_stops(tmp_path: Path, version: Path) -> None:
    output = choose_output(str(tmp_path / "out.csv"), "csv", None)
    job = batch.Job("csv", Layout(("text",), ("text",)), NAMES, output, 1, str(version), "digest of another")
    with pytest.raises(RuntimeError, match="not the model that this run began with"):
        batch._ClassifyShard(job)._load()
    good = batch._ClassifyShard(replace(job, model_digest=batch.model_digest(version)))
    good.setup()
    good.setup()
    assert ByLength.made == 1
