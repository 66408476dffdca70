"""Tests of the download against a server on this machine."""

import gzip
import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.errors import BadInputError
from components.example_gen.fetch import FILES, fetch

CONTENT = b"".join(b'"1","Title %d","Text of a row."\n' % number for number in range(30_000))
HALF = len(CONTENT) // 2


@dataclass
class Server:
    """What the server offers, how it behaves and what it was asked for."""

    url: str = ""
    offered: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    compresses: bool = False
    stops_after: int | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name, asked_range = handler.path.rsplit("/", 1)[-1], handler.headers["Range"]
        self.asked.append((name, asked_range))
        body = self.offered.get(name)
        if body is None:
            handler.send_error(404)
            return
        encoded = self.compresses and "gzip" in handler.headers.get("Accept-Encoding", "")
        if encoded:
            body = gzip.compress(body)
        start = 0
        if asked_range and self.ranges:
            match = re.fullmatch(r"bytes=(\d+)-", asked_range)
            assert match
            start = int(match[1])
            if start >= len(body):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(body)}")
                handler.send_header("Content-Length", "9")
                handler.end_headers()
                handler.wfile.write(b"no range\n")
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        if encoded:
            handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        handler.wfile.write(body[start : self.stops_after])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that offers ``train.csv`` and ``test.csv``."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    state = Server(offered={"train.csv": CONTENT, "test.csv": b'"2","A","B"\n'})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}/ag_news_csv"
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def get(server: Server, tmp_path: Path) -> Callable[..., list[str]]:
    """Fetches ``train.csv`` into ``cache`` and returns what was said."""

    def run(*names: str, url: str | None = None, directory: Path = tmp_path / "cache") -> list[str]:
        said: list[str] = []
        files = remote(server, *names or ("train.csv",))
        fetch(directory, url or server.url, files, said.append)
        return said

    return run


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


def remote(server: Server, *names: str) -> dict[str, str]:
    return {name: hashlib.sha256(server.offered[name]).hexdigest() for name in names}


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_real_files_are_train_and_test_with_a_sha256_each() -> None:
    assert list(FILES) == ["train.csv", "test.csv"]
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in FILES.values())


def test_files_with_the_right_checksum_are_kept(server: Server, get: Callable[..., list[str]], tmp_path: Path) -> None:
    directory = tmp_path / "not" / "there" / "yet"
    said = get("train.csv", "test.csv", directory=directory)
    assert contents(directory) == server.offered
    assert server.asked == [("train.csv", None), ("test.csv", None)]
    assert len(said) == 2
    assert str(directory / "train.csv") in said[0]
    assert hashlib.sha256(CONTENT).hexdigest() in said[0]


def test_a_wrong_checksum_keeps_nothing(server: Server, cache: Path) -> None:
    with pytest.raises(BadInputError) as error:
        fetch(cache, server.url, {"train.csv": "0" * 64})
    for part in (f"{server.url}/train.csv", "0" * 64, hashlib.sha256(CONTENT).hexdigest()):
        assert part in str(error.value)
    assert contents(cache) == {}


def test_a_wrong_second_file_leaves_the_first(server: Server, cache: Path) -> None:
    with pytest.raises(BadInputError):
        fetch(cache, server.url, remote(server, "test.csv") | {"train.csv": "0" * 64})
    assert contents(cache) == {"test.csv": server.offered["test.csv"]}


def test_a_whole_file_is_not_fetched_again(server: Server, get: Callable[..., list[str]], cache: Path) -> None:
    get()
    before = (cache / "train.csv").stat()
    said = get()
    after = (cache / "train.csv").stat()
    assert server.asked == [("train.csv", None)]
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert "already" in said[0]


def test_a_file_with_other_content_is_replaced(server: Server, get: Callable[..., list[str]], cache: Path) -> None:
    (cache / "train.csv").write_bytes(CONTENT[:-1])
    get()
    assert contents(cache) == {"train.csv": CONTENT}


def test_half_a_download_is_resumed(server: Server, get: Callable[..., list[str]], cache: Path) -> None:
    (cache / "train.csv.part").write_bytes(CONTENT[:HALF])
    get()
    assert server.asked == [("train.csv", f"bytes={HALF}-")]
    assert contents(cache) == {"train.csv": CONTENT}


