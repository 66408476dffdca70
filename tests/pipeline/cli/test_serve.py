"""``newsdesk serve`` before anything is loaded: what it refuses, and how it is told what to do."""

import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from components.errors import BadInputError
from components.push.aliases import ALIASES_FILE, MODELS_CONFIG, write_aliases
from pipeline.cli.commands import serve


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """Gives back what the command sets for good, since it is a process's last: handlers and levels."""
    before = logging.getLogger().handlers[:]
    named = {name: logging.getLogger(name).level for name in ("newsdesk", "uvicorn.error")}
    yield
    logging.getLogger().handlers[:] = before
    for name, level in named.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Takes the place of the server; holds the configurations it was given."""
    found: list[Any] = []
    monkeypatch.setattr("serving.http.server.serve", lambda config, *_: found.append(config))
    return found


def run(*arguments: str | Path) -> None:
    serve.command.main([str(argument) for argument in arguments], standalone_mode=False)


def test_serves_the_workspace_on_loopback_unless_told(tmp_path: Path, served: list[Any]) -> None:
    (tmp_path / "serving").mkdir()
    run("--workspace", tmp_path)
    (config,) = served
    assert (config.model_dir, config.host, config.port) == (tmp_path / "serving", "127.0.0.1", 8501)


@pytest.mark.parametrize("option", ["--workspace", "--model-dir"])
def test_a_models_config_that_is_behind_the_aliases_is_written_anew_in_a_workspace(
    tmp_path: Path, served: list[Any], capsys: pytest.CaptureFixture, option: str
) -> None:
    """Elsewhere it may have been written by hand."""
    serving = tmp_path / "serving"
    (serving / "ag_news").mkdir(parents=True)
    write_aliases(serving, "ag_news", {"champion": 1})
    config = serving / MODELS_CONFIG
    older = config.read_text().replace(str(tmp_path), "/another/mount")
    config.write_text(older)
    place = tmp_path if option == "--workspace" else serving
    run(option, place)
    assert config.read_text() == older
    assert "written anew" not in capsys.readouterr().err
    (serving / "ag_news" / ALIASES_FILE).write_text('{"champion": 2, "previous": 1}')
    run(option, place)
    is_workspace = option == "--workspace"
    assert ("value: 2" in config.read_text()) is is_workspace
    assert ("models.config said something else" in capsys.readouterr().err) is is_workspace


def test_options_and_settings_reach_the_server(tmp_path: Path, served: list[Any]) -> None:
    arguments = ("--host", "0.0.0.0", "--port", "0", "--set", "canary_share=0.5", "--set", "allowed_hosts=a,b")
    run("--model-dir", tmp_path, *arguments)
    (config,) = served
    assert (config.model_dir, config.host, config.port) == (tmp_path, "0.0.0.0", 0)
    assert (config.canary_share, config.allowed_hosts) == (0.5, ("a", "b"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "max_batch_row=1"), "did you mean 'max_batch_rows'"),
        (("--set", "max_batch_rows"), "--set takes KEY=VALUE"),
        (("--set", "max_batch_rows=no"), "setting max_batch_rows"),
        (("--set", "port=1"), "use --port"),
        (("--set", "model_dir=x"), "use --model-dir"),
    ],
)
def test_a_setting_that_is_none_is_refused(
    tmp_path: Path, served: list[Any], arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(BadInputError, match=words):
        run("--model-dir", tmp_path, *arguments)
    assert served == []


def test_a_directory_that_is_not_there_is_told(tmp_path: Path, served: list[Any]) -> None:
    with pytest.raises(BadInputError, match="newsdesk run makes one"):
        run("--workspace", tmp_path)
    assert served == []


@pytest.mark.parametrize("port", ["-1", "65536", "many"])
def test_a_port_that_is_none_is_refused(tmp_path: Path, served: list[Any], port: str) -> None:
    with pytest.raises(click.UsageError, match=r"range|integer"):
        run("--model-dir", tmp_path, "--port", port)


def test_an_empty_directory_and_a_taken_port_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there is no model in"):
        run("--model-dir", tmp_path, "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BadInputError, match="cannot listen on"):
        run("--model-dir", tmp_path, "--port", str(taken.getsockname()[1]))
    with pytest.raises(BadInputError, match="cannot listen on"):
        run("--model-dir", tmp_path, "--host", "192.0.2.1", "--port", "0")


def test_a_token_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DESK_TOKEN", raising=False)
    with pytest.raises(BadInputError, match="no token in DESK_TOKEN"):
        run("--model-dir", tmp_path, "--port", "0", "--set", "token_env=DESK_TOKEN")


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        run("--model-dir", tmp_path, "--port", "0", "--set", f"access_log={tmp_path}")
