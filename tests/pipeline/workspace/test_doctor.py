"""What is said about machines of many kinds."""

import ast
import importlib.metadata
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.workspace import doctor
from pipeline.workspace.doctor import Check, Machine, examine, examine_machine, this_machine

GIB = 2**30
GOOD = Machine("Linux", "x86_64", (3, 11), ("glibc", "2.36"), "c++", 20 * GIB, 16 * GIB)
MACHINE_CHECKS = ("system", "python", "compiler", "disk", "memory")


def check(name: str, machine: Machine) -> Check:
    (found,) = (item for item in examine(machine) if item.name == name)
    return found


def test_a_good_machine_passes_every_check() -> None:
    assert tuple(item.name for item in examine_machine(GOOD)) == MACHINE_CHECKS
    assert examine(GOOD)[: len(MACHINE_CHECKS)] == examine_machine(GOOD)
    assert all(item.ok for item in examine(GOOD))


@pytest.mark.parametrize(
    ("python", "glibc", "ok"),
    [
        ((3, 11), "2.17", False),
        ((3, 11), "2.9", False),
        ((3, 11), "2.27", False),
        ((3, 11), "2.28", True),
        ((3, 11), "2.36", True),
        ((3, 11), "2.41", True),
        ((3, 12), "2.36", False),
        ((3, 12), "2.38", False),
        ((3, 12), "2.39", True),
        ((3, 13), "2.36", False),
        ((3, 13), "2.41", True),
        ((3, 10), "2.41", False),
        ((3, 14), "2.41", False),
        ((3, 1), "2.41", False),
        ((2, 7), "2.41", False),
    ],
)
def test_python_and_glibc_must_fit_one_of_the_two_stacks(python: tuple[int, int], glibc: str, ok: bool) -> None:
    found = check("python", replace(GOOD, python=python, libc=("glibc", glibc)))
    assert found.ok is ok
    assert f"{python[0]}.{python[1]}" in found.found
    assert glibc in found.found


@pytest.mark.parametrize(
    ("python", "glibc", "advice"),
    [
        ((3, 11), "2.17", "glibc 2.28"),
        ((3, 12), "2.36", "use Python 3.11 here"),
        ((3, 13), "2.36", "use Python 3.11 here"),
        ((3, 10), "2.41", "use Python 3.11, or 3.12 or 3.13"),
        ((3, 14), "2.41", "use Python 3.11, or 3.12 or 3.13"),
    ],
)
def test_advice_on_python_names_a_combination_that_passes(python: tuple[int, int], glibc: str, advice: str) -> None:
    assert advice in check("python", replace(GOOD, python=python, libc=("glibc", glibc))).advice


@pytest.mark.parametrize("libc", [("musl", "1.2.5"), ("musl", "2.99"), ("", ""), ("glibc", "")])
@pytest.mark.parametrize("python", [(3, 11), (3, 12), (3, 13)])
def test_another_or_an_unknown_c_library_is_not_ready(python: tuple[int, int], libc: tuple[str, str]) -> None:
    found = check("python", replace(GOOD, python=python, libc=libc))
    assert not found.ok
    assert "glibc" in found.advice
    assert (libc[0] or "unknown C library") in found.found


@pytest.mark.parametrize(
    ("system", "architecture"),
    [("Darwin", "arm64"), ("Darwin", "x86_64"), ("Windows", "AMD64"), ("Linux", "aarch64"), ("Linux", "i686")],
)
def test_only_linux_on_x86_64_is_ready(system: str, architecture: str) -> None:
    found = check("system", replace(GOOD, system=system, architecture=architecture))
    assert not found.ok
    assert found.found == f"{system} {architecture}"
    assert "Linux on x86_64" in found.advice


def test_a_mac_fails_on_its_system_and_its_c_library_and_on_nothing_else() -> None:
    mac = replace(GOOD, system="Darwin", architecture="arm64", libc=("", ""))
    assert {item.name for item in examine(mac) if not item.ok} == {"system", "python"}


