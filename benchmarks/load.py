"""An open-loop load generator over HTTP/1.1 that is light enough to share two cores with what it measures.

    .venv/bin/python benchmarks/load.py http://127.0.0.1:8501/v1/models/ag_news:predict --rate 500 --seconds 10

Requests are sent at times that were drawn before (a Poisson process), whatever becomes of the earlier ones, and a
latency counts from the time at which its request was due: a server that stalls is charged for everybody who would have
come meanwhile, which a loop that waits for each answer hides ("coordinated omission").
"""

import argparse
import gc
import json
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
# Below it, the kernel's timer decides; epoll counts in milliseconds and is always late.
_FINE_SECONDS = 0.002


@dataclass
class Result:
    """What came of a run.

    Attributes:
        rate: Requests a second that were due.
        latencies: Seconds from when a request was due to its answer, float64 [N]; NaN without an answer.
        due: When each was due, in seconds from the start, float64 [N].
        waits: Seconds from when a request was sent to its answer, float64 [N]: what the server alone can be charged
            with, once more is due than the generator can send.
        statuses: Answers by HTTP status; 0 for none.
        lag: Seconds by which the generator itself was late to send, 99th percentile: above a few milliseconds it is
            the generator, or a server that holds all connections, that is measured.
        seconds: From the first request due to the last answer.
        bodies: How often each body came, by number of the payload, where that was asked for.
        retry_after: Refusals that said when to come again.
    """

    rate: float
    latencies: np.ndarray
    waits: np.ndarray
    due: np.ndarray
    statuses: Counter[int]
    lag: float
    seconds: float
    bodies: Counter[tuple[int, bytes]] = field(default_factory=Counter)
    retry_after: int = 0

    @property
    def errors(self) -> int:
        """Requests without an answer of status 200."""
        return sum(count for status, count in self.statuses.items() if status != 200)

    @property
    def answered_rate(self) -> float:
        """Answers of status 200 a second."""
        return self.statuses[200] / self.seconds

    def percentile(self, percent: float) -> float:
        """Returns a percentile of the latencies in milliseconds; infinite where requests without an answer reach it."""
        latencies = np.where(np.isnan(self.latencies), np.inf, self.latencies)
        return float(np.percentile(latencies, percent, method="higher")) * 1000


class _Connection:
    __slots__ = ("buffer", "busy", "need", "sock")

    def __init__(self, address: tuple[str, int]):
        self.sock = socket.create_connection(address, timeout=5)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.buffer = b""
        self.busy = -1
        self.need = 0


def make_request(url: str, body: bytes, token: str | None = None) -> bytes:
    """Returns the bytes of a POST."""
    parts = urlsplit(url)
    bearer = f"authorization: Bearer {token}\r\n" if token else ""
    head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n{bearer}"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


def run(
    address: tuple[str, int],
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    connections: int = 256,
    patience: float = 10.0,
    keep_bodies: bool = False,
    seed: int = 0,
) -> Result:
    """Sends requests at random times and measures the answers.

    Args:
        address: Host and port.
        requests: Whole requests, sent in turn.
        rate: A second, on average.
        seconds: For how long they are due.
        connections: At most; more are due at the client than the server is asked at a time only beyond that.
        patience: Seconds to wait for answers after the last request.
        keep_bodies: Whether to keep count of the bodies.
        seed: Of the times.
    """
    count = max(1, round(rate * seconds))
    gaps = np.random.default_rng(seed).exponential(1 / rate, count)
    due_array = np.cumsum(gaps) - gaps[0]
    generator = _Generator(address, requests, due_array.tolist(), connections, keep_bodies)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return generator.run(rate, due_array, patience)
    finally:
        generator.close()
        if was_enabled:
            gc.enable()


