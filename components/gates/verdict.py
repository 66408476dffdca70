"""The artifact that every gate leaves behind when it lets something pass."""

import json
import os
from typing import Any

from tfx.dsl.io import fileio

VERDICT_FILE = "verdict.json"


def write_verdict(uri: str, gate: str, numbers: dict[str, Any] | None = None) -> None:
    """Writes the verdict of a gate that passed, with the numbers it saw, into the artifact at ``uri``."""
    verdict = {"gate": gate, "passed": True, "reasons": [], "numbers": numbers or {}}
    with fileio.open(os.path.join(uri, VERDICT_FILE), "w") as file:
        file.write(json.dumps(verdict, indent=1))
