"""Tests of one download: what is sent, what is kept, and what is never shown."""

import contextlib
import hashlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from web_server import served

from components.addresses import shown
from components.download import disk_errors, download, is_whole, sha256_of
from components.errors import BadInputError

CONTENT = bytes(range(256)) * 3000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2
SECRETS = ("someone", "s3cr", "t/w")
BASIC = "Basic c29tZW9uZTpzM2NyQHQvdw=="  # someone:s3cr@t/w


@dataclass
class Asked:
    path: str
    authorization: str | None
    range: str | None


@dataclass
class Server:
    """Answers every path that is not in ``redirects`` with ``content``."""

    port: int = 0
    content: bytes = CONTENT
    status: int = 200
    ranges: bool = True
    length: bool = True
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def url(self, path: str = "/file", login: str = "", host: str = "127.0.0.1") -> str:
        return f"http://{login}{host}:{self.port}{path}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        headers = handler.headers
        self.asked.append(Asked(handler.path, headers["Authorization"], headers["Range"]))
        if handler.path in self.redirects:
            handler.send_response(302)
            handler.send_header("Location", self.redirects[handler.path])
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = int(headers["Range"][6:-1]) if headers["Range"] and self.ranges else 0
        handler.send_response(206 if start else self.status)
        if self.length:
            handler.send_header("Content-Length", str(len(self.content) - start))
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # the client has had enough
            handler.wfile.write(self.content[start:])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()
    with served(state.answer, monkeypatch) as state.port:
        yield state


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed_again:
        return closed_again.getsockname()[1]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "file"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def chain(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield f"{error} {error!r} {error.args}"
        error = error.__cause__ or error.__context__


def assert_one_sentence_without_secrets(error: BadInputError, *words: str) -> None:
    assert "\n" not in str(error)
    for word in words:
        assert word in str(error)
    for text in chain(error):
        assert [secret for secret in SECRETS if secret in text] == []


def test_a_file_is_brought_whole_with_its_checksum(server: Server, target: Path) -> None:
    assert download(server.url(), target, SHA256) == SHA256
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["file"]


def test_without_a_checksum_the_file_is_taken_and_its_checksum_returned(server: Server, target: Path) -> None:
    assert download(server.url(), target, None) == SHA256
    assert is_whole(target, SHA256)


def test_a_part_is_resumed_with_a_checksum_and_dropped_without(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part = target.with_name("file.part")
    part.write_bytes(CONTENT[:HALF])
    download(server.url(), target, SHA256)
    part.write_bytes(b"of another file")
    assert download(server.url(), target, None) == SHA256
    assert [asked.range for asked in server.asked] == [f"bytes={HALF}-", None]


def test_a_wrong_checksum_keeps_nothing_and_leaves_the_file_before_it(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"before")
    with pytest.raises(BadInputError) as error:
        download(server.url(), target, "0" * 64, advice_on_mismatch="ask the publisher")
    assert str(error.value) == (
        f"{server.url()} has SHA-256 {SHA256}, not {'0' * 64}: nothing was kept; ask the publisher"
    )
    assert names(target.parent) == ["file"]
    assert target.read_bytes() == b"before"


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_file_that_is_too_large_is_not_kept(server: Server, target: Path, sha256: str | None) -> None:
    with pytest.raises(BadInputError, match=f"more than {len(CONTENT) - 1:,} bytes"):
        download(server.url(), target, sha256, most_bytes=len(CONTENT) - 1)
    assert names(target.parent) == []
    download(server.url(), target, sha256, most_bytes=len(CONTENT))


def test_a_too_large_file_is_not_read_to_its_end(server: Server, target: Path) -> None:
    seen: list[int] = []
    server.content = CONTENT * 4
    with pytest.raises(BadInputError):
        download(server.url(), target, None, most_bytes=10, progress=lambda done, _: seen.append(done))
    assert seen == []


def test_progress_counts_what_was_there_before(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("file.part").write_bytes(CONTENT[:HALF])
    seen: list[tuple[int, int | None]] = []
    download(server.url(), target, SHA256, progress=lambda *now: seen.append(now))
    assert {total for _, total in seen} == {len(CONTENT)}
    assert HALF < seen[0][0] <= seen[-1][0] == len(CONTENT)


def test_progress_begins_anew_with_a_server_that_cannot_resume(server: Server, target: Path) -> None:
    server.ranges = False
    target.parent.mkdir()
    target.with_name("file.part").write_bytes(CONTENT[:HALF])
    seen: list[tuple[int, int | None]] = []
    download(server.url(), target, SHA256, most_bytes=len(CONTENT), progress=lambda *now: seen.append(now))
    assert server.asked[0].range == f"bytes={HALF}-"
    assert seen[0][0] < HALF
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_progress_does_without_a_length(server: Server, target: Path) -> None:
    server.length = False
    seen: list[tuple[int, int | None]] = []
    download(server.url(), target, SHA256, progress=lambda *now: seen.append(now))
    assert seen[-1] == (len(CONTENT), None)


@pytest.mark.parametrize(
    ("path", "sent"),
    [("/m/1", "/m/1?format=a+b"), ("/m?version=1", "/m?version=1&format=a+b"), ("/m#part", "/m?format=a+b")],
)
def test_a_query_is_added_to_that_of_the_url(server: Server, target: Path, path: str, sent: str) -> None:
    download(server.url(path), target, None, query={"format": "a b"})
    assert server.asked[0].path == sent


def test_credentials_are_sent_to_their_host_only(server: Server, target: Path) -> None:
    login = "someone:s3cr%40t%2Fw@"
    server.redirects = {"/here": server.url("/file"), "/there": server.url("/file", host="localhost")}
    download(server.url("/here", login), target, SHA256)
    download(server.url("/there", login), target, SHA256)
    assert [asked.authorization for asked in server.asked] == [BASIC, BASIC, BASIC, None]


def test_a_login_may_stand_in_the_file_that_netrc_names(
    server: Server, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password s3cr@t/w")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    download(server.url(), target, SHA256)
    assert [asked.authorization for asked in server.asked] == [BASIC]


def test_credentials_are_never_shown(server: Server, target: Path, closed_port: int) -> None:
    login = "someone:s3cr%40t%2Fw@"
    there = f"http://***@127.0.0.1:{server.port}/file"
    with pytest.raises(BadInputError) as error:
        download(server.url(login=login), target, "0" * 64)
    assert_one_sentence_without_secrets(error.value, f"{there} has SHA-256")
    with pytest.raises(BadInputError) as error:
        download(server.url(login=login), target, None, most_bytes=1)
    assert_one_sentence_without_secrets(error.value, f"{there} has more than")
    server.status = 403
    with pytest.raises(BadInputError) as error:
        download(server.url(login=login), target, None)
    assert_one_sentence_without_secrets(error.value, f"{there} cannot be fetched (HTTP status 403): ")
    with pytest.raises(BadInputError) as error:
        download(f"http://{login}127.0.0.1:{closed_port}/file", target, None)
    assert_one_sentence_without_secrets(error.value, f"http://***@127.0.0.1:{closed_port}/file")


@pytest.mark.timeout(60)
def test_a_server_that_says_nothing_is_not_waited_for(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.download._TIMEOUT", (10, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server.port = silent.getsockname()[1]
        with pytest.raises(BadInputError, match=r"cannot be fetched \(ReadTimeout\)"):
            download(server.url(), target, SHA256)
    assert names(target.parent) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://someone:s3cr@t/w@127.0.0.1/file",
        "http://someone:s3cr@[::1/file",
        "http://someone:s3cr@/file",
        "http://someone:s3cr@host:port/file",
        "ftp://someone:s3cr@host/file",
        f"http://someone:s3cr@{'a' * 70}.invalid/file",
        "http://\n/file",
        "",
    ],
)
def test_an_address_that_is_none_is_one_sentence(target: Path, url: str) -> None:
    with pytest.raises(BadInputError) as error:
        download(url, target, None, advice="do something")
    assert "\n" not in str(error.value)
    assert not any(secret in str(error.value) for secret in SECRETS)
    assert re.search(r" cannot be fetched \(\w+\): do something$", str(error.value))


def test_certificates_that_are_not_there_are_one_sentence(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with pytest.raises(BadInputError, match=r"cannot be fetched \(OSError\)"), disk_errors(tmp_path):
        download("https://127.0.0.1:1/", target, None)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://host/a/b", "https://host/a/b"),
        ("https://user:word@host:8080/a", "https://***@host:8080/a"),
        ("https://token@host/a", "https://***@host/a"),
        ("https://user:w/o@r?d@host/a", "https://***@host/a"),
        ("https://host/a?token=abc#sha256=def", "https://host/a?***"),
        ("https://host/a#sha256=def?", "https://host/a"),
        ("https://host/a\nb\x1b[0m", "https://host/a?b?[0m"),
        ("minilm-l6", "minilm-l6"),
    ],
)
def test_a_url_is_shown_without_its_secrets_on_one_line(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_an_error_of_the_disk_names_directory_and_option(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with (
        pytest.raises(BadInputError, match=r"taken cannot be used \(File exists\).*--cache"),
        disk_errors(tmp_path / "taken"),
    ):
        (tmp_path / "taken").mkdir()
    assert sha256_of(tmp_path / "taken") == hashlib.sha256(b"").hexdigest()
    assert not is_whole(tmp_path / "missing", SHA256)
