"""Tests of unpacking: hostile and broken archives leave nothing behind, whole ones arrive whole."""

import gzip
import io
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import BadInputError
from trainers.bert import archives
from trainers.bert.archives import extract_tar, extract_zip_members

Member = tuple[tarfile.TarInfo, bytes]
GRAPH = b"graph" * 1000


def member(name: str, content: bytes = b"", **changes: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def tar_bytes(*members: Member, format: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=format) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def raw_header(name: bytes, kind: bytes, size: bytes) -> bytes:
    """A header whose size is what it should not be, with the right checksum."""
    fields = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + b"00000000000\0" + b" " * 8 + kind
    header = bytearray(fields.ljust(257, b"\0") + b"ustar  \0").ljust(512, b"\0")
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def sparse_header(extended: bool = False) -> bytes:
    """The header of a sparse file, whose map goes on in the blocks behind it if ``extended``."""
    sparse = bytearray(raw_header(b"x", tarfile.GNUTYPE_SPARSE, b"00000000000\0"))
    sparse[386:410] = b"00000000000\0" * 2
    sparse[482] = extended
    sparse[483:495] = b"00000001000\0"
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    return bytes(sparse)


def zip_bytes(
    members: list[tuple[str, bytes]],
    change: Callable[[zipfile.ZipInfo], None] = lambda _: None,
    compression: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as zipped:
        for name, content in members:
            zipped.writestr(name, content)
        for info in zipped.infolist():
            change(info)
    return out.getvalue()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory two levels down, so that a way out of it is seen."""
    directory = tmp_path / "outside" / "cache"
    directory.mkdir(parents=True)
    return directory


def everything(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


def assert_refused(call: Callable[[Path, Path], None], archive: Path, *words: str) -> None:
    """Nothing is left, neither where a model was before nor where none was."""
    root = archive.parents[1]
    before_model = archive.with_name("there")
    before_model.mkdir(exist_ok=True)
    (before_model / "saved_model.pb").write_bytes(b"before")
    before = everything(root)
    for target in (archive.with_name("model"), before_model):
        with pytest.raises(BadInputError) as error:
            call(archive, target)
        assert everything(root) == before
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400
        for word in (archive.name, *words):
            assert word in str(error.value)


@pytest.fixture
def refuses_tar(place: Path) -> Callable[..., None]:
    def check(content: bytes, *words: str) -> None:
        (place / "a.tar.gz").write_bytes(content)
        assert_refused(extract_tar, place / "a.tar.gz", *words)

    return check


@pytest.fixture
def refuses_zip(place: Path) -> Callable[..., None]:
    def check(content: bytes, *words: str) -> None:
        (place / "a.whl").write_bytes(content)
        assert_refused(lambda *paths: extract_zip_members(paths[0], {"m/b": "b"}, paths[1]), place / "a.whl", *words)

    return check


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_arrives_whole_and_without_its_permissions(
    place: Path, pack: Callable[[bytes], bytes], format: int
) -> None:
    long = "/".join(["variables"] * 12)  # more than a plain header's field holds
    files = {"saved_model.pb": GRAPH, f"{long}/data": b"x" * 512, "assets/vocab.txt": b""}
    members = [member("./", type=tarfile.DIRTYPE), member("./assets/", type=tarfile.DIRTYPE, mode=0)]
    members += [member(f"./{name}", content, mode=0o4777, uid=7) for name, content in files.items()]
    members.append(member("./assets/", type=tarfile.DIRTYPE))
    (place / "a.tar.gz").write_bytes(pack(tar_bytes(*members, format=format)))
    extract_tar(place / "a.tar.gz", place / "below" / "model")
    found = {name: content for name, content in everything(place / "below" / "model").items() if content is not None}
    assert found == files
    assert [path.name for path in (place / "below").iterdir()] == ["model"]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (place / "below").rglob("*")}
    assert modes["saved_model.pb"] & 0o7111 == 0
    assert modes["assets"] & 0o700 == 0o700


@pytest.mark.parametrize(
    ("hostile", "words"),
    [
        (member("../evil", b"x"), ["'../evil' leads out"]),
        (member("a/../../evil", b"x"), ["leads out"]),
        (member("/abs", b"x"), ["'/abs' leads out"]),
        (member("//abs", b"x"), ["leads out"]),
        (member("..\\evil", b"x"), ["leads out"]),
        (member("..", type=tarfile.DIRTYPE), ["leads out"]),
        (member("way", type=tarfile.SYMTYPE, linkname="../.."), ["'way' is neither"]),
        (member("way", type=tarfile.SYMTYPE, linkname="ok"), ["'way' is neither"]),
        (member("way", type=tarfile.LNKTYPE, linkname="../../outside"), ["'way' is neither"]),
        (member("way", type=tarfile.LNKTYPE, linkname="ok"), ["'way' is neither"]),
        (member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3), ["'null' is neither"]),
        (member("disk", type=tarfile.BLKTYPE), ["neither"]),
        (member("pipe", type=tarfile.FIFOTYPE), ["neither"]),
        (member("odd", b"x", type=b"Z"), ["neither"]),
        (member("ok", b"again"), ["same place"]),
        (member("./ok", b"again"), ["same place"]),
        (member("ok/below", b"x"), ["same place"]),
        (member("ok", type=tarfile.DIRTYPE), ["same place"]),
        (member("a" * 256, b"x"), ["too long"]),
        (member("/".join(["a" * 200] * 6), b"x"), ["too long"]),
        (member("line\n\x1b[0m\udcff/../..", b"x"), ["'line\\n\\x1b[0m\\udcff/../..' leads out"]),
    ],
    ids=lambda value: repr(value[0].name)[:20] + str(value[0].type) if isinstance(value, tuple) else "",
)
def test_a_hostile_member_keeps_the_whole_tar_out(
    refuses_tar: Callable[..., None], hostile: Member, words: list[str]
) -> None:
    content = tar_bytes(member("ok", b"ok"), hostile, member("saved_model.pb", GRAPH))
    refuses_tar(gzip.compress(content), *words)


WHOLE = tar_bytes(member("a", b"a" * 512), member("b", b"b" * 512))
END = 2048


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>sign in</html>",
        b"\x1f\x8b",
        gzip.compress(b"not a tar"),
        gzip.compress(WHOLE)[:-20],
        gzip.compress(WHOLE)[:-8] + b"\0" * 8,
        gzip.compress(WHOLE)[:10] + b"\xff" * 50,
        gzip.compress(WHOLE) + b"trailing",
        WHOLE[:700],
        WHOLE[: END // 2],
        WHOLE[: END // 2 + 100],
        WHOLE[: END - 100],
        WHOLE[:END],
        WHOLE[: END // 2] + b"x" * 512 + WHOLE[END // 2 :],
    ],
    ids=[
        "empty",
        "a page",
        "only the magic",
        "no tar in it",
        "cut gzip",
        "wrong gzip checksum",
        "broken gzip",
        "more behind gzip",
        "cut in the first file",
        "cut between files",
        "cut in a header",
        "cut in the last file",
        "no end mark",
        "broken header",
    ],
)
def test_a_damaged_tar_is_refused(refuses_tar: Callable[..., None], content: bytes) -> None:
    refuses_tar(content, "damaged")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_that_would_fill_the_memory_is_not_read(refuses_tar: Callable[..., None], kind: bytes) -> None:
    oversize = raw_header(b"x", kind, b"00000040001\0") + bytes(20_000)  # 16,385 bytes
    for before in (b"", tar_bytes(member("a", b"a"))[:1024]):
        refuses_tar(before + oversize, "a header in it has more than 16,384 bytes")


def test_sparse_maps_that_would_fill_the_memory_are_not_read(refuses_tar: Callable[..., None]) -> None:
    more = (b"00000000001\0" * 42).ljust(504, b"\0") + b"\1" + bytes(7)
    refuses_tar(sparse_header(extended=True) + more * 100 + bytes(1024), "a header in it has more than 16,384 bytes")
    newer = member("b", b"9999999\n" + b"1\n" * 50_000, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})
    refuses_tar(tar_bytes(newer, format=tarfile.PAX_FORMAT), "a header in it has more than 16,384 bytes")


def test_an_ordinary_header_may_be_long(place: Path) -> None:
    comments = {f"comment.{number}": "x" * 1000 for number in range(14)}
    members = [member(f"{number}", b"x" * 40_000, pax_headers=comments) for number in range(3)]
    (place / "a.tar").write_bytes(tar_bytes(*members, format=tarfile.PAX_FORMAT))
    extract_tar(place / "a.tar", place / "model")
    assert everything(place / "model") == dict.fromkeys("012", b"x" * 40_000)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [-1024, -100])
def test_a_negative_size_does_not_lead_backwards(
    refuses_tar: Callable[..., None], monkeypatch: pytest.MonkeyPatch, kind: bytes, size: int
) -> None:
    read = gzip.GzipFile.read

    def limited(file: gzip.GzipFile, size: int = -1) -> bytes:
        assert size >= 0, "all that is left was read into memory"
        return read(file, size)

    monkeypatch.setattr(gzip.GzipFile, "read", limited)
    backwards = raw_header(b"x", kind, size.to_bytes(12, "big", signed=True))
    refuses_tar(gzip.compress(tar_bytes(member("a", b"a"))[:1024] + backwards + bytes(1024)), "damaged")


@pytest.mark.timeout(30)
def test_a_negative_size_in_a_pax_header_is_refused(refuses_tar: Callable[..., None]) -> None:
    backwards = member("b", pax_headers={"size": "-1024"})
    for before in ([], [member("a", b"a")]):
        # Some releases of the library take it for the end.
        refuses_tar(tar_bytes(*before, backwards, format=tarfile.PAX_FORMAT), "damaged")


@pytest.mark.timeout(30)
def test_a_negative_size_behind_another_does_not_lead_backwards(refuses_tar: Callable[..., None]) -> None:
    shown = tar_bytes(member("b", pax_headers={"GNU.sparse.realsize": "1"}), format=tarfile.PAX_FORMAT)[:1024]
    backwards = shown + raw_header(b"b", tarfile.REGTYPE, b"\xff" * 10 + b"\xf4\0")  # -3072
    for before in (b"", tar_bytes(member("a", b"a"))[:1024]):
        refuses_tar(before + backwards + bytes(1024), "damaged")


@pytest.mark.timeout(30)
def test_headers_upon_headers_are_refused(refuses_tar: Callable[..., None]) -> None:
    refuses_tar(raw_header(b"x", tarfile.XHDTYPE, b"00000000000\0") * 5000 + bytes(1024), "more than 16,384 bytes")


def test_a_sparse_file_is_refused(refuses_tar: Callable[..., None]) -> None:
    refuses_tar(sparse_header() + bytes(1024), "'x' is neither")


def test_a_tar_that_unpacks_to_too_much_is_refused(
    refuses_tar: Callable[..., None], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 12_000)
    content = tar_bytes(member("a", bytes(6000)), member("b", bytes(6000)))
    (place / "just.tar").write_bytes(content)
    extract_tar(place / "just.tar", place / "just")
    refuses_tar(gzip.compress(tar_bytes(member("a", bytes(6000)), member("b", bytes(6001)))), "12,000 bytes")


def test_a_bomb_behind_the_end_is_refused(refuses_tar: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 100_000)
    refuses_tar(gzip.compress(WHOLE + bytes(200_000)), "100,000 bytes")


def test_a_declared_size_is_refused_before_anything_is_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives.shutil, "copyfileobj", lambda *_: pytest.fail("written"))
    (place / "a.tar").write_bytes(raw_header(b"x", tarfile.REGTYPE, b"77777777777\0") + bytes(1024))
    with pytest.raises(BadInputError, match="more than 4,294,967,296 bytes"):
        extract_tar(place / "a.tar", place / "model")


def test_too_many_members_are_refused(
    refuses_tar: Callable[..., None], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_MEMBERS", 3)
    members = [member(str(number), type=tarfile.DIRTYPE) for number in range(4)]
    (place / "just.tar").write_bytes(tar_bytes(*members[:3]))
    extract_tar(place / "just.tar", place / "just")
    refuses_tar(tar_bytes(*members), "more than 3 members")


@pytest.mark.parametrize("there", [False, True], ids=["new", "replaced"])
def test_the_check_sees_all_before_it_is_at_its_place(place: Path, there: bool) -> None:
    (place / "a.tar").write_bytes(tar_bytes(member("saved_model.pb", GRAPH), member("assets/v", b"v")))
    target = place / "model"
    if there:
        target.mkdir()
        (target / "old").touch()
    before = everything(place)

    def refuse(directory: Path) -> None:
        assert everything(directory) == {"saved_model.pb": GRAPH, "assets": None, "assets/v": b"v"}
        assert target.exists() == there
        raise BadInputError("no")

    with pytest.raises(BadInputError, match=r"^no$"):
        extract_tar(place / "a.tar", target, refuse)
    assert everything(place) == before
    extract_tar(place / "a.tar", target)
    assert sorted(everything(place)) == [
        "a.tar",
        *(f"model{name}" for name in ("", "/assets", "/assets/v", "/saved_model.pb")),
    ]


def test_the_errors_call_the_archive_by_its_name(place: Path) -> None:
    (place / "a.tar").touch()
    with pytest.raises(BadInputError, match=re.escape("https://host/model/1 was not unpacked: ")):
        extract_tar(place / "a.tar", place / "model", name="https://host/model/1")


def test_a_full_disk_is_not_called_a_damaged_archive(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    (place / "a.tar").write_bytes(WHOLE)
    with pytest.raises(OSError, match="No space left"):
        extract_tar(place / "a.tar", place / "model")
    assert sorted(everything(place)) == ["a.tar"]


GOOD = [("m/a", b"a"), ("m/b", b"b" * 2000), ("n/c", b"c"), ("n/", b"")]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_wanted_members_of_a_zip_arrive_under_their_new_names(place: Path, compression: int) -> None:
    (place / "a.whl").write_bytes(zip_bytes(GOOD, compression=compression))
    extract_zip_members(place / "a.whl", {"m/b": "b.txt", "n/c": "c"}, place / "model")
    assert everything(place / "model") == {"b.txt": b"b" * 2000, "c": b"c"}
    assert sorted(path.name for path in place.iterdir()) == ["a.whl", "model"]


def test_the_check_of_a_zip_has_the_last_word(place: Path) -> None:
    (place / "a.whl").write_bytes(zip_bytes(GOOD))

    def refuse(directory: Path) -> None:
        assert everything(directory) == {"b": b"b" * 2000}
        raise BadInputError("no")

    with pytest.raises(BadInputError, match=r"^no$"):
        extract_zip_members(place / "a.whl", {"m/b": "b"}, place / "model", refuse)
    assert sorted(everything(place)) == ["a.whl"]


def link(info: zipfile.ZipInfo) -> None:
    if info.filename == "m/a":
        info.external_attr = (stat.S_IFLNK | 0o777) << 16


def encrypt(info: zipfile.ZipInfo) -> None:
    info.flag_bits |= 1


def understate(info: zipfile.ZipInfo) -> None:
    info.file_size = 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zip_bytes([*GOOD, ("../evil", b"x")]), ["'../evil' leads out"]),
        (zip_bytes([*GOOD, ("m/../../evil", b"x")]), ["leads out"]),
        (zip_bytes([*GOOD, ("/abs", b"x")]), ["'/abs' leads out"]),
        (zip_bytes([*GOOD, ("..\\evil", b"x")]), ["leads out"]),
        (zip_bytes(GOOD, link), ["'m/a' is a link"]),
        (zip_bytes(GOOD, encrypt), ["'m/b' is encrypted"]),
        (zip_bytes(GOOD, understate), ["damaged"]),
        (zip_bytes(GOOD, compression=zipfile.ZIP_BZIP2), ["'m/b' is not compressed the usual way"]),
        (zip_bytes([("m/a", b"a")]), ["has no 'm/b'"]),
        (zip_bytes([]), ["has no 'm/b'"]),
        (zip_bytes(GOOD)[:-30], ["damaged"]),
        (zip_bytes(GOOD)[100:], ["damaged"]),
        (zip_bytes(GOOD, compression=zipfile.ZIP_STORED).replace(b"bbbb", b"bbxb"), ["damaged"]),
        (b"", ["damaged"]),
        (b"<html>sign in</html>", ["damaged"]),
        (gzip.compress(b"x"), ["damaged"]),
    ],
    ids=[
        "dots",
        "dots inside",
        "absolute",
        "backslash",
        "link",
        "encrypted",
        "understated size",
        "bzip2",
        "missing",
        "nothing in it",
        "cut",
        "cut in front",
        "changed byte",
        "empty",
        "a page",
        "another kind",
    ],
)
def test_a_hostile_or_damaged_zip_is_refused(
    refuses_zip: Callable[..., None], content: bytes, words: list[str]
) -> None:
    refuses_zip(content, *words)


def test_a_member_twice_is_refused(refuses_zip: Callable[..., None]) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = zip_bytes([*GOOD, ("m/b", b"other")])
    refuses_zip(content, "'m/b' twice")


def test_a_zip_that_unpacks_to_too_much_is_refused(
    refuses_zip: Callable[..., None], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 2000)
    (place / "just.whl").write_bytes(zip_bytes([*GOOD, ("large", bytes(5000))]))
    extract_zip_members(place / "just.whl", {"m/b": "b"}, place / "just")
    refuses_zip(zip_bytes([("m/b", bytes(2001))]), "more than 2,000 bytes")


def test_a_zip_with_too_many_members_is_refused(
    refuses_zip: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_MEMBERS", 3)
    refuses_zip(zip_bytes(GOOD), "more than 3 members")
