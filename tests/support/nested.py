"""Looks into nested settings."""

from collections.abc import Iterator, Mapping
from typing import Any


def under(key: str, values: Mapping[str, Any]) -> list[Any]:
    """Returns what stands under a key, at any depth."""

    def search(found: Mapping[str, Any]) -> Iterator[Any]:
        for name, value in found.items():
            if name == key:
                yield value
            elif isinstance(value, Mapping):
                yield from search(value)

    return list(search(values))
