"""Whatever is no plain SavedModel directory is refused before anything of it is read or run."""

import errno
import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import BadInputError
from components.push import model_files
from components.push.model_files import check_model_files

PLAIN = {
    "saved_model.pb": b"graph",
    "fingerprint.pb": b"finger",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"data",
    "assets/vocab.txt": "[PAD]\nnaïve\n".encode(),
    "assets/vocabulary": b"word\n",
    "assets/vocab.txt_1": b"word\n",
    "assets/pieces.model": b"\n\x0e\n\x05<unk>",
    "assets.extra/classes.txt": b"World\nSports\n",
    "MANIFEST.json": b"{}",
    "MODEL_CARD.md": b"---\n",
}
# A program that leaves a canary, as a pickle: ``os.system("touch canary")``.
HOSTILE_PICKLE = b"\x80\x04cposix\nsystem\n(S'touch canary'\ntR."


def write(directory: Path, files: dict[str, bytes]) -> Path:
    for place, content in files.items():
        path = directory / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "model", PLAIN)


def refused(directory: Path, *words: str) -> None:
    before = sorted(directory.parent.rglob("*"))
    with pytest.raises(BadInputError) as error:
        check_model_files(directory)
    assert str(error.value).startswith(f"{directory} ")
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)
    assert sorted(directory.parent.rglob("*")) == before


def test_a_plain_saved_model_is_let_in(model: Path) -> None:
    check_model_files(model)


def test_a_graph_without_variables_is_let_in(tmp_path: Path) -> None:
    check_model_files(write(tmp_path / "model", {"saved_model.pb": b"graph"}))


@pytest.mark.parametrize(
    "place",
    [
        "keras_metadata.pb",
        "model.keras",
        "model.pkl",
        "weights.h5",
        "data.npy",
        "saved_model.pbtxt",
        "Saved_model.pb",
        ".hidden",
        "variables/checkpoint",
        "variables/variables.data-00000-of-00001.py",
        "variables/more/variables.index",
        "assets/code.py",
        "assets/module.so",
        "assets/layer.keras",
        "assets/arrays.npz",
        "assets/.profile",
        "assets/deep/.hidden/vocab.txt",
        "assets/a\nb",
        "assets/vocab.txt.pkl",
        "assets.extra/hook.py",
        "assets.extra/deep/classes.txt",
        "debug/saved_model_debug_info.pb",
        "elsewhere/vocab.txt",
        "classes.txt",
    ],
)
def test_a_file_with_another_name_is_refused(model: Path, place: str) -> None:
    refused(write(model, {place: b"x"}), ascii(place), "no place in a SavedModel")


def test_an_asset_may_stand_deeper(model: Path) -> None:
    check_model_files(write(model, {"assets/english/v1.2/vocab.txt": b"word\n"}))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (HOSTILE_PICKLE, "a pickle"),
        (b"\x80\x02}q\x00.", "a pickle"),
        (b"\x80\x05N.", "a pickle"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x1f\x8b\x08rest", "a gzip archive"),
        (b"BZh91AY&SYrest", "a bzip2 archive"),
        (b"\xfd7zXZ\x00rest", "an xz archive"),
        (b"\x7fELF\x02", "a program"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY\x01\x00", "a numpy array"),
    ],
)
def test_an_asset_that_is_code_or_an_archive_under_a_good_name_is_refused(
    model: Path, content: bytes, what: str
) -> None:
    refused(write(model, {"assets/vocab.txt": content}), f"assets/vocab.txt is {what}")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar_archive_under_a_good_name_is_refused(model: Path, form: int) -> None:
    with tarfile.open(model / "assets" / "vocabulary", "w", format=form) as tar:
        tar.addfile(tarfile.TarInfo("canary"), io.BytesIO())
    refused(model, "assets/vocabulary is a tar archive")


