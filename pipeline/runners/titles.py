"""Names of our artifact types in a file for Vertex, and the classes behind them.

TFX takes only names of one dot there, and imports them in the container as if they were classes.
"""

from typing import Any

import yaml

from components import artifacts

PREFIX = "newsdesk."


def class_of(name: str) -> type | None:
    """Returns the class of a type without its prefix; None if there is none."""
    found = getattr(artifacts, name, None)
    return found if isinstance(found, type) else None


def to_class_paths(value: Any) -> Any:
    """Replaces our names in every artifact of an executor input by the paths of their classes."""
    if isinstance(value, list):
        return [to_class_paths(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _schema(item) if key == "instanceSchema" and isinstance(item, str) else to_class_paths(item)
        for key, item in value.items()
    }


def _schema(text: str) -> str:
    schema = yaml.safe_load(text)
    found = class_of(str(schema.get("title", "")).removeprefix(PREFIX))
    if found is None or schema["title"] != found.__dict__.get("TYPE_NAME"):
        return text
    return yaml.safe_dump(schema | {"title": f"{found.__module__}.{found.__name__}"}, sort_keys=False)
