"""Programs and packages that ``make test-deploy`` unpacks beside the code, and the compose file as Docker reads it."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "serving" / "deploy"
TOOLS = Path(os.environ.get("NEWSDESK_DEPLOY_TOOLS", ROOT / ".deploy"))
PYTHON_PACKAGES = TOOLS / "python"
_DIRECTORIES = (TOOLS / "root/usr/sbin", TOOLS / "root/usr/bin")
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<more>[^}]*))?\})")


def find_program(name: str) -> str:
    """Returns where ``nginx`` or ``promtool`` is.

    Raises:
        AssertionError: It is not there.
    """
    places = os.pathsep.join([*map(str, _DIRECTORIES), os.environ["PATH"], "/usr/sbin"])
    program = shutil.which(name, path=places)
    assert program, f"there is no {name}: make test-deploy fetches it"
    return program


def nginx_module() -> Path:
    """Returns nginx's module for JavaScript.

    Raises:
        AssertionError: It is not there.
    """
    places = [root / "usr/lib/nginx/modules/ngx_http_js_module.so" for root in (TOOLS / "root", Path("/"))]
    found = next((place for place in places if place.exists()), None)
    assert found, "there is no JavaScript module of nginx: make test-deploy fetches it"
    return found


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Runs a program to its end and returns what it said.

    Raises:
        AssertionError: It failed, with what it said.
    """
    done = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Returns a compose file with its variables put in, as Docker Compose does.

    Raises:
        KeyError: A variable that must be set is not.
    """

    def value(match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        if found := variables.get(match["name"]):
            return found
        if match["kind"] == "-":
            return str(match["more"])
        raise KeyError(f"{match['name']} is not set: {match['more']}")

    return _VARIABLE.sub(value, text)


def read_compose(**variables: str) -> dict[str, Any]:
    """Returns the compose file with variables put in; ``NEWSDESK_SERVING`` is /srv/serving."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(interpolate(text, {"NEWSDESK_SERVING": "/srv/serving", **variables}))
