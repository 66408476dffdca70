"""Tests of finding, checking and digesting the input files."""

import gzip
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import BadInputError
from components.example_gen.reader import read_records
from components.example_gen.source import SAMPLE_DIR, find_source, open_lines

MakeData = Callable[..., Path]


def compress(path: Path, level: int = 9) -> Path:
    target = path.with_name(f"{path.name}.gz")
    target.write_bytes(gzip.compress(path.read_bytes(), level))
    path.unlink()
    return target


def assert_one_sentence(error: pytest.ExceptionInfo[BadInputError], *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_directory_with_both_files_is_a_source(make_data: MakeData) -> None:
    directory = make_data()
    source = find_source(directory)
    assert (source.train, source.test) == ("train.csv", "test.csv")
    assert source.directory == directory.resolve()
    assert source.directory.is_absolute()
    assert source.classes == ("World", "Sports", "Business", "Sci/Tech")
    assert len(source.digest) == 64


def test_the_bundled_sample_is_a_source() -> None:
    assert find_source(SAMPLE_DIR).classes == ("World", "Sports", "Business", "Sci/Tech")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as error:
        find_source(tmp_path / "nowhere")
    assert_one_sentence(error, str(tmp_path / "nowhere"), "--data")


def test_a_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no directory")
    with pytest.raises(BadInputError) as error:
        find_source(tmp_path / "data")
    assert_one_sentence(error, str(tmp_path / "data"), "--data")


@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_a_missing_file_is_named(make_data: MakeData, name: str) -> None:
    directory = make_data()
    (directory / name).unlink()
    with pytest.raises(BadInputError) as error:
        find_source(directory)
    assert_one_sentence(error, str(directory), name)


@pytest.mark.parametrize("name", ["train.csv", "test.csv", "test.csv.gz"])
def test_an_empty_file_is_named(make_data: MakeData, name: str) -> None:
    directory = make_data()
    (directory / name.removesuffix(".gz")).unlink()
    (directory / name).touch()
    with pytest.raises(BadInputError) as error:
        find_source(directory)
    assert_one_sentence(error, str(directory / name), "empty")


def test_a_gzipped_file_has_the_digest_of_the_plain_one(make_data: MakeData) -> None:
    plain, fast, small = make_data(name="plain"), make_data(name="fast"), make_data(name="small")
    for directory, level in ((fast, 1), (small, 9)):
        compress(directory / "train.csv", level)
    compress(small / "test.csv")
    sources = [find_source(directory) for directory in (plain, fast, small)]
    assert [(source.train, source.test) for source in sources] == [
        ("train.csv", "test.csv"),
        ("train.csv.gz", "test.csv"),
        ("train.csv.gz", "test.csv.gz"),
    ]
    assert len({source.digest for source in sources}) == 1


def test_the_digest_ignores_directory_and_times(make_data: MakeData, tmp_path: Path) -> None:
    directory = make_data()
    digest = find_source(directory).digest
    os.utime(directory / "train.csv", (1, 1))
    assert find_source(directory).digest == digest
    assert find_source(shutil.copytree(directory, tmp_path / "elsewhere")).digest == digest


@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_the_digest_changes_with_one_byte_of_the_same_size_and_time(make_data: MakeData, name: str) -> None:
    directory = make_data()
    digest = find_source(directory).digest
    path = directory / name
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"today", b"Today", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert find_source(directory).digest != digest


def test_the_digest_tells_train_from_test(make_data: MakeData) -> None:
    directory = make_data()
    digest = find_source(directory).digest
    (directory / "train.csv").rename(directory / "other.csv")
    (directory / "test.csv").rename(directory / "train.csv")
    (directory / "other.csv").rename(directory / "test.csv")
    assert find_source(directory).digest != digest


def test_classes_are_read_in_order_and_change_the_digest(make_data: MakeData) -> None:
    directory = make_data()
    digests = {find_source(directory).digest}
    for content, classes in (("Politics\n\n Money \nArts", ("Politics", "Money", "Arts")), ("b\r\na\r\n", ("b", "a"))):
        (directory / "classes.txt").write_bytes(content.encode())
        source = find_source(directory)
        assert source.classes == classes
        digests.add(source.digest)
    assert len(digests) == 3


def test_a_byte_order_mark_is_no_part_of_the_first_class(make_data: MakeData) -> None:
    directory = make_data()
    (directory / "classes.txt").write_text("Politics\nMoney\n", encoding="utf-8-sig")
    assert find_source(directory).classes == ("Politics", "Money")


@pytest.mark.parametrize(
    "content",
    [b"", b"World\n", b"\n\nWorld\n \n", b"World\nSports\nWorld\n", b"World\n World \n", b"Monde\nSant\xe9\n"],
    ids=["empty", "one", "one and blank lines", "duplicate", "duplicate but for space", "not UTF-8"],
)
def test_bad_classes_are_refused(make_data: MakeData, content: bytes) -> None:
    directory = make_data()
    (directory / "classes.txt").write_bytes(content)
    with pytest.raises(BadInputError) as error:
        find_source(directory)
    assert_one_sentence(error, str(directory / "classes.txt"))


def damage(name: str, path: Path) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "truncated": content[:middle],
            "truncated checksum": content[:-4],
            "wrong checksum": content[:-8] + b"\0\0\0\0" + content[-4:],
            "garbage inside": content[:middle] + bytes(64) + content[middle + 64 :],
            "plain text": gzip.decompress(content),
        }[name]
    )


KINDS = ["truncated", "truncated checksum", "wrong checksum", "garbage inside", "plain text"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_gzip_file_is_named_in_one_sentence(make_data: MakeData, kind: str) -> None:
    directory = make_data()
    path = compress(directory / "train.csv")
    damage(kind, path)
    with pytest.raises(BadInputError) as error:
        find_source(directory)
    assert_one_sentence(error, str(path), "gzip")


@pytest.mark.parametrize("kind", KINDS)
def test_a_gzip_file_damaged_later_is_named_while_it_is_read(make_data: MakeData, kind: str) -> None:
    path = compress(make_data() / "train.csv")
    damage(kind, path)
    with pytest.raises(BadInputError) as error, open_lines(str(path)) as lines:
        list(read_records(lines))
    assert_one_sentence(error, str(path), "gzip")


def test_plain_and_gzipped_lines_are_the_same(make_data: MakeData) -> None:
    path = make_data() / "train.csv"
    with open_lines(str(path)) as lines:
        plain = list(lines)
    with open_lines(str(compress(path))) as lines:
        assert list(lines) == plain
    assert len(plain) == 400


def test_lines_keep_their_ends_and_undecodable_bytes(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\xff\n\xef\xbb\xbfthree")
    with open_lines(str(path)) as lines:
        assert list(lines) == ["one\r\n", "two\udcff\n", "\ufeffthree"]


def test_a_line_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    """A gzip of kilobytes holds one of hundreds of megabytes."""
    path = tmp_path / "train.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'"1","a","b"\n')
        for _ in range(64):
            file.write(b"x" * (1 << 20))
    tracemalloc.start()
    too_long = pytest.raises(BadInputError, match=r"line 2 of .*train.csv.gz is longer than 4,194,304 characters")
    with too_long, open_lines(str(path)) as lines:
        list(lines)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 << 20