def test_a_server_that_compresses_can_be_resumed_from(
    server: Server, get: Callable[..., list[str]], cache: Path
) -> None:
    server.compresses = True
    (cache / "train.csv.part").write_bytes(CONTENT[:1000])
    get()
    assert contents(cache) == {"train.csv": CONTENT}


def test_a_server_that_ignores_ranges_is_read_from_the_start(
    server: Server, get: Callable[..., list[str]], cache: Path
) -> None:
    server.ranges = False
    (cache / "train.csv.part").write_bytes(CONTENT[:HALF])
    get()
    assert server.asked == [("train.csv", f"bytes={HALF}-")]
    assert contents(cache) == {"train.csv": CONTENT}


def test_a_complete_part_is_taken_as_it_is(server: Server, get: Callable[..., list[str]], cache: Path) -> None:
    (cache / "train.csv.part").write_bytes(CONTENT)
    get()
    assert server.asked == [("train.csv", f"bytes={len(CONTENT)}-")]
    assert contents(cache) == {"train.csv": CONTENT}


@pytest.mark.parametrize("stale", [b"of another file", CONTENT + b"and more"], ids=["other content", "too long"])
def test_a_stale_part_is_dropped_and_the_next_try_works(
    server: Server, get: Callable[..., list[str]], cache: Path, stale: bytes
) -> None:
    (cache / "train.csv.part").write_bytes(stale)
    with pytest.raises(BadInputError):
        get()
    assert contents(cache) == {}
    get()
    assert server.asked[-1] == ("train.csv", None)
    assert contents(cache) == {"train.csv": CONTENT}


def test_a_download_that_breaks_off_is_resumed_by_the_next(
    server: Server, get: Callable[..., list[str]], cache: Path
) -> None:
    server.stops_after = len(CONTENT) - 1000
    with pytest.raises(BadInputError, match="again"):
        get()
    (name, part), *others = contents(cache).items()
    assert (name, others) == ("train.csv.part", [])
    assert part
    assert CONTENT.startswith(part)
    server.stops_after = None
    get()
    assert server.asked == [("train.csv", None), ("train.csv", f"bytes={len(part)}-")]
    assert contents(cache) == {"train.csv": CONTENT}


def test_a_server_that_is_down_gets_advice_and_keeps_the_part(get: Callable[..., list[str]], cache: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_again:
        url = f"http://127.0.0.1:{closed_again.getsockname()[1]}"
    (cache / "train.csv.part").write_bytes(CONTENT[:HALF])
    with pytest.raises(BadInputError) as error:
        get(url=url)
    for part in (f"{url}/train.csv", "network", "proxy", str(cache)):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert contents(cache) == {"train.csv.part": CONTENT[:HALF]}


def test_a_file_the_server_does_not_have_is_named(server: Server, cache: Path) -> None:
    with pytest.raises(BadInputError) as error:
        fetch(cache, server.url, {"other.csv": "0" * 64})
    assert f"{server.url}/other.csv" in str(error.value)
    assert "\n" not in str(error.value)
    assert contents(cache) == {}


def test_a_refusal_does_not_spoil_the_part(server: Server, cache: Path) -> None:
    wanted = remote(server, "train.csv")
    server.offered.clear()
    (cache / "train.csv.part").write_bytes(CONTENT[:HALF])
    with pytest.raises(BadInputError):
        fetch(cache, server.url, wanted)
    assert contents(cache) == {"train.csv.part": CONTENT[:HALF]}


@pytest.mark.parametrize("below", [[], ["deeper"]], ids=["the directory itself", "its parent"])
def test_a_file_in_place_of_the_directory_is_named(
    server: Server, get: Callable[..., list[str]], tmp_path: Path, below: list[str]
) -> None:
    (tmp_path / "taken").write_text("a file")
    directory = tmp_path.joinpath("taken", *below)
    with pytest.raises(BadInputError) as error:
        get(directory=directory)
    assert str(directory) in str(error.value)
    assert "--cache" in str(error.value)
    assert server.asked == []
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_directory_in_place_of_the_file_is_refused(get: Callable[..., list[str]], cache: Path) -> None:
    (cache / "train.csv").mkdir()
    with pytest.raises(BadInputError, match=re.escape(str(cache))):
        get()
