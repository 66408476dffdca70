"""Rules that hold for the repository as a whole: its texts, its size, its locks, its commands and its workflow."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "components", "trainers", "serving")
MOST_LINES = 28_000
LOCK, RUN_LOCK = "requirements.lock", "requirements-run.lock"
WORKFLOW = ".github/workflows/check.yml"
FAULTS = "docs/faults.md"
PLANTED = "tests/support/faults.toml"

INVENTED = "someone|newsdesk"
"""Users whose homes may be named: the one that tests make up, and the one that the Dockerfile makes."""
UNWANTED = {
    "a path of a machine": rf"(?<![\w.)}}-])/(?:(?:home|Users)/(?!(?:{INVENTED})\b)\w|root/|work/(?:main|shared)\b)"
    r"|\b[A-Z]:\\+Users\\",
    # Where packages come from is for the machine to say, through pip's and uv's own settings.
    "the host of a registry": r"\b(?:pypi\.org|pythonhosted\.org|npmjs\.org|docker\.io|ghcr\.io|quay\.io|gcr\.io"
    r"|pkg\.dev|azurecr\.io|anaconda\.org|repo1?\.maven\.)"
    r"|//(?![^/\s]*(?:127\.0\.0\.1|localhost|\.example\b))[^\s()]+/simple\b",
    "a mark of a merge": r"^(?:[<>|]{7} .*|={7})$",
}
PIN = re.compile(r"^([\w.-]+)==(\S+)(?: ; (.+?))?(?: \\\n +--hash=sha256:[0-9a-f]{64})+$", re.MULTILINE)

Rule = Callable[[Path], Iterator[str]]
"""Yields what is wrong in a directory that holds the repository."""


def files(root: Path) -> list[Path]:
    """Returns the files that git tracks; in a copy without git, those that .gitignore does not name."""
    listed = ""
    if shutil.which("git"):
        command = ["git", "-C", str(root), "ls-files", "-z"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    if listed:
        return [path for name in listed.split("\0")[:-1] if (path := root / name).is_file()]
    lines = ["/.git", *(ROOT / ".gitignore").read_text().split()]
    ignored = [line.rstrip("/") if line.startswith("/") else f"*/{line.rstrip('/')}" for line in lines]
    found = []
    for folder, folders, names in os.walk(root):
        inside = f"/{Path(folder).relative_to(root).as_posix()}/".replace("/./", "/")
        kept = [name for name in (*folders, *names) if not any(fnmatch(inside + name, line) for line in ignored)]
        folders[:] = [name for name in folders if name in kept]
        found += [Path(folder, name) for name in names if name in kept]
    return found


def texts_name_no_machine(root: Path) -> Iterator[str]:
    for path in files(root):
        data = path.read_bytes()
        if b"\0" in data:
            continue
        text = data.decode("utf-8", errors="replace")
        for what, pattern in UNWANTED.items():
            for found in re.finditer(pattern, text, re.MULTILINE):
                line = text.count("\n", 0, found.start()) + 1
                yield f"{path.relative_to(root)}:{line}: {what}: {found.group()}"


def source_is_small(root: Path) -> Iterator[str]:
    paths = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    lines = sum(path.read_bytes().count(b"\n") for path in paths)
    if lines > MOST_LINES:
        yield f"{lines} lines of Python, at most {MOST_LINES} are allowed"


def declared(root: Path) -> dict[str, Any]:
    """Returns what setup.py hands to setuptools."""
    setuptools = Mock()
    with patch.dict(sys.modules, setuptools=setuptools):
        runpy.run_path(str(root / "setup.py"))
    return dict(setuptools.setup.call_args.kwargs)


def environment_of(python: str) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.1",
        "python_version": python,
        "sys_platform": "linux",
    }


def holds(marker: object, environment: dict[str, str]) -> bool:
    return not marker or Marker(str(marker)).evaluate(environment)


def locks_are_in_step(root: Path) -> Iterator[str]:
    """Both locks pin what setup.py and pyproject.toml ask for, with hashes, for every Python that they name."""
    setup, project = declared(root), tomllib.loads((root / "pyproject.toml").read_text())
    uv = project["tool"]["uv"]
    run = [*setup["install_requires"], *chain.from_iterable(setup["extras_require"].values())]
    asked = {LOCK: [*run, *project["dependency-groups"]["dev"]], RUN_LOCK: run}
    bounds = [*uv["constraint-dependencies"], *uv["override-dependencies"]]
    texts = {name: (root / name).read_text() for name in asked}
    for name, text in texts.items():
        if rest := PIN.sub("", text).strip():
            yield f"{name}: {rest.splitlines()[0]!r} is not a pin with hashes"
    supported = SpecifierSet(project["project"]["requires-python"])
    for python in (f"3.{minor}" for minor in range(40) if f"3.{minor}.1" in supported):
        environment = environment_of(python)
        if not any(holds(marker, environment) for marker in uv["environments"]):
            yield f"Python {python} is in no environment of tool.uv"
        pins: dict[str, dict[str, str]] = {}
        for name, text in texts.items():
            pairs = [(key, pin) for key, pin, marker in PIN.findall(text) if holds(marker, environment)]
            pins[name] = dict(pairs)
            yield from (f"{name}: {key} is pinned twice for {python}" for key, pin in pairs if pins[name][key] != pin)
            for line in (*asked[name], *bounds):
                wanted = Requirement(line)
                pin = pins[name].get(canonicalize_name(wanted.name))
                if not holds(wanted.marker, environment) or (pin is None and line in bounds):
                    continue
                if pin is None or not wanted.specifier.contains(Version(pin), prereleases=True):
                    yield f"{name}: {line!r} is asked for, {pin} is pinned for {python}"
        if not pins[RUN_LOCK].items() <= pins[LOCK].items():
            yield f"the locks differ for {python}: {sorted(pins[RUN_LOCK].items() - pins[LOCK].items())}"


def commands_are_targets(root: Path) -> Iterator[str]:
    """``make run`` and ``make test`` are the README's commands, and the checks on a server begin with the second."""
    texts = {name: (root / name).read_text() for name in ("Makefile", "README.md", "CONTRIBUTING.md", ".ci/run")}
    targets = re.findall(r"^([a-z0-9-]+):", texts["Makefile"], re.MULTILINE)
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", texts["README.md"], re.MULTILINE | re.DOTALL))
    used = {
        "README.md": re.findall(r"^make ([\w-]+)", blocks, re.MULTILINE),
        "CONTRIBUTING.md": re.findall(r"`make ([\w-]+)", texts["CONTRIBUTING.md"]),
        ".ci/run": re.findall(r"^\s*make ([\w-]+)", texts[".ci/run"], re.MULTILINE),
    }
    for name, commands in used.items():
        yield from (f"{name}: the Makefile has no target {command}" for command in commands if command not in targets)
    if used["README.md"][:2] != ["run", "test"]:
        yield "README.md: the two commands are not make run and make test"
    if used[".ci/run"][:1] != ["test"]:
        yield ".ci/run: the first target is not test"


