"""The time that a request has until it is refused."""

import time

from serving.errors import Code, RequestError


class Deadline:
    """When a request is to be refused; any thread may look."""

    def __init__(self, seconds: float):
        """Begins to count the seconds."""
        self._seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left, 0 when there are none."""
        return max(self._at - time.monotonic(), 0.0)

    @property
    def error(self) -> RequestError:
        """The refusal of the request."""
        return too_late(self._seconds)

    def check(self) -> None:
        """Lets work go on that somebody still waits for.

        Raises:
            RequestError: The time is over.
        """
        if not self.left:
            raise self.error


def too_late(seconds: float) -> RequestError:
    """Returns the refusal of a request that had no answer in so many seconds."""
    return RequestError(Code.DEADLINE_EXCEEDED, f"no answer within {seconds:g} seconds: the server is overloaded")
