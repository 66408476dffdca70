"""What reaches a screen or a log: whatever its encoding, and whatever labels, texts and names hold."""

import ast
import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main as entry
from pipeline.cli.commands import batch
from pipeline.cli.screen import Progress, aside
from serving.client import rest as module
from serving.model.loaded import Prediction

NASTY = "Spörts\x1b[31m\nEvil\r\x9b1A\u202e 通貨"
STEERS = set("\x1b\r\x9b\u202e")
SECRET = "s3cr3t"
ADDRESS = f"https://me:a/{SECRET}@host/a"


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    kept = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(kept)


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Classifies one text as a class with a nasty name; returns what an output of that encoding got."""

    class Client:
        def __init__(self, *_: object, **__: object):
            """Connects to nothing."""

        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: object) -> None:
            """Closes nothing."""

        def predict(self, texts: list[str], *_: object, **__: object) -> list[Prediction]:
            return [Prediction(text, NASTY, 0, 1.0, {NASTY: 1.0}) for text in texts]

    def call(encoding: str, *arguments: str) -> bytes:
        written = io.BytesIO()
        monkeypatch.setattr(module, "Client", Client)
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, write_through=True))
        monkeypatch.setattr(sys, "argv", ["newsdesk", "predict", NASTY, "--url", "http://h", *arguments])
        with pytest.raises(SystemExit) as done:
            entry.main()
        assert not done.value.code
        return written.getvalue()

    return call


@pytest.mark.parametrize("encoding", ["ascii", "ANSI_X3.4-1968", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_carries_json_and_screens(predict: Callable[..., bytes], encoding: str) -> None:
    written = predict(encoding, "--json")
    (answer,) = json.loads(written.decode(encoding))
    assert written.isascii() == (encoding != "utf-8")
    assert (answer["text"], answer["label"]) == (NASTY, NASTY)
    screen = predict(encoding).decode(encoding)
    assert len(screen.splitlines()) == 1
    assert not STEERS & set(screen)
    shown = {"ascii": "Sp?rts", "ANSI_X3.4-1968": "Sp?rts"}.get(encoding, "Spörts")
    assert screen.startswith(f"{shown} [31m Evil")
    assert ("通貨" if encoding == "utf-8" else "??") in screen


def test_the_real_command_writes_to_a_locale_without_unicode(tmp_path: Path) -> None:
    workspace = tmp_path / "wörk"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code = "from pipeline.cli.process import say\nfrom pipeline.cli.main import set_output\nset_output()\n"
    for arguments in (
        ["-c", f"{code}say({NASTY!r})"],
        ["-m", "pipeline.cli.main", "report", "--workspace", str(workspace)],
    ):
        done = subprocess.run(
            [sys.executable, *arguments], env={**os.environ, **plain}, cwd=Path(entry.__file__).parents[2],
            capture_output=True, check=False,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr
        assert (done.stdout + done.stderr).isascii()
        assert done.stdout + done.stderr


def test_the_real_output_keeps_its_encoding_while_others_are_turned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "latin-1", errors="replace"))
    with aside(1, tmp_path / "log") as out:
        out.write("é 通\n")
    assert capfdbinary.readouterr().out == b"\xe9 ?\n"


def test_progress_and_logs_are_printable(caplog: pytest.LogCaptureFixture) -> None:
    entry.set_output()
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.line(f"data {NASTY} {ADDRESS}")
        logging.getLogger("newsdesk.example_gen").warning("label %r or %s of %s", NASTY, NASTY, ADDRESS)
        logging.getLogger("newsdesk").info("epoch %s", NASTY, extra={"passing": True})
    assert len(stream.getvalue().splitlines()) == 2
    for said in (stream.getvalue(), caplog.messages[0]):
        assert not STEERS & set(said)
        assert SECRET not in said
    assert "\n" not in caplog.messages[0]


def test_counts_of_classes_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = {"labels": {NASTY: 1}, "rows": 1, "malformed": 0, "resumed_shards": 0, "shards": 1}
    batch._show(found | {"output": NASTY, "model_version": "1", "seconds": 0.0})
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2
    assert not STEERS & set(out)


def test_only_json_and_files_pass_by_the_cleaning() -> None:
    allowed = re.compile(r"json\.dumps|\bto_json\(|printable\(|^texts\.|^write\(|^message$|format_message\(\)")
    for path in Path(entry.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "click.echo" and node.args:
                assert allowed.search(ast.unparse(node.args[0])), (
                    f"{path.name}:{node.lineno}: say() cleans what it shows"
                )


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--data", ADDRESS],
        ["run", "--workspace", ADDRESS],
        ["run", "--model", "bert", "--set", f"bert.encoder={ADDRESS}"],
        ["run", "--set", ADDRESS],
        ["run", "--set", f"{ADDRESS}=1"],
        ["run", "--preset", ADDRESS],
        ["run", "--beam", ADDRESS],
        ["retrain", "--data", ADDRESS],
        ["predict", "text", "--url", ADDRESS],
        ["predict", "--file", ADDRESS],
        ["predict", "text", "--url", "http://h", "--token-env", ADDRESS],
        ["serve", "--model-dir", ADDRESS],
        ["batch", ADDRESS, "out.csv"],
        ["batch", "in.csv", ADDRESS],
        ["fetch", "encoder", ADDRESS],
        ["compile", "--target", "kubeflow", "--image", ADDRESS],
        ["compile", "--target", ADDRESS],
        ["node", "begin", "--job", "j", "--data", ADDRESS],
        ["compare", ADDRESS, ADDRESS],
        ["report", ADDRESS],
        [ADDRESS],
    ],
    ids=lambda arguments: " ".join(arguments).replace(ADDRESS, "ADDRESS"),
)
def test_no_option_repeats_a_secret(newsdesk: Callable[..., tuple[object, str, str]], arguments: list[str]) -> None:
    code, out, err = newsdesk(*arguments)
    assert code == 2
    assert SECRET not in out + err
    assert len(err.splitlines()) == 1
    assert not [path for path in Path().rglob("*") if SECRET in path.name]
