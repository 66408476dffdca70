"""Settings that are tables, which the command line gives as JSON."""

import json
from typing import Any


def parse_table(value: Any) -> Any:
    """Returns what a JSON text says, and anything else as it is: a validator before pydantic's own.

    Raises:
        ValueError: The text is no JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"must be a JSON object ({error})") from error
