"""What a request is refused with, and TensorFlow's errors in the same words and codes."""

import re
from enum import Enum

_MOST_CHARACTERS = 500
_NODE = re.compile(r"\[?\[?\{\{.*?\}\}\]?\]?|\[Op:\w+\]")
# Where it happened, before what happened; a SavedModel does not know the lines of its source.
_WHERE = re.compile(r"Graph execution error:(?:.*<stack traces unavailable>)?", re.DOTALL)


class Code(Enum):
    """Canonical codes by their gRPC names; the value is the HTTP status that TensorFlow Serving answers with."""

    OK = (0, 200)
    CANCELLED = (1, 499)
    UNKNOWN = (2, 500)
    INVALID_ARGUMENT = (3, 400)
    DEADLINE_EXCEEDED = (4, 504)
    NOT_FOUND = (5, 404)
    ALREADY_EXISTS = (6, 409)
    PERMISSION_DENIED = (7, 403)
    RESOURCE_EXHAUSTED = (8, 429)
    FAILED_PRECONDITION = (9, 400)
    ABORTED = (10, 409)
    OUT_OF_RANGE = (11, 400)
    UNIMPLEMENTED = (12, 501)
    INTERNAL = (13, 500)
    UNAVAILABLE = (14, 503)
    UNAUTHENTICATED = (16, 401)
    # Not one of gRPC's: a body above the limit, which the proxy in front of TensorFlow Serving refuses the same way.
    TOO_LARGE = (-1, 413)

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.value[1]


CODES = {code.value[0]: code for code in Code}
"""By gRPC's numbers."""


class RequestError(Exception):
    """A request that is not answered.

    Attributes:
        code: Why, as a canonical code.
        message: The same for people, as TensorFlow Serving words it where it does.
        retry_after: Seconds after which to try again, for a queue that is full.
    """

    def __init__(self, code: Code, message: str, retry_after: float | None = None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


def too_late(seconds: float) -> RequestError:
    """Returns the refusal of a request that had no answer in so many seconds."""
    return RequestError(Code.DEADLINE_EXCEEDED, f"no answer within {seconds:g} seconds: the server is overloaded")


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
