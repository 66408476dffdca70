"""Reading transformed rows and batching them by length."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers import input as rows_input
from trainers.input import Encoded, Rows, Split, length_batches, pad, read_rows, split_pattern, to_dataset

Row = tuple[list[int], int]
WriteRows = Callable[[str, list[Row]], Path]


def make_rows(lengths: list[int]) -> Rows:
    """Returns rows of the given lengths whose ids count up from 2 and whose labels are their row numbers."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Rows(np.arange(2, 2 + starts[-1], dtype=np.int32), starts, np.arange(len(lengths), dtype=np.int32))


def make_encoded(lengths: list[int]) -> Encoded:
    """Returns such rows with vectors that count up by row."""
    vectors = np.arange(2 * len(lengths), dtype=np.float32).reshape(len(lengths), 2)
    return Encoded(vectors, make_rows(lengths))


LENGTHS = np.random.default_rng(0).integers(1, 9, 30).tolist()
SPLITS: dict[str, Split] = {"rows": make_rows(LENGTHS), "encoded": make_encoded(LENGTHS)}


def padding_share(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """Returns the share of padding among all positions of all batches."""
    positions = sum(len(batch) * lengths[batch].max() for batch in batches)
    return 1.0 - lengths.sum() / positions


def labels_by_batch(dataset: tf.data.Dataset) -> list[list[int]]:
    """Returns the labels of one pass, batch by batch."""
    return [labels.numpy().tolist() for _, labels in dataset]


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """Writes rows as a TFRecord file of transformed examples, compressed if the name ends in ``.gz``."""

    def write(name: str, rows: list[Row]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path), options="GZIP" if name.endswith(".gz") else "") as writer:
            for ids, label in rows:
                feature = {
                    "token_ids": tf.train.Feature(int64_list=tf.train.Int64List(value=ids)),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
        return path

    return write


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("read_batch", [2, 4096])
def test_read_rows_returns_what_was_written(
    write_rows: WriteRows, monkeypatch: pytest.MonkeyPatch, suffix: str, read_batch: int
) -> None:
    monkeypatch.setattr(rows_input, "_READ_BATCH", read_batch)
    written: list[Row] = [([5, 3, 9], 2), ([], 0), ([], 1), ([], 3), ([7], 1), ([4, 4, 4, 4, 2], 0), ([], 2)]
    path = write_rows(f"Split-train/data-00000-of-00001{suffix}", written)

    rows = read_rows(str(path.parent / "*"))

    assert len(rows) == len(written)
    assert rows.lengths.tolist() == [len(ids) for ids, _ in written]
    assert [rows.ids[a:b].tolist() for a, b in zip(rows.starts[:-1], rows.starts[1:], strict=True)] == [
        ids for ids, _ in written
    ]
    assert rows.labels.tolist() == [label for _, label in written]
    assert (rows.ids.dtype, rows.starts.dtype, rows.labels.dtype) == (np.int32, np.int64, np.int32)


def test_read_rows_of_only_empty_texts(write_rows: WriteRows) -> None:
    path = write_rows("Split-train/data.gz", [([], 1), ([], 0)])
    rows = read_rows(str(path))
    assert (rows.ids.tolist(), rows.starts.tolist(), rows.labels.tolist()) == ([], [0, 0, 0], [1, 0])


def test_read_rows_joins_files_in_name_order(write_rows: WriteRows) -> None:
    write_rows("Split-train/data-00001-of-00002.gz", [([8], 1)])
    path = write_rows("Split-train/data-00000-of-00002.gz", [([6, 7], 0)])
    rows = read_rows(str(path.parent / "*"))
    assert (rows.ids.tolist(), rows.starts.tolist(), rows.labels.tolist()) == ([6, 7, 8], [0, 2, 3], [0, 1])


def test_read_rows_names_the_pattern_without_files(tmp_path: Path) -> None:
    pattern = str(tmp_path / "Split-train" / "*")
    with pytest.raises(FileNotFoundError, match="no transformed examples at") as raised:
        read_rows(pattern)
    assert pattern in str(raised.value)


def test_split_pattern_picks_the_split_by_its_whole_name() -> None:
    uris = [
        "/artifacts/1/Split-train/*",
        "/artifacts/1/Split-train_eval/*",
        "/Split-eval/1/Split-test/*",
        "/artifacts/1/Split-eval/*",
    ]
    assert split_pattern(uris, "train") == "/artifacts/1/Split-train/*"
    assert split_pattern(uris, "eval") == "/artifacts/1/Split-eval/*"


@pytest.mark.parametrize("uris", [["/artifacts/Split-train/*"], ["/a/Split-eval/*", "/b/Split-eval/*"]])
def test_split_pattern_wants_exactly_one(uris: list[str]) -> None:
    with pytest.raises(ValueError, match="values to unpack"):
        split_pattern(uris, "eval")


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(("rows", "batch_size"), [(1, 4), (8, 4), (50, 8), (7, 1)])
def test_length_batches_hold_every_row_once(rows: int, batch_size: int, seed: int | None) -> None:
    lengths = np.random.default_rng(0).integers(0, 40, rows)
    batches = length_batches(lengths, batch_size, np.random.default_rng(seed) if seed is not None else None)
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    sizes = sorted(len(batch) for batch in batches)
    assert sizes[1:] == [batch_size] * (len(batches) - 1)
    assert 1 <= sizes[0] <= batch_size


def test_length_batches_without_rng_keep_the_order_of_lengths() -> None:
    batches = length_batches(np.array([5, 1, 3, 1, 4]), 2)
    assert [batch.tolist() for batch in batches] == [[1, 3], [2, 4], [0]]


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_length_batches_waste_little_on_padding(seed: int | None) -> None:
    lengths = np.random.default_rng(0).integers(1, 61, 1024)
    in_file_order = [np.arange(start, start + 32) for start in range(0, 1024, 32)]
    batches = length_batches(lengths, 32, np.random.default_rng(seed) if seed is not None else None)
    assert padding_share(lengths, in_file_order) > 0.4
    assert padding_share(lengths, batches) < 0.15


def test_length_batches_differ_by_epoch_and_repeat_by_seed() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 64)

    def epochs(seed: int) -> list[list[list[int]]]:
        rng = np.random.default_rng(seed)
        return [[batch.tolist() for batch in length_batches(lengths, 8, rng)] for _ in range(3)]

    first, second, third = epochs(5)
    assert first != second != third
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}
    assert [lengths[batch].mean() for batch in first] != sorted(lengths[batch].mean() for batch in first)
    assert epochs(5) == [first, second, third]
    assert epochs(6) != [first, second, third]


