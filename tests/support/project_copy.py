"""A copy of the project in which a test adds what a contributor would add, and processes that run the copy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from newsdesk_process import Finished

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "components", "trainers", "serving")
_RUN = """
import sys
import pipeline
assert pipeline.__file__ == sys.argv[1], pipeline.__file__
del sys.argv[1]
from pipeline.cli.main import main
main()
"""


def copy_project(tmp_path: Path) -> Path:
    """Copies the packages below ``tmp_path`` and returns the directory that holds them."""
    copy = tmp_path / "project"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def add_package(source: Path, target: Path, docstring: str) -> None:
    """Copies a folder of modules to where it is a package, which it is not below ``tests/``."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    (target / "__init__.py").write_text(f'"""{docstring}"""\n', encoding="utf-8")


def insert_line(file: Path, after: str, line: str) -> None:
    """Inserts one line behind the only line that is ``after``, both without their indentation."""
    lines = file.read_text(encoding="utf-8").splitlines()
    (place,) = [number for number, text in enumerate(lines) if text.strip() == after]
    indent = len(lines[place]) - len(lines[place].lstrip()) + 4 * after.endswith(("(", "[", "{"))
    lines.insert(place + 1, " " * indent + line)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def environment_of(copy: Path) -> dict[str, str]:
    """Returns the environment in which Python imports the copy before the installed project."""
    return {**os.environ, "PYTHONPATH": str(copy)}


def call_copy(copy: Path, *arguments: str | Path) -> Finished:
    """Runs ``newsdesk ARGUMENTS`` of the copy, in its directory."""
    command = [sys.executable, "-c", _RUN, copy / "pipeline" / "__init__.py", *arguments]
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=copy,
        env=environment_of(copy),
        timeout=600,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)
