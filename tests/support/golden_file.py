"""What a compiled file says, beside what is kept of it; ``REGENERATE_GOLDEN=1`` writes that anew.

Both stacks' compilers must agree with the kept file, so that it holds what this project decides and not how a release
spells it.
"""

import os
from pathlib import Path
from typing import Any

import yaml

GOLDEN = Path(__file__).parents[1] / "golden"


def check_golden(name: str, parameters: dict[str, Any], steps: dict[str, dict[str, Any]]) -> None:
    """Checks a file's parameters and steps against ``golden/NAME``, where what most steps have stands once."""
    usual = {key: _most_common([step.get(key) for step in steps.values()]) for step in steps.values() for key in step}
    own = {
        label: {key: step.get(key) for key, value in usual.items() if step.get(key) != value}
        for label, step in steps.items()
    }
    found = {"parameters": parameters, "most steps": usual, "steps": own}
    path = GOLDEN / name
    if os.environ.get("REGENERATE_GOLDEN"):
        path.write_text(yaml.safe_dump(found, width=118), encoding="utf-8")
    assert found == yaml.safe_load(path.read_text(encoding="utf-8"))


def _most_common(values: list[Any]) -> Any:
    return max(values, key=values.count)
