"""Which model, version and action a path of TensorFlow Serving's REST API is about.

After ``model_servers/http_rest_api_handler.cc`` of its version 2.20.
"""

import re
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import unquote

from serving.errors import RequestError
from serving.protocol.json_body import invalid, shorten

Action = Literal["predict", "classify", "regress", "status", "metadata"]

_MOST_VERSION = 2**63 - 1
_SPECIFIC = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_FLAGS = re.IGNORECASE | re.ASCII
_ASK = re.compile(rf"/v1/models/(?P<model>[^/:]+){_SPECIFIC}:(?P<action>classify|regress|predict)", _FLAGS)
_LOOK = re.compile(rf"/v1/models(?:/(?P<model>[^/:]+))?{_SPECIFIC}(?:/(?P<action>metadata))?", _FLAGS)


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about. ``model`` is a name to look up and never a part of a path; at most one of the others."""

    model: str
    version: int | None
    label: str | None
    action: Action


def parse_target(method: str, path: str) -> Target:
    """Returns what a request below ``/v1/`` is about.

    Args:
        method: HTTP method.
        path: As sent: not decoded, and with the query if there is one, which TensorFlow Serving takes for a part of
            the path.

    Raises:
        RequestError: ``INVALID_ARGUMENT``, for a wrong method as well as for a wrong path.
    """
    pattern = {"POST": _ASK, "GET": _LOOK}.get(method)
    found = pattern.fullmatch(path) if pattern else None
    if not found:
        raise _malformed(method, path)
    model, version, label, action = found.group("model", "version", "label", "action")
    if method == "GET":
        # Any other spelling of "metadata" matches the path too, and is answered with the status.
        action = "metadata" if action == "metadata" else "status"
        if model is None:
            raise invalid("Missing model name in request.")
    elif not action.islower():
        raise _malformed(method, path)
    return Target(
        unquote(model) if "%" in model else model,
        None if version is None else parse_version(version),
        None if label is None else unquote(label),
        cast(Action, action),
    )


def parse_version(digits: str) -> int:
    """Returns the number of a version.

    Raises:
        RequestError: It is not made of digits, or above int64.
    """
    significant = digits.lstrip("0")
    # The length is looked at first: Python refuses to convert some thousand digits, and takes long for fewer.
    if digits.isascii() and digits.isdigit() and len(significant) <= len(str(_MOST_VERSION)):
        version = int(significant or "0")
        if version <= _MOST_VERSION:
            return version
    raise invalid(f"Failed to convert version: {shorten(digits)} to numeric.")


def _malformed(method: str, path: str) -> RequestError:
    return invalid(f"Malformed request: {method} {path}")
