"""What a killed run leaves to the next one."""

from pathlib import Path
from typing import Any

import pytest
from batch_world import Classify, hash_files_without_manifest, rows_of, tree

from components.push.manifest import make_manifest
from serving.batch.output import Output


def interrupt(monkeypatch: pytest.MonkeyPatch, step: str, after: int) -> None:
    """Makes ``Output.<step>`` fail at its call number ``after``."""
    real, calls = getattr(Output, step), [0]

    def fail(self: Output, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] > after:
            raise RuntimeError("killed")
        return real(self, *arguments)

    monkeypatch.setattr(Output, step, fail)


@pytest.mark.parametrize("target", ["out.csv", "out/"])
@pytest.mark.parametrize(("step", "after", "left"), [("mark", 2, [2, 3]), ("mark", 0, [0, 1, 2, 3]), ("finish", 0, [])])
def test_a_run_after_a_killed_one_computes_what_is_missing(
    tmp_path: Path, classify: Classify, computed: list[int], target: str, step: str, after: int, left: list[int]
) -> None:
    (tmp_path / "in.csv").write_text("text\n" + "".join(f"row {n}\n" for n in range(10)))
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, step, after)
        with pytest.raises(RuntimeError, match="killed"):
            classify("in.csv", target, shard_rows=3)
    assert not (tmp_path / "out.csv").exists()
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    computed.clear()
    summary, _ = classify("in.csv", target, shard_rows=3)
    assert sorted(computed) == left
    assert summary.resumed == 4 - len(left)
    whole = [tmp_path / "out.csv"] if target == "out.csv" else sorted((tmp_path / "out").glob("part*"))
    assert [row["text"] for path in whole for row in rows_of(path)] == [f"row {n}" for n in range(10)]
    computed.clear()
    summary, _ = classify("in.csv", target, shard_rows=3)
    assert (computed, summary.resumed, summary.rows) == ([], 4, 10)


def test_a_run_that_is_killed_before_its_last_marker_is_known_for_ours(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, "_write", 2)  # That of the beginning, that of the shard, and then not that of the end.
        with pytest.raises(RuntimeError, match="killed"):
            classify("in.csv", "out.csv")
    assert (tmp_path / "out.csv").exists()
    classify("in.csv", "out.csv")
    assert len(rows_of(tmp_path / "out.csv")) == 1


def test_what_a_killed_run_left_half_written_is_gone(tmp_path: Path, classify: Classify) -> None:
    (tmp_path / "in.csv").write_text("text\none\n")
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, "finish", 0)
        with pytest.raises(RuntimeError, match="killed"):
            classify("in.csv", "out/")
    (tmp_path / "out" / "_tmp" / ".tmp-1").write_text("half")
    classify("in.csv", "out/")
    assert tree(tmp_path / "out") == {*("_SUCCESS", "_done/part-00000-of-00001.json", "part-00000-of-00001.csv")}


@pytest.mark.parametrize("change", ["input", "model", "names", "shard", "truncated", "marker"])
def test_a_shard_of_something_else_is_not_taken(
    tmp_path: Path, version: Path, classify: Classify, computed: list[int], change: str
) -> None:
    (tmp_path / "in.csv").write_text("text\n" + "".join(f"row {n}\n" for n in range(6)))
    classify("in.csv", "out/", shard_rows=2)
    computed.clear()
    options: dict[str, Any] = {"shard_rows": 2}
    expected = [0, 1, 2]
    if change == "input":
        (tmp_path / "in.csv").write_text("text\n" + "".join(f"new {n}\n" for n in range(6)))
    elif change == "model":
        (version / "saved_model.pb").write_bytes(b"another graph")
        (version / "MANIFEST.json").write_text(make_manifest(1, hash_files_without_manifest(version), {}))
    elif change == "names":
        options["names"] = ("predicted_label", "predicted_probability")
    elif change == "shard":
        options["shard_rows"], expected = 5, [0, 1]
    elif change == "truncated":
        path = tmp_path / "out" / "part-00001-of-00003.csv"
        path.write_bytes(path.read_bytes()[:-1])
        expected = [1]
    else:
        (tmp_path / "out" / "_SUCCESS").unlink()
        (tmp_path / "out" / "_done" / "part-00002-of-00003.json").write_text("[")
        expected = [2]
    classify("in.csv", "out/", **options)
    assert sorted(computed) == expected
    parts = sorted((tmp_path / "out").glob("part*"))
    assert len(parts) == len(expected if change == "shard" else [0, 1, 2])
    word = "new" if change == "input" else "row"
    assert [row["text"] for part in parts for row in rows_of(part)] == [f"{word} {n}" for n in range(6)]