def workflow_runs_the_checks(root: Path) -> Iterator[str]:
    """The public forge runs ``.ci/run`` on both stacks, may only read, knows no secret and no action of others."""
    text = (root / WORKFLOW).read_text()
    workflow = yaml.safe_load(text)
    (job,) = workflow["jobs"].values()
    stacks = [(stack["image"], stack["python"]) for stack in job["strategy"]["matrix"]["include"]]
    run = [line.strip() for step in job["steps"] for line in step.get("run", "").splitlines()]
    checks = {
        # YAML reads the key "on" as True.
        "does not run on every push and pull request": workflow[True] == {"push": None, "pull_request": None},
        "may do more than read": workflow.get("permissions") == {"contents": "read"} and "permissions" not in job,
        "does not end an older run": "group" in workflow.get("concurrency", {}),
        "has no timeout": 0 < job.get("timeout-minutes", 0) <= 360,
        "lacks a stack": stacks == [("debian:12", "3.11"), ("debian:13", "3.13")],
        "does not run in the stack's image": job["container"]["image"] == "${{ matrix.image }}",
        "does not look which Python it has": any("--version" in line and "matrix.python" in line for line in run),
        "does not run .ci/run alone": [line for line in run if line.startswith(("make", ".ci/"))] == [".ci/run"],
        "has a step that may be left out, or that others wrote": not {"if", "continue-on-error"} & set(job)
        and all(set(step) <= {"name", "run", "working-directory"} for step in job["steps"]),
        "names a secret": not re.search("secret|token", text),
    }
    yield from (f"{WORKFLOW} {fault}" for fault, well in checks.items() if not well)


def planned_faults_have_tests(root: Path) -> Iterator[str]:
    rows = re.findall(
        r"^\| (\d+) \|.*`([\w/]+\.py)::(\w+)` \|$", (root / FAULTS).read_text(encoding="utf-8"), re.MULTILINE
    )
    for line, (number, file, test) in enumerate(rows, 1):
        path = root / "tests" / file
        if int(number) != line:
            yield f"{FAULTS}: number {number} stands in place {line}"
        if not path.is_file() or f"def {test}(" not in path.read_text(encoding="utf-8"):
            yield f"{FAULTS}: fault {number} has no test {file}::{test}"
    if not rows:
        yield f"{FAULTS} has no table"


