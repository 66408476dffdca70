"""Text that JSON, HTML, a terminal and a log can carry: names and messages may hold anything."""

import json
from typing import Any

from components.addresses import redacted


def clean(text: str) -> str:
    """Returns the text with escapes in place of what is not Unicode."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """Returns the text as messages, screens and logs show it: on one line, with spaces in place of what would steer a
    terminal, and without the secrets of addresses."""
    return "".join(char if char.isprintable() else " " for char in clean(redacted(text)))


def clean_all(value: Any) -> Any:
    """Cleans every text in nested plain values, the keys included."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list | tuple):
        return [clean_all(item) for item in value]
    return {clean(key): clean_all(item) for key, item in value.items()} if isinstance(value, dict) else value


def to_json(value: Any, **options: Any) -> str:
    """Returns plain values as JSON, with null for a number that is not finite, which JSON has no name for."""
    return json.dumps(json.loads(json.dumps(value), parse_constant=lambda _: None), **options)
