"""Reads a JSON body within its limits, and words what is wrong with it as TensorFlow Serving does."""

import json
from typing import Any

import orjson

from serving.errors import Code, RequestError
from serving.json_nesting import measure, most_containers

_SHOWN_CHARACTERS = 200
_GZIP = b"\x1f\x8b"
# What orjson says (a part of it) to what RapidJSON, which TensorFlow Serving parses with, says of the same body.
_SENTENCES = (
    ("is empty", "The document is empty."),
    ("after document", "The document root must not be followed by other values."),
    ("expected ':'", "Missing a colon after a name of object member."),
    ("expected ',' or '}'", "Missing a comma or } after an object member."),
    ("expected ',' or ']'", "Missing a comma or ] after an array element."),
    ("string key", "Missing a name for object member."),
    ("not valid UTF-8", "Invalid encoding in string."),
    ("surrogate", "The surrogate pair in string is invalid."),
    ("escaped sequence", "Invalid escape character in string."),
    ("infinity", "Number too big to be stored in double."),
    ("decimal point", "Miss fraction part in number."),
    ("exponent", "Miss exponent in number."),
)
_TYPES = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}


def invalid(message: str) -> RequestError:
    """Returns the refusal of a request that says something it must not, HTTP 400."""
    return RequestError(Code.INVALID_ARGUMENT, message)


def read_object(body: bytes, most_bytes: int, depth: int, containers: int) -> dict[str, Any]:
    """Returns the object that a body holds.

    Parsed strictly, as RFC 8259 says: no NaN, no lone surrogates, no bytes that are not UTF-8. TensorFlow Serving
    takes the first and the last of these.

    Args:
        body: As sent, whatever its Content-Type.
        most_bytes: Length above which it is not looked at.
        depth: Arrays and objects within each other above which it is refused.
        containers: Arrays and objects in all, likewise.

    Raises:
        RequestError: ``TOO_LARGE``, or ``INVALID_ARGUMENT`` for anything that is not such an object.
    """
    if len(body) > most_bytes:
        message = f"The body has {len(body)} bytes, {most_bytes} are allowed: send fewer or shorter texts at a time"
        raise RequestError(Code.TOO_LARGE, message)
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    if body.startswith(_GZIP):
        raise invalid("JSON Parse error: The document is packed with gzip: send it as it is")
    # Two counts rule out both in nearly every body; only what is left is measured.
    if most_containers(body) > min(depth, containers):
        nesting = measure(body)
        if nesting.depth > depth:
            raise invalid(f"JSON Parse error: More than {depth} arrays and objects within each other")
        if nesting.containers > containers:
            raise invalid(f"JSON Parse error: More than {containers} arrays and objects")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(_parse_error(error)) from error
    if type(document) is not dict:
        raise invalid(f"JSON Value: {show(document)} Is not object")
    return document


def show(value: Any) -> str:
    """Returns the beginning of a JSON value as TensorFlow Serving, which shows all of it, lays it out."""
    shown = ""
    for part in json.JSONEncoder(ensure_ascii=False, indent=4).iterencode(value):
        shown += part[: _SHOWN_CHARACTERS + 1]
        if len(shown) > _SHOWN_CHARACTERS:
            break
    return shorten(shown)


def shorten(name: str) -> str:
    """Returns the beginning of a name from a request, for a message that is no longer than need be."""
    return name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}..."


def type_name(value: Any) -> str:
    """Returns what TensorFlow Serving calls the type of a JSON value; true and false are types of their own."""
    return str(value) if isinstance(value, bool) else _TYPES[type(value)]


def _parse_error(error: orjson.JSONDecodeError) -> str:
    sentence = next((ours for theirs, ours in _SENTENCES if theirs in error.msg), "Invalid value.")
    # The parser counts characters, and has no text to show where the body is not UTF-8.
    offset = len(error.doc[: error.pos].encode())
    return f"JSON Parse error: {sentence} at offset: {offset}"