def faults_can_be_planted(root: Path) -> Iterator[str]:
    for entry in tomllib.loads((root / PLANTED).read_text(encoding="utf-8"))["fault"]:
        path = root / entry["file"]
        times = path.read_text(encoding="utf-8").count(entry["find"]) if path.is_file() else 0
        if times != 1:
            yield f"{PLANTED}: the text of {entry['fault']!r} stands {times} times in {entry['file']}"
        modules = [word.partition("::")[0] for word in entry["tests"] if ".py" in word]
        if not modules or not all((root / module).is_file() for module in modules):
            yield f"{PLANTED}: {entry['fault']!r} names a test that is not there"


RULES: tuple[Rule, ...] = (
    faults_can_be_planted,
    planned_faults_have_tests,
    texts_name_no_machine,
    source_is_small,
    locks_are_in_step,
    commands_are_targets,
    workflow_runs_the_checks,
)


def test_the_list_of_files_sees_the_repository() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in files(ROOT)}
    assert {"setup.py", ".ci/run", "Makefile", "pipeline/workspace/doctor.py"} <= names
    assert not [name for name in names if name.startswith((".venv/", ".git/"))]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule: Rule) -> None:
    assert list(rule(ROOT)) == []


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("| 1 | a | b | `test_a.py::test_a` |", []),
        ("| 1 | a | b | `test_a.py::test_b` |", ["docs/faults.md: fault 1 has no test test_a.py::test_b"]),
        ("| 1 | a | b | `test_b.py::test_a` |", ["docs/faults.md: fault 1 has no test test_b.py::test_a"]),
        ("| 2 | a | b | `test_a.py::test_a` |", ["docs/faults.md: number 2 stands in place 1"]),
        ("", ["docs/faults.md has no table"]),
    ],
)
def test_a_planned_fault_without_a_test_is_found(tmp_path: Path, row: str, found: list[str]) -> None:
    for name, text in ((FAULTS, f"| | |\n{row}\n"), ("tests/test_a.py", "def test_a(): ...\n")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    assert list(planned_faults_have_tests(tmp_path)) == found


@pytest.mark.parametrize(
    ("source", "test", "found"),
    [
        ("x = 1\n", "tests/test_a.py", ""),
        ("x = 1\nx = 1\n", "tests/test_a.py", "'a fault' stands 2 times in a.py"),
        ("x = 2\n", "tests/test_a.py", "'a fault' stands 0 times in a.py"),
        ("x = 1\n", "tests/test_b.py", "'a fault' names a test that is not there"),
    ],
)
def test_a_fault_that_cannot_be_planted_is_found(tmp_path: Path, source: str, test: str, found: str) -> None:
    entry = f'[[fault]]\nfault = "a fault"\nfile = "a.py"\nfind = "x = 1"\nput = ""\ntests = ["{test}"]\n'
    for name, text in ((PLANTED, entry), ("tests/test_a.py", ""), ("a.py", source)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    said = list(faults_can_be_planted(tmp_path))
    assert len(said) == bool(found)
    assert all(found in line for line in said)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Makes a copy of the files that the rules read by name; git knows nothing of it."""
    named = ("setup.py", "pyproject.toml", LOCK, RUN_LOCK, "Makefile", "README.md", "CONTRIBUTING.md", ".ci/run")
    for name in (*named, WORKFLOW):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("rule", "name", "old", "new"),
    [
        # The percent sign is taken out, so that this file keeps the rule.
        (texts_name_no_machine, "docs/a.md", "", "see /ho%me/ada/news.csv"),
        (texts_name_no_machine, "docs/a.md", "", "sqlite:////Us%ers/ada/mlflow.db"),
        (texts_name_no_machine, "tests/a.py", "", 'PLACE = "/ro%ot/.cache"'),
        (texts_name_no_machine, "pipeline/workspace/a.py", "", 'PLACE = "/wo%rk/main/tests"'),
        (texts_name_no_machine, "docs/a.md", "", "C:\\Us%ers\\ada"),
        (texts_name_no_machine, LOCK, "", "--index-url https://py%pi.org/\n"),
        (texts_name_no_machine, "pyproject.toml", "", '# url = "https://mirror.corp/api/sim%ple"\n'),
        (texts_name_no_machine, "Makefile", "", "IMAGE := gh%cr.io/someone/newsdesk\n"),
        (texts_name_no_machine, "docs/a.md", "", "ours\n<<<<<<< HEAD\n"),
        (texts_name_no_machine, "docs/a.md", "", "ours\n=======\ntheirs\n"),
        (texts_name_no_machine, "docs/a.md", "", "theirs\n>>>>>>> main"),
        (source_is_small, "pipeline/run/a.py", "", "\n" * (MOST_LINES + 1)),
        (locks_are_in_step, "setup.py", r'"click>', '"unheard-of>=1",\n        "click>'),
        (locks_are_in_step, "setup.py", r"kfp>=2\.16,<2\.17", "kfp>=2.99"),
        (locks_are_in_step, "setup.py", r"serving-api>=2\.16,<2\.17", "serving-api>=2.99"),
        (locks_are_in_step, "pyproject.toml", r'"build>=1\.2"', '"build>=1.2", "unheard-of>=1"'),
        (locks_are_in_step, "pyproject.toml", r"urllib3>=[\d.]+", "urllib3>=99"),
        (locks_are_in_step, "pyproject.toml", r' +"sys_platform [^\n]+>= .3\.12.",\n', ""),
        (locks_are_in_step, LOCK, r"(?m)^ruff==(.+\n)( +--hash.+\n)+", ""),
        (locks_are_in_step, LOCK, r"( \\\n +--hash=sha256:\w+)+", ""),
        (locks_are_in_step, LOCK, r"sha256:\w{8}", "sha256:"),
        (locks_are_in_step, RUN_LOCK, "", "--index-url http://127.0.0.1\n"),
        (locks_are_in_step, RUN_LOCK, r"(?m)^tfx==1\.21(.+\n)( +--hash.+\n)+", ""),
        (locks_are_in_step, RUN_LOCK, r"(?m)^tfx==1\.16(.+\n)( +--hash.+\n)+", ""),
        (locks_are_in_step, RUN_LOCK, r"(?m)^tfx==1\.16\.0 ; python_full_version < '3.12' and", "tfx==1.16.0 ;"),
        (locks_are_in_step, RUN_LOCK, r"(?m)^absl-py==", "absl-py==0."),
        (commands_are_targets, "Makefile", r"(?m)^run:", "start:"),
        (commands_are_targets, "README.md", r"make run ", "make start"),
        (commands_are_targets, "CONTRIBUTING.md", r"`make check`", "`make lint`"),
        (commands_are_targets, ".ci/run", r"make test\n", "make check\nmake test\n"),
        (commands_are_targets, ".ci/run", r"\Z", "make unheard-of\n"),
        (workflow_runs_the_checks, WORKFLOW, "  pull_request:\n", ""),
        (workflow_runs_the_checks, WORKFLOW, "  push:\n", "  push: {branches: [main]}\n"),
        (workflow_runs_the_checks, WORKFLOW, "contents: read", "contents: write"),
        (workflow_runs_the_checks, WORKFLOW, "permissions:\n.+\n", ""),
        (workflow_runs_the_checks, WORKFLOW, "    runs-on", "    permissions: write-all\n    runs-on"),
        (workflow_runs_the_checks, WORKFLOW, "concurrency:\n.+\n.+\n", ""),
        (workflow_runs_the_checks, WORKFLOW, " +timeout-minutes.+\n", ""),
        (workflow_runs_the_checks, WORKFLOW, " +- image: debian:13\n.+\n", ""),
        (workflow_runs_the_checks, WORKFLOW, "debian:13", "debian:12"),
        (workflow_runs_the_checks, WORKFLOW, r"image: \$.+", "image: debian:12"),
        (workflow_runs_the_checks, WORKFLOW, " +python3 --version.+\n", ""),
        (workflow_runs_the_checks, WORKFLOW, r"run: \.ci/run", "run: make test"),
        (workflow_runs_the_checks, WORKFLOW, r"run: \.ci/run", "run: .ci/run || true"),
        (workflow_runs_the_checks, WORKFLOW, r"run: \.ci/run", "run: .ci/run\n        continue-on-error: true"),
        (workflow_runs_the_checks, WORKFLOW, "    steps:\n", "    steps:\n      - uses: someone/setup@v1\n"),
        (workflow_runs_the_checks, WORKFLOW, "git init", "echo ${{ secrets.KEY }} | git init"),
    ],
)
def test_a_planted_fault_is_found(copy: Path, rule: Rule, name: str, old: str, new: str) -> None:
    assert list(rule(copy)) == []
    path = copy / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text() if path.exists() else ""
    planted = re.sub(old, lambda _: new.replace("%", ""), text, count=1)
    assert planted != text
    path.write_text(planted)
    assert list(rule(copy))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("docs/a.md", b"/gcs/bucket /data/workspace /tmp/x /nowhere ~/.cache /opt/newsdesk /srv/serving ../shared"),
        ("docs/a.md", b"/home/someone/workspace /home/newsdesk https://site.example/home/ada .deploy/root/usr"),
        ("docs/a.md", b"http://127.0.0.1:1/simple https://me@mirror.example/simple Title\n========\n"),
        ("docs/a.bin", b"\0 /ho%me/ada".replace(b"%", b"")),
        (".venv/a.md", b"/ho%me/ada".replace(b"%", b"")),
        ("pipeline/__pycache__/a.md", b"/ho%me/ada".replace(b"%", b"")),
    ],
)
def test_what_is_allowed_is_not_reported(copy: Path, name: str, data: bytes) -> None:
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_bytes(data)
    assert list(texts_name_no_machine(copy)) == []
