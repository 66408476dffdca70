"""Strings out of the forms that TensorFlow Serving takes for a tensor, and its words for what it does not take."""

import binascii
from collections.abc import Callable, Iterator
from typing import Any

from serving.errors import RequestError
from serving.protocol.json_body import invalid, shorten, show, type_name

_BASE64_KEY = "b64"
_WHITE_SPACE = str.maketrans("", "", "\t\n\v\f\r ")


def strings_of_rows(instances: list[Any], name: str) -> list[str | bytes]:
    """Returns one string per row of ``instances``.

    Args:
        instances: Strings and ``{"b64": ...}``, or objects with the input's name for their only key; not empty.
        name: The input's.

    Raises:
        RequestError: Something else is among them.
    """
    named = _is_named(instances[0])
    return [_named_row(*row, name) if named else _plain_row(*row) for row in enumerate(instances)]


def strings_of_columns(inputs: Any, name: str, check_count: Callable[[int], None]) -> list[str | bytes]:
    """Returns one string per row of ``inputs``.

    Args:
        inputs: A list of strings and ``{"b64": ...}``, or an object that has one under the input's name.
        name: The input's.
        check_count: Refuses too many rows, before any is looked at.

    Raises:
        RequestError: It is something else.
    """
    if _is_named(inputs):
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        inputs = inputs[name]
    if isinstance(inputs, list):
        check_count(len(inputs))
        return [_string(value) for value in inputs]
    _string(inputs)
    raise invalid("Batching Run() input tensors must have at least one dimension")


def _plain_row(position: int, row: Any) -> str | bytes:
    if type(row) is str:
        return row
    if _is_named(row):
        raise invalid(f"Expecting value/list but got object at item {position} of input list")
    try:
        return _string(row)
    except RequestError as error:
        raise _at(f"{position}", error) from error


def _named_row(position: int, row: Any, name: str) -> str | bytes:
    if not _is_named(row):
        raise invalid(f"Expecting object but got list at item {position} of input list")
    for key, value in row.items():
        try:
            if key != name:
                raise invalid(f"JSON object: does not have named input: {shorten(key)}")
            found = _string(value)
        except RequestError as error:
            raise _at(f"{position} key: {shorten(key)}", error) from error
    if not row:
        where = f"Failed to process element: {position} of 'instances' list."
        raise invalid(f"{where} JSON object: {show(row)} must only have keys: {name}")
    return found


def _at(place: str, error: RequestError) -> RequestError:
    return invalid(f"Failed to process element: {place} of 'instances' list. Error: {error.code.name}: {error.message}")


def _string(value: Any) -> str | bytes:
    if type(value) is str:
        return value
    if type(value) is dict:
        return _decode(value)
    if type(value) is list:
        # TensorFlow Serving takes tensors of any shape, and the graph refuses this one.
        shape = ",".join(str(size) for size in _shape(value))
        raise invalid(f"Every row takes one string, not a list of shape [{shape}]")
    raise invalid(f"JSON Value: {show(value)} Type: {type_name(value)} is not of expected type: string")


def _shape(value: Any) -> Iterator[int]:
    while isinstance(value, list):
        yield len(value)
        value = value[0] if value else None


def _is_named(value: Any) -> bool:
    return type(value) is dict and not _is_base64(value)


def _is_base64(value: dict[str, Any]) -> bool:
    return len(value) == 1 and type(value.get(_BASE64_KEY)) is str


def _decode(value: dict[str, Any]) -> bytes:
    """Decodes the standard alphabet; white space is skipped, and padding may be left out, as in Abseil."""
    if not _is_base64(value):
        raise invalid(f"JSON Value: {show(value)} not formatted correctly for base64 data")
    padded = value[_BASE64_KEY].translate(_WHITE_SPACE)
    digits = padded.rstrip("=")
    missing = -len(digits) % 4
    if len(padded) - len(digits) not in (0, missing):
        raise invalid("Unable to base64 decode")
    try:
        return binascii.a2b_base64(digits + "=" * missing, strict_mode=True)
    except ValueError as error:
        raise invalid("Unable to base64 decode") from error
