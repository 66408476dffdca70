"""Which commands collect garbage seldom, and which must not."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

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
    arguments = {"serve": ["--workspace", str(tmp_path)], "models": ["list", "--workspace", str(tmp_path)]}
    CliRunner().invoke(cli, [name, *arguments.get(name, ["--help"])])
    assert gc.get_threshold() == usual
