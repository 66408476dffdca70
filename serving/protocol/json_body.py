"""Reads a JSON body within its limits.

Arrays and objects are counted before the body is parsed: each one that a parser makes costs memory and time. A body of
1 MiB can hold 350,000 empty arrays, which take longer to make and to walk through than any request may.
"""

import json
from typing import Any

import numpy as np
import orjson

from serving.errors import Code, RequestError

_SHOWN_CHARACTERS = 200
_GZIP = b"\x1f\x8b"
_QUOTE = ord('"')
# Setting this bit turns [ and ] into { and }, and no other byte into either.
_TO_BRACE = ord("{") ^ ord("[")
_OPEN, _CLOSE = ord("{"), ord("}")
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
        found_containers, found_depth = measure(body)
        if found_depth > depth:
            raise invalid(f"JSON Parse error: More than {depth} arrays and objects within each other")
        if found_containers > containers:
            raise invalid(f"JSON Parse error: More than {containers} arrays and objects")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if type(document) is not dict:
        raise invalid(f"JSON Value: {show(document)} Is not object")
    return document


def most_containers(body: bytes) -> int:
    """Returns a number that the containers of a body do not exceed, and their depth neither; those in strings count."""
    return body.count(b"[") + body.count(b"{")


def measure(body: bytes) -> tuple[int, int]:
    """Returns the number of arrays and objects in a body, and the most of them within each other; none in a string.

    Of a body that is no JSON they mean nothing. Vectors all the way, so that every body of a size takes the same few
    milliseconds for 1 MiB.
    """
    # In this order: a backslash that is escaped escapes no quote.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    characters = np.frombuffer(plain, np.uint8)
    # A sum of bytes goes round at 256, which keeps its parity.
    outside = np.cumsum(characters == _QUOTE, dtype=np.uint8) & 1 == 0
    folded = characters | _TO_BRACE
    opened = (folded == _OPEN) & outside
    closed = (folded == _CLOSE) & outside
    level = np.cumsum(opened.view(np.int8) - closed.view(np.int8), dtype=np.int32)
    return int(np.count_nonzero(opened)), int(level.max(initial=0))


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
