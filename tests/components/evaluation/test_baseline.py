"""The baseline is fitted on train, measured on test, and kept with its answers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.evaluation.baseline import measure_baseline
from components.records import read_baseline, write_baseline

SIDES = ("striker scores in the final", "shares fall on rate fears")


def write_split(root: Path, split: str, rows: Sequence[tuple[str, int]]) -> None:
    directory = root / f"Split-{split}"
    directory.mkdir()
    with tf.io.TFRecordWriter(str(directory / "data-00000-of-00001.gz"), "GZIP") as writer:
        for text, label in rows:
            feature = {
                "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    write_split(tmp_path, "train", [(SIDES[number % 2], number % 2) for number in range(40)])
    # Whoever learned from eval would learn the opposite.
    write_split(tmp_path, "eval", [(SIDES[number % 2], 1 - number % 2) for number in range(400)])
    write_split(tmp_path, "test", [(SIDES[0], 0), (SIDES[1], 1), (SIDES[1], 1), (SIDES[1], 0)])
    return tmp_path


def test_it_learns_from_train_and_is_measured_on_test(examples: Path) -> None:
    record, answers = measure_baseline(str(examples), 3, 1_000)
    assert answers.tolist() == [0, 1, 1, 1]
    assert (record.train_rows, record.of_rows, record.test_rows, record.accuracy) == (40, 40, 4, 0.75)
    assert record.f1 == (pytest.approx(2 / 3), pytest.approx(4 / 5), None)
    assert record.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_rows_beyond_the_most_are_left_out_evenly(examples: Path) -> None:
    record, answers = measure_baseline(str(examples), 2, 10)
    assert (record.train_rows, record.of_rows) == (10, 40)
    assert answers.tolist() == [0, 1, 1, 1]  # From both ends of the split, where the first ten rows would do as well.


def test_what_is_written_is_read_again(examples: Path, tmp_path: Path) -> None:
    record, answers = measure_baseline(str(examples), 3, 1_000)
    write_baseline(tmp_path / "baseline", record, answers)
    again, labels = read_baseline(tmp_path / "baseline")
    assert again == record
    assert np.array_equal(labels, answers)