def test_pad_fills_with_zero_at_the_end() -> None:
    ids, labels = pad(make_rows([2, 0, 4, 1]), np.array([3, 1, 0]))
    assert ids.tolist() == [[8, 0], [0, 0], [2, 3]]
    assert labels.tolist() == [3, 1, 0]
    assert (ids.dtype, labels.dtype) == (np.int32, np.int32)


def test_pad_of_empty_texts_is_one_wide() -> None:
    ids, labels = pad(make_rows([0, 3, 0]), np.array([0, 2]))
    assert ids.tolist() == [[0], [0]]
    assert labels.tolist() == [0, 2]


def test_encoded_rows_come_in_the_order_of_their_lengths() -> None:
    batches = [
        (vectors.tolist(), ids.tolist(), labels.tolist())
        for (vectors, ids), labels in make_encoded([2, 0, 3, 1]).batches(2)
    ]
    assert batches == [
        ([[2.0, 3.0], [6.0, 7.0]], [[0], [7]], [1, 3]),
        ([[0.0, 1.0], [4.0, 5.0]], [[2, 3, 0], [4, 5, 6]], [0, 2]),
    ]


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    batch_size=st.integers(1, 9),
    seed=st.none() | st.integers(0, 99),
)
def test_encoded_batches_pair_each_vector_with_its_own_ids_and_label(
    lengths: list[int], batch_size: int, seed: int | None
) -> None:
    split = make_encoded(lengths)
    # Labels that are not row numbers, so that a row's number cannot stand in for its label.
    rows = Rows(split.rows.ids, split.rows.starts, 100 - split.rows.labels)
    split = Encoded(split.vectors, rows)
    assert len(split) == len(lengths)
    seen = []
    for (vectors, ids), labels in split.batches(batch_size, np.random.default_rng(seed) if seed is not None else None):
        assert (vectors.dtype, ids.dtype, labels.dtype) == (np.float32, np.int32, np.int32)
        assert len(vectors) == len(ids) == len(labels) <= batch_size
        numbers = [int(vector[0]) // 2 for vector in vectors]
        assert ids.shape[1] == max(1, *(lengths[number] for number in numbers))
        for number, vector, padded, label in zip(numbers, vectors, ids, labels, strict=True):
            assert vector.tolist() == [2.0 * number, 2.0 * number + 1.0]
            own = rows.ids[rows.starts[number] : rows.starts[number + 1]].tolist()
            assert padded.tolist() == own + [0] * (ids.shape[1] - len(own))
            assert label == 100 - number
        seen += numbers
    assert sorted(seen) == list(range(len(lengths)))


@pytest.mark.parametrize("seed", [None, 3])
def test_encoded_batches_are_those_of_their_rows(seed: int | None) -> None:
    """Of similar length, shuffled anew on every pass, the same for the same seed."""
    split = make_encoded(LENGTHS)
    mine, reference = (np.random.default_rng(seed) if seed is not None else None for _ in range(2))
    passes = []
    for _ in range(3):
        own = list(split.batches(8, mine))
        for ((_, ids), labels), (row_ids, row_labels) in zip(own, split.rows.batches(8, reference), strict=True):
            np.testing.assert_array_equal(ids, row_ids)
            np.testing.assert_array_equal(labels, row_labels)
        passes.append([labels.tolist() for _, labels in own])
    assert (passes[0] == passes[1] == passes[2]) == (seed is None)


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_to_dataset_gives_what_the_split_gives(split: Split) -> None:
    dataset = to_dataset(split, 8, seed=4)
    for epoch in (1, 2):
        rng = np.random.default_rng([4, epoch])
        for mine, own in zip(dataset, split.batches(8, rng), strict=True):
            for tensor, array in zip(tf.nest.flatten(mine), tf.nest.flatten(own), strict=True):
                np.testing.assert_array_equal(tensor, array)
    assert dataset.element_spec == (split.spec, tf.TensorSpec([None], tf.int32))


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_to_dataset_goes_on_where_an_uninterrupted_one_would_be(split: Split) -> None:
    dataset = to_dataset(split, 8, seed=0)
    first, second, third = (labels_by_batch(dataset) for _ in range(3))
    assert first != second != third != first
    resumed = to_dataset(split, 8, seed=0, epoch=2)
    assert [labels_by_batch(resumed) for _ in range(2)] == [second, third]
    assert labels_by_batch(to_dataset(split, 8, seed=1)) != first


@pytest.mark.parametrize(("rows", "batch_size", "batches"), [(1, 4, 1), (8, 4, 2), (9, 4, 3), (3, 1, 3)])
def test_to_dataset_knows_its_cardinality(rows: int, batch_size: int, batches: int) -> None:
    dataset = to_dataset(make_rows([1] * rows), batch_size)
    assert int(dataset.cardinality()) == batches
    assert len(labels_by_batch(dataset)) == batches


def test_to_dataset_reshuffles_every_epoch() -> None:
    rows = make_rows(np.random.default_rng(0).integers(1, 9, 32).tolist())
    dataset = to_dataset(rows, 4, seed=7)
    epochs = [labels_by_batch(dataset) for _ in range(3)]
    for epoch in epochs:
        assert sorted(label for batch in epoch for label in batch) == list(range(32))
    assert epochs[0] != epochs[1] != epochs[2]
    again = to_dataset(rows, 4, seed=7)
    assert [labels_by_batch(again) for _ in range(3)] == epochs


def test_to_dataset_without_seed_is_the_same_every_time() -> None:
    rows = make_rows([3, 1, 2, 1])
    dataset = to_dataset(rows, 3)
    batches = [(ids.numpy().tolist(), labels.numpy().tolist()) for ids, labels in dataset]
    assert batches == [([[5, 0], [8, 0], [6, 7]], [1, 3, 2]), ([[2, 3, 4]], [0])]
    assert labels_by_batch(dataset) == [[1, 3, 2], [0]]


def test_no_tuner_thread_holds_up_the_end_of_an_epoch() -> None:
    rows = Rows(np.array([2, 3], np.int32), np.array([0, 1, 2]), np.array([0, 1], np.int32))
    assert to_dataset(rows, 1).options().autotune.enabled is False
