"""Checkpoints: all that was written comes back, whole or not at all, and only for the same fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save

from trainers.checkpoints import Checkpoints

Groups = dict[str, Sequence[np.ndarray]]
STATE = {"epochs": [{"epoch": 1, "loss": 0.1 + 0.2, "seconds": 1e-17}], "name": "Zürich", "none": None}


def make_groups(offset: float = 0.0) -> Groups:
    """Returns groups with arrays of the ranks and types that models and optimizers have."""
    return {
        "model": [np.arange(6, dtype=np.float32).reshape(2, 3) + np.float32(offset), np.array([np.pi], np.float32)],
        "optimizer": [np.array(2**40 + 1), np.array(0.1, np.float32), np.zeros((0, 4), np.float32)],
    }


def check_equal(found: Mapping[str, Sequence[np.ndarray]], expected: Groups) -> None:
    """Checks names, order, shapes, types and values of groups."""
    assert set(found) == set(expected)
    for name, arrays in expected.items():
        assert [(array.shape, array.dtype) for array in found[name]] == [(a.shape, a.dtype) for a in arrays]
        for mine, reference in zip(found[name], arrays, strict=True):
            np.testing.assert_array_equal(mine, reference)


def read(checkpoints: Checkpoints) -> tuple[dict[str, list[np.ndarray]], dict[str, Any]]:
    """Returns what there must be."""
    found = checkpoints.read()
    assert found is not None
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "node" / "checkpoints"


@pytest.fixture
def checkpoints(directory: Path) -> Checkpoints:
    return Checkpoints(str(directory), {"rate": 0.1}, "train/*")


@pytest.fixture
def file(checkpoints: Checkpoints, directory: Path) -> Path:
    """The file of a checkpoint that has been written."""
    checkpoints.write(make_groups(), STATE)
    (path,) = directory.iterdir()
    return path


def test_groups_and_state_come_back(checkpoints: Checkpoints) -> None:
    checkpoints.write(make_groups(), STATE)
    groups, state = read(checkpoints)
    check_equal(groups, make_groups())
    assert state == STATE


def test_what_variables_hold_can_be_assigned_to_them_again(checkpoints: Checkpoints) -> None:
    before = [tf.Variable(7, dtype=tf.int64), tf.Variable(0.5), tf.Variable([[1.0, 2.0]]), tf.Variable([True, False])]
    after = [tf.Variable(tf.zeros_like(variable)) for variable in before]
    checkpoints.write({"optimizer": [variable.numpy() for variable in before]}, {})
    for variable, value in zip(after, read(checkpoints)[0]["optimizer"], strict=True):
        variable.assign(value)
    check_equal({"": [variable.numpy() for variable in after]}, {"": [variable.numpy() for variable in before]})


def test_a_group_without_arrays_stays_a_group(checkpoints: Checkpoints) -> None:
    checkpoints.write({"model": [np.ones(2, np.float32)], "best": []}, {})
    assert read(checkpoints)[0]["best"] == []


def test_more_than_ten_arrays_keep_their_order(checkpoints: Checkpoints) -> None:
    numbers = [np.array(number) for number in range(123)]
    checkpoints.write({"model": numbers, "best": numbers[:11]}, {})
    groups, _ = read(checkpoints)
    assert [int(array) for array in groups["model"]] == list(range(123))
    assert [int(array) for array in groups["best"]] == list(range(11))


def test_arrays_that_do_not_lie_in_one_piece_come_back(checkpoints: Checkpoints) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    groups: Groups = {"model": [array.T, array[:, ::2], array[::-1]]}
    checkpoints.write(groups, {})
    check_equal(read(checkpoints)[0], groups)


def test_the_newest_replaces_the_one_before(checkpoints: Checkpoints, directory: Path) -> None:
    for epoch in range(3):
        checkpoints.write(make_groups(epoch), {"epoch": epoch})
    groups, state = read(checkpoints)
    check_equal(groups, make_groups(2))
    assert state == {"epoch": 2}
    assert len(list(directory.iterdir())) == 1


def test_without_a_file_there_is_none(checkpoints: Checkpoints, directory: Path) -> None:
    assert checkpoints.read() is None
    assert not directory.exists()
    checkpoints.remove()


@pytest.mark.parametrize("identity", [(), ({"rate": 0.2}, "train/*"), ({"rate": 0.1}, "other/*"), ({"rate": 0.1},)])
def test_another_identity_finds_nothing(checkpoints: Checkpoints, directory: Path, identity: tuple[Any, ...]) -> None:
    other = Checkpoints(str(directory), *identity)
    checkpoints.write(make_groups(), STATE)
    assert other.read() is None
    other.remove()
    other.write(make_groups(5), {})
    check_equal(read(checkpoints)[0], make_groups())
    check_equal(read(other)[0], make_groups(5))


def test_an_equal_identity_in_another_object_finds_it(directory: Path) -> None:
    Checkpoints(str(directory), {"rate": 0.1, "epochs": 3}).write(make_groups(), STATE)
    check_equal(read(Checkpoints(str(directory), {"epochs": 3, "rate": 0.1}))[0], make_groups())


def test_a_write_that_fails_half_way_leaves_the_old_one_whole(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(tf.io.gfile.GFile):
        def write(self, file_content: bytes) -> None:
            super().write(file_content[: len(file_content) // 2])
            self.flush()
            raise OSError("no space left on device")

    checkpoints.write(make_groups(), STATE)
    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile, "GFile", FullDisk)
        with pytest.raises(OSError, match="no space left"):
            checkpoints.write(make_groups(1), {"new": True})
    groups, state = read(checkpoints)
    check_equal(groups, make_groups())
    assert state == STATE
    checkpoints.write(make_groups(2), {"new": True})
    check_equal(read(checkpoints)[0], make_groups(2))


def test_a_write_is_not_there_before_its_last_move(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile, "rename", refuse)
        with pytest.raises(OSError, match="killed"):
            checkpoints.write(make_groups(), STATE)
    assert checkpoints.read() is None


def check_damaged(checkpoints: Checkpoints, file: Path) -> None:
    """Checks that a file is refused in one sentence that names it and says what to do."""
    with pytest.raises(ValueError, match=r"^checkpoint .* is damaged \(.*\): delete it and run again$") as raised:
        checkpoints.read()
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("left", [0, 1, 7, 8, 9, 100, 0.5, 0.9, -8, -1])
def test_a_truncated_file_is_refused(checkpoints: Checkpoints, file: Path, left: float) -> None:
    content = file.read_bytes()
    end = int(len(content) * left) if isinstance(left, float) else left
    file.write_bytes(content[:end])
    check_damaged(checkpoints, file)


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 200,
        b"\xff" * 200,
        b"not a checkpoint at all, but longer than its head",
        save({"model/00000": np.ones(3)}),
    ],
    ids=["zeros", "ones", "text", "without_digest"],
)
def test_another_file_in_its_place_is_refused(checkpoints: Checkpoints, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    check_damaged(checkpoints, file)


def test_bytes_added_at_the_end_are_refused(checkpoints: Checkpoints, file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    check_damaged(checkpoints, file)


def test_any_wrong_byte_is_noticed(checkpoints: Checkpoints, file: Path) -> None:
    content = file.read_bytes()
    for position in range(len(content)):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        check_damaged(checkpoints, file)


def test_removed_is_gone_and_may_be_removed_twice(checkpoints: Checkpoints, directory: Path) -> None:
    checkpoints.write(make_groups(), STATE)
    checkpoints.remove()
    assert list(directory.iterdir()) == []
    assert checkpoints.read() is None
    checkpoints.remove()