@pytest.mark.parametrize("place", ["saved_model.pb", "variables/variables.index", "assets/vocab.txt", "assets/new.txt"])
def test_a_link_is_refused_wherever_it_leads(model: Path, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("secret")
    (model / place).unlink(missing_ok=True)
    (model / place).symlink_to(outside)
    refused(model, ascii(place), "is a link")
    (model / place).unlink()
    (model / place).symlink_to("nowhere")
    refused(model, ascii(place), "is a link")
    (model / place).unlink()
    os.link(outside, model / place)
    refused(model, ascii(place), "hard link")


def test_a_linked_directory_is_refused(model: Path, tmp_path: Path) -> None:
    (model / "assets").rename(tmp_path / "assets")
    (model / "assets").symlink_to(tmp_path / "assets", target_is_directory=True)
    refused(model, "'assets' in it is a link")
    link = tmp_path / "link"
    link.symlink_to(model, target_is_directory=True)
    refused(link, "is a link, not a directory")


def test_a_pipe_is_refused_without_being_opened(model: Path) -> None:
    (model / "assets" / "vocab.txt").unlink()
    os.mkfifo(model / "assets" / "vocab.txt")
    refused(model, "'assets/vocab.txt' in it is neither a file nor a directory")


def keras_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", '{"class_name": "Lambda", "config": {"function": "touch canary"}}')


def zip_that_climbs(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../canary", "x")
        archive.writestr("saved_model.pb", "x")


def tar_with_a_link(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("saved_model.pb")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)


def bomb(path: Path) -> None:
    """A gigabyte of zeros in a megabyte."""
    path.write_bytes(gzip.compress(bytes(1 << 20)) * 1024)


def pickled(path: Path) -> None:
    path.write_bytes(HOSTILE_PICKLE)


@pytest.mark.parametrize("make", [keras_archive, zip_that_climbs, tar_with_a_link, bomb, pickled])
def test_an_archive_offered_as_a_model_is_refused_and_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "deep" / "model.keras"
    path.parent.mkdir()
    make(path)
    refused(path, "is a file, not a directory", "archives and other formats are not opened")
    # The same inside a directory that looks like a model otherwise.
    path.rename(write(tmp_path / "model", PLAIN) / "model.keras")
    refused(tmp_path / "model", "'model.keras' has no place")
    assert not list(tmp_path.rglob("canary"))


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "model", "is not there")


@pytest.mark.parametrize(
    "gone", [["saved_model.pb"], ["variables/variables.index"], ["variables/variables.data-00000-of-00001"]]
)
def test_a_model_that_lacks_a_part_is_refused(model: Path, gone: list[str]) -> None:
    for place in gone:
        (model / place).unlink()
    refused(model, "no saved_model.pb" if gone == ["saved_model.pb"] else "variables are not whole")


@pytest.mark.parametrize(
    ("shards", "whole"),
    [
        (["00000-of-00002", "00001-of-00002"], True),
        (["00001-of-00002"], False),
        (["00000-of-00001", "00000-of-00002", "00001-of-00002"], False),
        (["00000-of-99999"], False),
        (["00000-of-00002", "00002-of-00002"], False),
    ],
)
def test_shards_of_variables_are_all_there(model: Path, shards: list[str], whole: bool) -> None:
    (model / "variables/variables.data-00000-of-00001").unlink()
    write(model, {f"variables/variables.data-{shard}": b"x" for shard in shards})
    if whole:
        check_model_files(model)
    else:
        refused(model, "variables are not whole")


def test_a_file_that_is_too_large_is_refused_by_its_size_alone(model: Path) -> None:
    path = model / "saved_model.pb"
    os.truncate(path, model_files.MOST_GRAPH_BYTES)  # a hole, which takes no room on disk
    check_model_files(model)
    os.truncate(path, model_files.MOST_GRAPH_BYTES + 1)
    refused(model, f"saved_model.pb has {model_files.MOST_GRAPH_BYTES + 1:,} bytes")


def test_files_that_are_too_large_together_are_refused(model: Path) -> None:
    os.truncate(model / "variables/variables.data-00000-of-00001", model_files.MOST_BYTES)
    refused(model, "its files have", f"more than {model_files.MOST_BYTES:,}")


def test_too_many_files_and_too_deep_directories_are_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = len(list(model.rglob("*")))
    monkeypatch.setattr(model_files, "MOST_FILES", entries)
    check_model_files(model)
    monkeypatch.setattr(model_files, "MOST_FILES", entries - 1)
    refused(model, f"more than {entries - 1} files")
    monkeypatch.undo()
    write(model, {f"assets/{'a/' * (model_files.MOST_DEPTH - 2)}vocab.txt": b"word"})
    check_model_files(model)
    write(model, {f"assets/{'a/' * (model_files.MOST_DEPTH - 1)}vocab.txt": b"word"})
    refused(model, f"directories {model_files.MOST_DEPTH} deep")


def test_what_cannot_be_read_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(BadInputError, match=r"cannot be read \(Permission denied\)"):
        check_model_files(model)
