"""Digests the source a node depends on.

TFX keys its cache by the dotted name of a function, so edited code would silently reuse old outputs. Each
node of ours carries the digest of its module and of every module of this project that it imports, directly
or not, and of the templates beside those: an edit re-runs the nodes it concerns and no others, and a new file
time means nothing. What a whole run's model depends on is one digest more.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
from functools import cache
from pathlib import Path

from pydantic import BaseModel

PACKAGES = ("pipeline", "components", "trainers", "serving")
_STACK = ("tfx", "tensorflow")
_NOT_IN_THE_MODEL = ("retrain", "schedule", "orchestrator", "beam")


def source_digest(*modules: str) -> str:
    """Returns the digest, 16 hex digits, of the named modules, what they import, and the stack's versions."""
    digest = hashlib.sha256()
    for package in _STACK:
        digest.update(f"{package}=={importlib.metadata.version(package)}\n".encode())
    for name in sorted(imported_modules(*modules)):
        digest.update(f"{name}\n".encode() + _path(name).read_bytes())
        for template in sorted(_path(name).parent.glob("templates/*")):
            digest.update(f"{template.name}\n".encode() + template.read_bytes())
    return digest.hexdigest()[:16]


def imported_modules(*modules: str) -> set[str]:
    """Returns the named modules and every module of this project that they import, directly or not."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_imports(name))
    return found


@cache
def project_digest() -> str:
    """Returns the digest of all Python source and templates of the project, the tag ``code_version`` of a run."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        root = _path(package).parent
        for path in sorted([*root.rglob("*.py"), *root.rglob("templates/*")]):
            digest.update(f"{package}/{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def work_digest(config: BaseModel) -> str:
    """Returns a digest of all settings that the model of a run depends on, and of the source code.

    The same data with the same digest make the same model, so that trying again is useless.
    """
    settings = {name: value for name, value in config.model_dump().items() if name not in _NOT_IN_THE_MODEL}
    return hashlib.sha256(f"{json.dumps(settings, sort_keys=True)} {project_digest()}".encode()).hexdigest()


def _imports(name: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(_path(name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            candidates = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {item for item in candidates if item.split(".")[0] in PACKAGES and _is_module(item)}
    return found


def _is_module(name: str) -> bool:
    try:
        _path(name)
    except ModuleNotFoundError:
        return False
    return True


@cache
def _path(name: str) -> Path:
    """Finds a module's file by its place, without importing anything."""
    package, *rest = name.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source for module {name}")
    place = Path(spec.origin).parent.joinpath(*rest)
    # As Python does, which passes over a directory that an older version left with nothing but its byte code.
    for path in (place / "__init__.py", place.with_suffix(".py")):
        if path.is_file():
            return path
    raise ModuleNotFoundError(f"no source for module {name}")
