"""TensorFlow's errors in the words and codes of the server."""

import re

from serving.errors import CODES, Code, RequestError

_MOST_CHARACTERS = 500
_NODE = re.compile(r"\[?\[?\{\{.*?\}\}\]?\]?|\[Op:\w+\]")
# Where it happened, before what happened; a SavedModel does not know the lines of its source.
_WHERE = re.compile(r"Graph execution error:(?:.*<stack traces unavailable>)?", re.DOTALL)


def code_of(error: Exception) -> Code:
    """Returns the canonical code of an exception: TensorFlow's own where it has one.

    A code that the server has no name for, such as TensorFlow's DATA_LOSS, is ``INTERNAL``.
    """
    if isinstance(error, RequestError):
        return error.code
    if isinstance(error, MemoryError):
        return Code.RESOURCE_EXHAUSTED
    number = getattr(error, "error_code", None)
    return CODES.get(number, Code.INTERNAL) if isinstance(number, int) else Code.INTERNAL


def message_of(error: Exception) -> str:
    """Returns what went wrong in one line, without the names of nodes of the graph."""
    message = getattr(error, "message", None)
    text = _WHERE.sub("", message if isinstance(message, str) else str(error))
    lines = (_NODE.sub("", line).strip() for line in text.splitlines())
    return next(filter(None, lines), type(error).__name__)[:_MOST_CHARACTERS]
