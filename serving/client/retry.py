"""Tries a call again: a bounded number of times, after waits that grow and are drawn at random."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from serving.errors import RequestError

T = TypeVar("T")


class PassingError(RequestError):
    """A refusal that may pass: the same request may be answered a moment later."""


@dataclass(frozen=True)
class Retry:
    """How often and when.

    A wait is drawn between zero and a bound that doubles, so that clients that were refused together do not come back
    together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). A server that says how long
    to wait is waited for that long and the drawn wait more.

    Attributes:
        retries: After the first attempt, 0 or more.
        first_seconds: The bound of the first wait.
        longest_seconds: The bound that is not doubled further, and the longest wait a server may ask for; when it asks
            for more, its refusal is final.
        sleep, draw: ``time.sleep`` and ``random.uniform``, for tests.
    """

    retries: int = 4
    first_seconds: float = 0.1
    longest_seconds: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[float, float], float] = random.uniform

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}: it must be 0 or more")

    def call(self, attempt: Callable[[], T]) -> T:
        """Returns what ``attempt`` does, once it raises no ``PassingError``.

        Raises:
            PassingError: That of the last attempt.
            RequestError: Any other, of any attempt, at once.
        """
        bound = self.first_seconds
        for _ in range(self.retries):
            try:
                return attempt()
            except PassingError as error:
                asked = error.retry_after or 0.0
                if asked > self.longest_seconds:
                    raise
                wait = asked + self.draw(0.0, bound)
            self.sleep(wait)
            bound = min(2 * bound, self.longest_seconds)
        return attempt()
