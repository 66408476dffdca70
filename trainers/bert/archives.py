"""Unpacks archives from elsewhere. Everything in them is hostile until checked; nothing half-written is left.

``tarfile``'s own filter is not relied on: older releases of Python 3.11 have none. Here files and directories
are made by name, and links, devices and permissions never are.
"""

import gzip
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from components.errors import BadInputError

MOST_BYTES = 4 << 30
MOST_MEMBERS = 10_000
TEMPORARY = ".tmp"
# Of one member, with its long names, pax headers and sparse maps; more than they need.
_MOST_HEADER_BYTES = 16 << 10
_MOST_NAME_BYTES = 1000
_MOST_PART_BYTES = 255
_BLOCK = 1 << 20

_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError, ValueError)
_SAME_PLACE = (FileExistsError, NotADirectoryError, IsADirectoryError)

Check = Callable[[Path], None]
"""Called with the unpacked directory before it stands at its place; what it raises keeps it from there."""


class _UnsafeError(Exception):
    pass


def extract_zip_members(archive: Path, wanted: Mapping[str, str], target: Path, check: Check = lambda _: None) -> None:
    """Unpacks some members of a zip archive, such as a wheel, into a directory of their own.

    Args:
        archive: The zip file.
        wanted: Member of the archive to file name below ``target``.
        target: Directory; replaced if it is there.
        check: Has the last word.

    Raises:
        BadInputError: Not a whole zip archive, a wanted member is missing, or a member is encrypted, there twice,
            a link, or leads out of the archive; or ``wanted`` unpacks to more than ``MOST_BYTES``, or the archive
            has more than ``MOST_MEMBERS``. Nothing is left at ``target``; what was there before stays.
        OSError: ``target`` cannot be written to.
    """
    with _unpacking(archive.name, target, check) as place, zipfile.ZipFile(archive) as zipped:
        found: dict[str, zipfile.ZipInfo] = {}
        _check_limits(members=len(zipped.infolist()))
        for member in zipped.infolist():
            _place_of(member.filename)
            if member.filename in found:
                raise _UnsafeError(f"it has {_named(member.filename)} twice")
            if member.header_offset < 0:
                raise zipfile.BadZipFile
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _UnsafeError(f"{_named(member.filename)} is a link")
            found[member.filename] = member
        for name in wanted:
            if name not in found:
                raise _UnsafeError(f"it has no {_named(name)}")
            if found[name].flag_bits & 1:
                raise _UnsafeError(f"{_named(name)} is encrypted")
            if found[name].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _UnsafeError(f"{_named(name)} is not compressed the usual way")
        # The library unpacks no more than a member's declared size.
        _check_limits(unpacked=sum(found[name].file_size for name in wanted))
        for name, file_name in wanted.items():
            with zipped.open(found[name]) as source, (place / file_name).open("xb") as out:
                shutil.copyfileobj(source, out, _BLOCK)


def extract_tar(archive: Path, target: Path, check: Check = lambda _: None, name: str | None = None) -> None:
    """Unpacks a tar archive, plain or gzipped, such as TF-Hub's.

    Args:
        archive: The tar file.
        target: Directory; replaced if it is there.
        check: Has the last word.
        name: What the errors call the archive, by default its file name.

    Raises:
        BadInputError: Not a whole tar archive, or a member is there twice, leads out of the archive, or is
            neither file nor directory; or there is more than ``MOST_BYTES`` in it, or more than ``MOST_MEMBERS``.
            Nothing is left at ``target``; what was there before stays.
        OSError: ``target`` cannot be written to.
    """
    with (
        _unpacking(name or archive.name, target, check) as place,
        _plain(archive) as stream,
        tarfile.open(fileobj=stream, mode="r:") as tar,  # type: ignore[call-overload]
    ):
        total = 0
        for count, member in enumerate(_members(tar, stream), start=1):
            total += member.size
            _check_limits(members=count, unpacked=total)
            path = place / _place_of(member.name)
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            if not member.isreg() or member.issparse():
                raise _UnsafeError(f"{_named(member.name)} is neither a plain file nor a directory")
            path.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, path.open("xb") as out:  # type: ignore[union-attr]
                shutil.copyfileobj(source, out, _BLOCK)
        padding = 0
        while block := stream.read(_BLOCK):  # to gzip's own checksum
            padding += len(block)
            _check_limits(unpacked=padding)


class _Stream:
    """A file that gives up only so much for headers: the library reads them whole into memory.

    Which of the library's methods see a header differs between its releases; what it reads is all that can be relied
    on.
    """

    def __init__(self, file: BinaryIO | gzip.GzipFile):
        self._file = file
        self.left: int | None = _MOST_HEADER_BYTES
        """Bytes that may still be read for the headers of one member; None while its content is copied."""

    def read(self, size: int = -1) -> bytes:
        if self.left is not None:
            if size < 0:
                raise tarfile.ReadError("negative size")
            self.left -= size
            if self.left < 0:
                raise _UnsafeError(f"a header in it has more than {_MOST_HEADER_BYTES:,} bytes")
        return self._file.read(size)

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


def _members(tar: tarfile.TarFile, stream: _Stream) -> Iterator[tarfile.TarInfo]:
    end = 0
    for member in tar:
        # A negative size leads some releases of the library backwards, for ever.
        if member.size < 0 or tar.offset <= end:
            raise tarfile.HeaderError
        end = tar.offset
        stream.left = None
        yield member
        stream.left = _MOST_HEADER_BYTES
    stream.left = None
    # The library takes a cut or a broken header for the end, and may have gone on behind it before it saw that.
    stream.seek(end)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise EOFError


@contextmanager
def _unpacking(name: str, target: Path, check: Check) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        TEMPORARY, f".{target.name}.", target.parent, ignore_cleanup_errors=True
    ) as directory:
        place = Path(directory, "new")
        place.mkdir()
        try:
            yield place
        except _UnsafeError as error:
            raise _refused(name, str(error)) from error
        except _SAME_PLACE as error:
            raise _refused(name, "two of its members have the same place") from error
        except _DAMAGED as error:
            raise _refused(name, f"it is damaged or no such archive ({type(error).__name__})") from error
        check(place)
        if target.exists():
            # A directory cannot be renamed onto another; so it is whole or away, never half gone.
            target.rename(place.with_name("old"))
        place.rename(target)


def _refused(name: str, why: str) -> BadInputError:
    return BadInputError(f"{name} was not unpacked: {why}; get it again, or from another source")


@contextmanager
def _plain(archive: Path) -> Iterator[_Stream]:
    with archive.open("rb") as raw:
        zipped = raw.peek(2)[:2] == b"\x1f\x8b"
        yield _Stream(gzip.GzipFile(fileobj=raw) if zipped else raw)


def _place_of(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    encoded = [len(os.fsencode(part)) for part in path.parts]
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise _UnsafeError(f"{_named(name)} leads out of it")
    if sum(encoded) > _MOST_NAME_BYTES or max(encoded, default=0) > _MOST_PART_BYTES:
        raise _UnsafeError(f"the name {_named(name)} is too long")
    return path


def _check_limits(members: int = 0, unpacked: int = 0) -> None:
    if members > MOST_MEMBERS:
        raise _UnsafeError(f"it has more than {MOST_MEMBERS:,} members")
    if unpacked > MOST_BYTES:
        raise _UnsafeError(f"it unpacks to more than {MOST_BYTES:,} bytes")


def _named(name: str) -> str:
    return ascii(name if len(name) < 100 else f"{name[:100]}...")
