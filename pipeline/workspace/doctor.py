"""Looks at a machine and says what is missing and how to get it.

Uses the standard library only: ``make`` runs it with the system's Python, however old, before anything is installed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

_GIB = 2**30
COMPILER = "compiler"
_MIN_DISK_GIB = 8
_MIN_MEMORY_GIB = 4
_NEWER_STACK_GLIBC = (2, 39)
_OLDER_STACK_GLIBC = (2, 28)
_PACKAGES = ("tfx", "tensorflow", "tensorflow-text", "tf-keras", "tensorflow-hub", "apache-beam", "mlflow", "kfp")


@dataclass(frozen=True)
class Check:
    """One finding. ``advice`` says what to do where ``ok`` is False."""

    name: str
    ok: bool
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Machine:
    """What the checks look at; tests make their own."""

    system: str
    architecture: str
    python: tuple[int, int]
    libc: tuple[str, str]
    compiler: str | None
    free_disk: int
    memory: int


def this_machine(workspace: Path) -> Machine:
    """Returns the facts of this machine; the disk is the one that ``workspace`` is or will be on."""
    existing = next(path for path in (workspace.absolute(), *workspace.absolute().parents) if path.exists())
    compiler = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)
    return Machine(
        platform.system(),
        platform.machine(),
        sys.version_info[:2],
        platform.libc_ver(),
        compiler,
        shutil.disk_usage(existing).free,
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def examine(machine: Machine) -> list[Check]:
    """Returns all findings about a machine and the installed packages.

    Where every package is installed nothing is left to compile, and a missing compiler is none of them.
    """
    packages = _packages()
    installed = all(package.ok for package in packages)
    return [
        *(item for item in examine_machine(machine) if item.ok or not (installed and item.name == COMPILER)),
        *packages,
    ]


def examine_machine(machine: Machine) -> list[Check]:
    """Returns the findings about a machine, installed or not."""
    free, memory = machine.free_disk / _GIB, machine.memory / _GIB
    system = machine.system == "Linux" and machine.architecture == "x86_64"
    return [
        Check(
            "system", system, f"{machine.system} {machine.architecture}", "use Linux on x86_64, or a container of it"
        ),
        _python(machine),
        Check(
            COMPILER, bool(machine.compiler), machine.compiler or "none", "install one: apt-get install g++ python3-dev"
        ),
        Check(
            "disk",
            free >= _MIN_DISK_GIB,
            f"{free:.0f} GiB free",
            f"free {_MIN_DISK_GIB} GiB, or use another --workspace",
        ),
        Check("memory", memory >= _MIN_MEMORY_GIB, f"{memory:.0f} GiB", f"at least {_MIN_MEMORY_GIB} GiB are needed"),
    ]


def _python(machine: Machine) -> Check:
    name = ".".join(map(str, machine.python))
    library, version = machine.libc
    glibc = tuple(int(part) for part in version.split(".")[:2]) if library == "glibc" and version else (0, 0)
    found = f"Python {name}, {library or 'unknown C library'} {version}".strip()
    if machine.python == (3, 11):
        return Check(
            "python", glibc >= _OLDER_STACK_GLIBC, found, "glibc 2.28 or later is needed: use Debian 12 or later"
        )
    if machine.python in ((3, 12), (3, 13)):
        advice = f"Python {name} needs glibc 2.39 (Ubuntu 24.04, Debian 13): use Python 3.11 here"
        return Check("python", glibc >= _NEWER_STACK_GLIBC, found, advice)
    return Check("python", False, found, "use Python 3.11, or 3.12 or 3.13 with glibc 2.39 or later")


def _packages() -> list[Check]:
    checks = []
    for name in _PACKAGES:
        try:
            checks.append(Check(name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(name, False, "missing", "make .venv installs it"))
    return checks


if __name__ == "__main__":
    missing = [check for check in examine_machine(this_machine(Path())) if not check.ok]
    for check in missing:
        print(f"newsdesk: {check.name}: found {check.found}: {check.advice}", file=sys.stderr)  # noqa: T201
    sys.exit(2 if missing else 0)
