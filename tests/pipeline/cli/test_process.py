"""Which commands collect garbage seldom and which must not, and how those that write end when they are asked to."""

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.errors import StoppedError
from pipeline.cli.main import cli


@pytest.fixture(autouse=True)
def usual() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield (700, 10, 10)
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--data", "nowhere"],
        ["retrain", "--data", "nowhere"],
        ["compile", "--target", "kubeflow", "--set", "no.such=1"],
        ["node", "ExampleGen", "--job", "no/name"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_imports_the_stack_and_ends_collects_seldom(arguments: list[str], tmp_path: Path) -> None:
    workspace = ["--workspace", str(tmp_path)] if arguments[0] != "compile" else []
    CliRunner().invoke(cli, [*arguments, *workspace])
    assert gc.get_threshold()[0] == 100_000


@pytest.mark.parametrize("name", ["serve", "models", "doctor"])
def test_what_stays_or_is_small_does_not(name: str, tmp_path: Path, usual: tuple[int, int, int]) -> None:
    first = ["list"] if name == "models" else []
    CliRunner().invoke(cli, [name, *first, "--workspace", str(tmp_path)])
    assert gc.get_threshold() == usual


@pytest.mark.parametrize("name", ["run", "retrain"])
def test_sigterm_ends_what_writes_on_its_way_out(name: str, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        CliRunner().invoke(cli, [name, "--data", "nowhere", "--workspace", str(tmp_path)])
        with pytest.raises(StoppedError, match="stopped by SIGTERM") as stopped:
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == 128 + signal.SIGTERM
