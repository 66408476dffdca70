"""The Dockerfile says what an image must be: from the lock, without a compiler or root, for steps and workers alike."""

import re
import subprocess
from pathlib import Path

import pytest
from dockerfile import Instruction, parse

ROOT = Path(__file__).parents[3]
INSTRUCTIONS = parse((ROOT / "Dockerfile").read_text())
LAST = [item for item in INSTRUCTIONS if item.stage == ""]


def of(name: str, instructions: list[Instruction] = INSTRUCTIONS) -> list[str]:
    return [item.text for item in instructions if item.name == name]


def locked(name: str) -> dict[str, str]:
    """Returns each locked package with its hashes; what needs it decides the Python versions it is for."""
    blocks = re.split(r"\n(?=\S)", (ROOT / name).read_text())
    return {block.split(" ")[0]: block.partition("\n")[2].strip() for block in blocks}


def test_the_last_stage_holds_no_compiler() -> None:
    installed = " ".join(of("RUN", LAST))
    assert "python3" in installed
    assert not re.search(r"g\+\+|gcc|clang|build-essential|-dev\b|\bmake\b|pip install", installed)


def test_nothing_runs_as_root() -> None:
    names = [item.name for item in LAST]
    user = of("USER", LAST)[-1]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert names[names.index("USER") :].count("RUN") == 1
    assert of("RUN", LAST)[-1] == "newsdesk doctor"


def test_packages_come_from_the_lock_with_hashes() -> None:
    installs = [text for text in of("RUN") if "pip install" in text]
    assert ["--require-hashes" in text for text in installs] == [True, False]
    assert all("--no-deps" in text for text in installs)
    assert "requirements-run.lock" in installs[0]
    assert installs[1].endswith("--no-build-isolation /build")


def test_what_runs_is_what_is_tested() -> None:
    every, running = locked("requirements.lock"), locked("requirements-run.lock")
    assert running.items() <= every.items()
    left_out = {name.split("==")[0] for name in every.keys() - running.keys()}
    assert {"pytest", "mypy", "ruff"} <= left_out
    assert not {"tfx", "mlflow", "apache-beam"} & left_out


def test_boot_is_of_the_locked_beam() -> None:
    (beam,) = (text.removeprefix("BEAM=") for text in of("ARG") if text.startswith("BEAM="))
    python, version = re.fullmatch(r"apache/beam_python(3\.\d+)_sdk:([\d.]+)", beam).groups()  # type: ignore[union-attr]
    assert python == "3.13"
    assert [name for name in locked("requirements-run.lock") if name == f"apache-beam=={version}"]


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    copied = {
        part.split("/")[0]
        for text in of("COPY")
        if "--from" not in text
        for part in [part for part in text.split() if not part.startswith("--")][:-1]
    }
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        (["run", "--preset", "sample"], "newsdesk"),
        (["--help"], "newsdesk"),
        (["--version"], "newsdesk"),
        ([], "newsdesk"),
        (["--id=1-1", "--provision_endpoint=localhost:1"], "boot"),
        (["--worker_pool"], "boot"),
    ],
)
def test_the_entry_point_tells_workers_from_commands(tmp_path: Path, arguments: list[str], program: str) -> None:
    for name in ("newsdesk", "boot"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "BEAM_BOOT": str(tmp_path / "boot")}
    script = ROOT / "pipeline" / "runners" / "entrypoint.sh"
    done = subprocess.run(["sh", script, *arguments], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [program, *arguments]
    assert [text.strip('[]"') for text in of("ENTRYPOINT", LAST)] == ["/opt/entrypoint"]
    assert any(text.endswith("pipeline/runners/entrypoint.sh /opt/entrypoint") for text in of("COPY", LAST))
