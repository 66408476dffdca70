"""Plants faults, one at a time, and tells which of them no test sees.

    .venv/bin/python tests/support/plant_faults.py [--only TEXT]... [--jobs N]

Run by hand. ``faults.toml`` beside this file has the faults, each with the tests that should see it. They are planted
in copies of the project, one for each job; the checkout is never written to. Each set of tests is run without a fault
first, since tests that fail anyhow see nothing.

A fault is seen where pytest ends with code 1 and names a test that failed. Where pytest ends otherwise, as after an
error of collection or of a fixture, or not within ``SECONDS``, that is told apart as an error: nobody can say whether a
test has seen the fault. Exit code 1 unless every fault is seen.
"""

import argparse
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from project_copy import ROOT, copy_project, environment_of

TABLE = Path(__file__).with_name("faults.toml")
SECONDS = 600
"""Most that one run of pytest may take."""
UNMARKED = "not (e2e or browser or network or deploy or engines)"
"""What runs where the tests of a fault name no ``-m`` of their own."""
BESIDE = (
    "tests", "docs", "benchmarks", ".ci", ".dockerignore", "Dockerfile", "Makefile", "pyproject.toml", "setup.py",
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "requirements.lock", "requirements-run.lock",
)  # fmt: skip
"""What tests read beside the packages."""
_WHERE = "import pipeline, components, trainers, serving; print(pipeline.__file__, serving.__file__, sep='\\n')"
_NAMED = re.compile(r"^(FAILED|ERROR) (.+?)(?: - |$)", re.MULTILINE)
_WORDS = {
    "seen": "seen by",
    "passed": "NOT SEEN",
    "error": "error:",
    "unplanted": "cannot be planted:",
    "unsound": "the tests fail without it:",
}


@dataclass(frozen=True)
class Fault:
    """An entry of the table.

    Attributes:
        fault: What is broken, as a user would notice it.
        file: Where, from the root.
        find, put: Source text that stands there exactly once, and what takes its place.
        tests: Arguments of pytest: the smallest set of tests that should see it.
    """

    fault: str
    file: str
    find: str
    put: str
    tests: tuple[str, ...]


def read_table(only: Iterable[str]) -> list[Fault]:
    """Returns the faults of the table: all, or those with one of the given texts in sentence, file or tests."""
    entries = tomllib.loads(TABLE.read_text(encoding="utf-8"))["fault"]
    faults = [Fault(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]
    words = tuple(only) or ("",)
    return [item for item in faults if any(word in " ".join((item.fault, item.file, *item.tests)) for word in words)]


def make_copy(directory: Path) -> Path:
    """Copies the project below a directory, and sees that Python imports it from there."""
    copy = copy_project(directory)
    for source in (ROOT / name for name in BESIDE):
        if source.is_dir():
            shutil.copytree(source, copy / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    found = subprocess.check_output([sys.executable, "-c", _WHERE], cwd=directory, env=environment_of(copy), text=True)
    if not all(Path(line).is_relative_to(copy) for line in found.splitlines()):
        raise SystemExit(f"Python imports {found.split()}, and not the copy at {copy}")
    return copy


def run_tests(copy: Path, tests: tuple[str, ...]) -> tuple[str, str]:
    """Returns ``passed``, ``seen`` or ``error``, and the first test that failed, or what happened instead."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", UNMARKED, *tests]
    # What tests leave in directories goes with the copy.
    environment = {**environment_of(copy), "PYTEST_DEBUG_TEMPROOT": str(copy.parent)}
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=copy, env=environment, start_new_session=True, **pipes) as process:
        try:
            output = process.communicate(timeout=SECONDS)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            return "error", f"no end within {SECONDS} s"
        finally:
            if process.poll() is None:
                # And with it the servers that its tests have started.
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode == 0:
        return "passed", ""
    # Errors of fixtures stand before failures of tests.
    found = _NAMED.findall(output.rpartition("short test summary info")[2])
    named = sorted(found, key=lambda item: item[0] != "FAILED")
    kind, name = (named or [("", " ".join(output.split())[-200:])])[0]
    seen = process.returncode == 1 and kind == "FAILED"
    return ("seen", name) if seen else ("error", f"exit code {process.returncode}, {kind} {name}")


def plant(copy: Path, fault: Fault) -> tuple[str, str]:
    """Plants a fault, runs its tests and takes the fault away; returns what ``run_tests`` does, or ``unplanted``."""
    file = copy / fault.file
    whole = file.read_text(encoding="utf-8") if file.is_file() else ""
    if (times := whole.count(fault.find)) != 1:
        return "unplanted", f"the text stands there {times} times"
    try:
        _write(file, whole.replace(fault.find, fault.put))
        return run_tests(copy, fault.tests)
    finally:
        _write(file, whole)


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    # Python takes byte code for that of a source of the same size and second.
    Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)


def examine(copy: Path, faults: Sequence[Fault]) -> list[str]:
    """Plants the faults of one set of tests one after the other, says what came of each, and returns that in a word."""
    kind, name = run_tests(copy, faults[0].tests)
    found = []
    for fault in faults:
        said = plant(copy, fault) if kind == "passed" else ("unsound", name)
        found.append(said[0])
        print(f"{fault.file}: {fault.fault}: {_WORDS[said[0]]} {said[1]}".rstrip(), flush=True)  # noqa: T201
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="faults with this text; repeatable")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="copies that work at a time")
    asked = parser.parse_args()
    started, sets = time.monotonic(), defaultdict(list)
    for fault in read_table(asked.only):
        sets[fault.tests].append(fault)
    copies: SimpleQueue[Path] = SimpleQueue()

    def on_a_copy(faults: Sequence[Fault]) -> list[str]:
        copy = copies.get()
        try:
            return examine(copy, faults)
        finally:
            copies.put(copy)

    with tempfile.TemporaryDirectory(prefix="newsdesk-faults-") as directory, ThreadPoolExecutor(asked.jobs) as pool:
        for number in range(asked.jobs):
            copies.put(make_copy(Path(directory, str(number))))
        counts = Counter(kind for found in pool.map(on_a_copy, sets.values()) for kind in found)
    told = ", ".join(f"{count} {_WORDS[kind].rstrip(':')}" for kind, count in counts.items())
    print(f"{counts.total()} faults in {time.monotonic() - started:.0f} s: {told}")  # noqa: T201
    sys.exit(counts["seen"] != counts.total())


if __name__ == "__main__":
    main()