def test_a_missing_compiler_comes_with_the_command_that_installs_one() -> None:
    (found,) = [item for item in examine_machine(replace(GOOD, compiler=None)) if not item.ok]
    assert (found.name, found.found) == ("compiler", "none")
    assert "apt-get install g++ python3-dev" in found.advice


def test_a_compiler_is_missed_only_where_something_is_left_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(GOOD, compiler=None)
    assert all(item.ok for item in examine(bare))
    monkeypatch.setattr("pipeline.workspace.doctor._PACKAGES", ("tfx", "no-such-package"))
    assert [item.name for item in examine(bare) if not item.ok] == ["compiler", "no-such-package"]


@pytest.mark.parametrize(
    ("name", "field", "size", "ok"),
    [
        ("disk", "free_disk", 8 * GIB, True),
        ("disk", "free_disk", 8 * GIB - 1, False),
        ("disk", "free_disk", 0, False),
        ("memory", "memory", 4 * GIB, True),
        ("memory", "memory", 4 * GIB - 1, False),
        ("memory", "memory", GIB // 2, False),
    ],
)
def test_little_disk_or_memory_is_not_ready(name: str, field: str, size: int, ok: bool) -> None:
    machine = replace(GOOD, **{field: size})
    assert check(name, machine).ok is ok
    assert {item.name for item in examine(machine) if not item.ok} == (set() if ok else {name})


def test_advice_on_little_disk_and_memory_names_the_amount() -> None:
    assert "8 GiB" in check("disk", replace(GOOD, free_disk=GIB)).advice
    assert "4 GiB" in check("memory", replace(GOOD, memory=GIB)).advice


@pytest.mark.parametrize(
    "machine",
    [
        replace(GOOD, system="Darwin"),
        replace(GOOD, python=(3, 10)),
        replace(GOOD, python=(3, 12)),
        replace(GOOD, libc=("musl", "1.2.5")),
        replace(GOOD, free_disk=0),
        replace(GOOD, memory=0),
    ],
)
def test_whatever_is_not_ready_comes_with_advice(machine: Machine) -> None:
    failed = [item for item in examine(machine) if not item.ok]
    assert len(failed) == 1
    assert failed[0].advice


def test_a_missing_package_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "tensorflow-text":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(importlib.metadata, "version", version)
    missing = check("tensorflow-text", GOOD)
    assert (missing.ok, missing.found) == (False, "missing")
    assert "make .venv" in missing.advice
    assert check("tfx", GOOD) == Check("tfx", True, "1.2.3")


class _Usage(NamedTuple):
    free: int


def test_this_machine_asks_for_the_disk_a_workspace_will_be_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def usage(path: Any) -> _Usage:
        asked.append(path)
        return _Usage(7)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    future = tmp_path / "not" / "yet"
    assert this_machine(future).free_disk == 7
    assert asked == [tmp_path]
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(("present", "named"), [({"g++"}, "g++"), ({"clang++"}, "clang++"), (set(), None)])
def test_this_machine_looks_for_any_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: set[str], named: str | None
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}" if name in present else None)
    assert this_machine(tmp_path).compiler == named


def test_this_machine_is_described_in_full(tmp_path: Path) -> None:
    machine = this_machine(tmp_path)
    assert machine.system
    assert machine.architecture
    assert machine.python >= (3, 11)
    assert machine.free_disk > 0
    assert machine.memory > GIB // 2


def test_before_anything_is_installed_the_checks_run_with_the_standard_library_alone() -> None:
    root = Path(doctor.__file__).parents[2]
    missing = [item for item in examine_machine(this_machine(root)) if not item.ok]
    command = [sys.executable, "-S", "-m", "pipeline.workspace.doctor"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2 if missing else 0, "")
    assert done.stderr.splitlines() == [f"newsdesk: {item.name}: found {item.found}: {item.advice}" for item in missing]


def test_a_python_that_is_too_old_can_still_be_told_so() -> None:
    """Python 3.8 and 3.9 read today's annotations only as long as nothing evaluates them."""
    source = Path(doctor.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert "annotations" in {alias.name for node in futures for alias in node.names}
