"""Files that several processes share."""

import os
from pathlib import Path

import pytest

from components.errors import BadInputError
from components.files import locked, write_whole

pytestmark = pytest.mark.stack


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"

    def full(number: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"half")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_lock_is_refused_to_a_second_and_is_free_after_a_failure(tmp_path: Path) -> None:
    def hold(error: Exception | None = None) -> None:
        with locked(tmp_path / ".lock", lambda: "taken"):
            if error:
                raise error

    with locked(tmp_path / ".lock", lambda: "unused"), pytest.raises(BadInputError, match="taken"):
        hold()
    with pytest.raises(ZeroDivisionError):
        hold(ZeroDivisionError())
    hold()