class _Generator:
    def __init__(
        self, address: tuple[str, int], requests: Sequence[bytes], due: list[float], most: int, keep_bodies: bool
    ):
        self.address, self.requests, self.due, self.most, self.keep_bodies = address, requests, due, most, keep_bodies
        self.epoll = select.epoll()
        self.by_fd: dict[int, _Connection] = {}
        self.idle: list[_Connection] = []
        self.waiting: deque[int] = deque()
        self.latencies = [float("nan")] * len(due)
        self.sent = [float("nan")] * len(due)
        self.statuses: Counter[int] = Counter()
        self.bodies: Counter[tuple[int, bytes]] = Counter()
        self.retry_after = 0
        self.done = 0

    def run(self, rate: float, due_array: np.ndarray, patience: float) -> Result:
        due, total, clock = self.due, len(self.due), time.perf_counter
        for _ in range(min(self.most, 16)):
            self._open()
        position, start = 0, clock() + 0.01
        self.start = start
        until = start + due[-1] + patience
        last = start
        while self.done < total:
            now = clock()
            elapsed = now - start
            while position < total and due[position] <= elapsed:
                self.waiting.append(position)
                position += 1
            while self.waiting and (self.idle or len(self.by_fd) < self.most):
                self._send(self.waiting.popleft(), elapsed)
            if now > until:
                break
            wait = max(0.0, start + due[position] - clock()) if position < total else 0.05
            for fd, _ in self._poll(wait):
                self._receive(self.by_fd[fd])
                last = clock()
        missing = total - self.done
        if missing:
            self.statuses[0] += missing
        lags = np.array(self.sent) - due_array
        lag = float(np.nanpercentile(lags, 99)) if self.done else 0.0
        latencies = np.array(self.latencies)
        return Result(
            rate,
            latencies,
            latencies - lags,
            due_array,
            self.statuses,
            lag,
            max(last - start, 1e-9),
            self.bodies,
            self.retry_after,
        )

    def _poll(self, wait: float) -> list[tuple[int, int]]:
        if wait > _FINE_SECONDS:
            return self.epoll.poll(wait - 0.001)
        if wait > 0:
            select.select([self.epoll.fileno()], [], [], wait)
        return self.epoll.poll(0)

    def _open(self) -> None:
        connection = _Connection(self.address)
        self.by_fd[connection.sock.fileno()] = connection
        self.epoll.register(connection.sock.fileno(), select.EPOLLIN)
        self.idle.append(connection)

    def _send(self, number: int, elapsed: float) -> None:
        self.sent[number] = elapsed
        request = self.requests[number % len(self.requests)]
        # A connection that the server has closed while it was idle is tried again on a new one, as clients do.
        for _ in range(2):
            try:
                if not self.idle:
                    self._open()
            except OSError:
                break
            connection = self.idle.pop()
            connection.busy = number
            try:
                connection.sock.send(request)
                return
            except OSError:
                self._drop(connection)
        self._finish(number, 0)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            number = connection.busy
            self._drop(connection)
            if number >= 0:
                self._finish(number, 0)
            return
        if connection.buffer:
            data = connection.buffer + data
        end = data.find(_HEAD_END)
        if end < 0:
            connection.buffer = data
            return
        head = data[:end].lower()
        place = head.find(_LENGTH)
        stop = head.find(b"\r", place)
        length = int(head[place + len(_LENGTH) : stop if stop > 0 else end]) if place > 0 else 0
        if len(data) < end + 4 + length:
            connection.buffer = data
            return
        connection.buffer = b""
        number, connection.busy = connection.busy, -1
        status = int(data[9:12])
        if self.keep_bodies:
            self.bodies[number % len(self.requests), data[end + 4 : end + 4 + length]] += 1
        if status == 429 and b"\r\nretry-after:" in head:
            self.retry_after += 1
        if b"\r\nconnection: close" in head:
            self._drop(connection)
        else:
            self.idle.append(connection)
        if number >= 0:
            self._finish(number, status)

    def _finish(self, number: int, status: int) -> None:
        if status == 200:
            self.latencies[number] = time.perf_counter() - self.start - self.due[number]
        self.statuses[status] += 1
        self.done += 1

    def _drop(self, connection: _Connection) -> None:
        fd = connection.sock.fileno()
        if fd >= 0 and fd in self.by_fd:
            del self.by_fd[fd]
            self.epoll.unregister(fd)
        if connection in self.idle:
            self.idle.remove(connection)
        connection.sock.close()

    def close(self) -> None:
        for connection in list(self.by_fd.values()):
            connection.sock.close()
        self.epoll.close()


def main() -> None:
    """Runs once and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--text", action="append", help="a headline; may be repeated")
    arguments = parser.parse_args()
    parts = urlsplit(arguments.url)
    texts = arguments.text or ["Central bank raises rates as inflation outpaces wages"]
    requests = [make_request(arguments.url, json.dumps({"instances": [text]}).encode()) for text in texts]
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    result = run(address, requests, arguments.rate, arguments.seconds, arguments.connections)
    shown = ", ".join(f"p{percent:g} {result.percentile(percent):.1f} ms" for percent in (50, 90, 99, 99.9))
    print(f"{result.answered_rate:.0f} answers/s of {result.rate:.0f} due: {shown}; statuses {dict(result.statuses)}")
    print(f"the generator was late by {result.lag * 1000:.1f} ms at p99")


if __name__ == "__main__":
    main()
