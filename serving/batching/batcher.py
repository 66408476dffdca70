"""Brings requests together in batches for the model.

Batches come by themselves: a model thread that is idle takes at once what is there, and while it runs, requests gather
for its next batch. Where there is more than one batch of them, those of similar length go together, so that short
texts are not padded to the length of long ones.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from serving.batching.jobs import Job, run
from serving.errors import Code, RequestError, too_late
from serving.model.loaded import Answers
from serving.repository.versions import Version

# Batches that are planned at once: none waits for more than the rest of its plan, however long its texts are.
_WINDOW = 4
_LOOK_SECONDS = 0.05
# A second batch beside the first pays only where a batch takes long. Where it takes a millisecond or two, it takes the
# processor from those who bring the next one, and both are half as large.
_LONG_SECONDS = 0.005
_PACE_BATCHES = 16


class Batcher:
    """A queue in front of the models, and the threads that run them.

    All methods are for the event loop on which the batcher was started.
    """

    def __init__(
        self,
        max_rows: int = 64,
        max_wait_ms: float = 0.0,
        max_queue_rows: int = 512,
        threads: int = 1,
        timeout: float = 5.0,
        ran: Callable[[str, int, float], None] = lambda model, rows, seconds: None,
    ):
        """Makes a batcher that does not run yet.

        Args:
            max_rows: Texts in a batch, unless one request brings more.
            max_wait_ms: How long a batch that is not full waits for more. Only while there is traffic: after a batch
                of a single request the next one goes at once.
            max_queue_rows: Texts that wait, above which requests are refused.
            threads: Batches that run at a time, where they take long; short ones run one by one.
            timeout: Seconds after which a request is refused, be it waiting or running.
            ran: Told of every batch, on the event loop: model, rows, seconds.
        """
        self._max_rows, self._max_wait, self._max_queue_rows = max_rows, max_wait_ms / 1000, max_queue_rows
        self._timeout, self._ran = timeout, ran
        self._queue: deque[Job] = deque()
        self._planned: deque[list[Job]] = deque()
        self._unanswered: deque[Job] = deque()
        self._look: asyncio.TimerHandle | None = None
        self._traffic = False
        self._rate = 0.0
        # Guards the plan and what is counted below; the queue is a deque, to which the loop appends without it.
        self._ready = threading.Condition(threading.Lock())
        self._idle = self._gathering = self._running = 0
        self._pace = 0.0
        self._stopping = False
        self._added = self._taken = 0
        self._waking = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"model-{number}", daemon=True) for number in range(threads)
        ]

    @property
    def queue_rows(self) -> int:
        """Texts that wait for the model."""
        return self._added - self._taken

    def start(self) -> None:
        """Starts the model threads; answers come back on the running event loop."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Ends the threads after what they are at; what still waits is refused."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join(seconds)
        if self._look:
            self._look.cancel()
        for job in self._unanswered:
            job.finish(RequestError(Code.UNAVAILABLE, "the server is stopping: try again"))

    def submit(self, version: Version, signature: str, inputs: list[bytes]) -> asyncio.Future[Answers]:
        """Classifies texts together with those of other requests.

        Args:
            version: What answers; the caller holds it in use.
            signature: Name of the signature.
            inputs: Its inputs, one at least.

        Returns:
            The answers, or a ``RequestError``: the time is over, or the model refuses an input. To cancel them is to
            drop the texts.

        Raises:
            RequestError: The queue is full.
        """
        rows = len(inputs)
        if self.queue_rows + rows > self._max_queue_rows:
            raise self._full()
        answers: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        now = time.monotonic()
        job = Job(version, signature, inputs, answers, now, now + self._timeout)
        self._unanswered.append(job)
        self._queue.append(job)
        self._added += rows
        if not self._waking and self._loop:
            # When all that came with this turn of the loop is here: a thread that is woken at once takes the first.
            self._waking = True
            self._loop.call_soon(self._wake)
        if self._look is None and self._loop:
            self._look = self._loop.call_later(_LOOK_SECONDS, self._expire)
        return answers

    def _wake(self) -> None:
        self._waking = False
        with self._ready:
            if self._gathering:
                if self.queue_rows >= self._max_rows:
                    self._ready.notify_all()
            elif self._idle and self._may_run:
                self._ready.notify()

    def _full(self) -> RequestError:
        seconds = math.ceil(self.queue_rows / self._rate) if self._rate else 1.0
        return RequestError(
            Code.RESOURCE_EXHAUSTED,
            f"{self.queue_rows} texts wait already, and {self._max_queue_rows} may: try again later",
            retry_after=float(min(max(seconds, 1), 60)),
        )

    def _expire(self) -> None:
        """Refuses what has waited too long. All requests have the same time, so the first in are the first out."""
        now, jobs = time.monotonic(), self._unanswered
        while jobs and (jobs[0].answers.done() or jobs[0].deadline <= now):
            jobs.popleft().finish(too_late(self._timeout))
        self._look = self._loop.call_later(_LOOK_SECONDS, self._expire) if jobs and self._loop else None

    def _work(self) -> None:
        loop = self._loop
        assert loop
        seconds: float | None = None
        while True:
            batch = self._take(seconds)
            if batch is None:
                return
            started = time.monotonic()
            results = run(batch)
            seconds = time.monotonic() - started
            try:
                loop.call_soon_threadsafe(self._finish, batch, results, seconds)
            except RuntimeError:
                # The loop has closed: nobody waits for answers.
                return
            # Until the next batch, which may be long in coming, they would keep texts and a version in memory.
            del batch, results

    def _take(self, ran: float | None) -> list[Job] | None:
        """Returns the next batch, as soon as there is one; None to stop.

        Args:
            ran: Seconds that the thread's last batch took; None before the first.
        """
        with self._ready:
            if ran is not None:
                self._running -= 1
                self._pace += (ran - self._pace) / _PACE_BATCHES
            while not self._stopping:
                if self._may_run:
                    if not self._planned:
                        self._wait_for_company()
                        self._plan()
                    batch = self._next_planned()
                    if batch:
                        self._running += 1
                        if self._idle and self._may_run and (self._planned or self._queue):
                            self._ready.notify()
                        return batch
                    if self._queue:
                        continue
                self._idle += 1
                self._ready.wait()
                self._idle -= 1
            return None

    @property
    def _may_run(self) -> bool:
        return not self._running or self._pace > _LONG_SECONDS

    def _next_planned(self) -> list[Job]:
        """Returns the first planned batch that somebody still waits for, or an empty one."""
        while self._planned:
            batch = self._planned.popleft()
            self._taken += sum(len(job.inputs) for job in batch)
            waiting = [job for job in batch if not job.answers.done()]
            if waiting:
                return waiting
        return []

    def _wait_for_company(self) -> None:
        if not (self._traffic and self._max_wait and self._queue):
            return
        until = self._queue[0].since + self._max_wait
        while self.queue_rows < self._max_rows and not self._stopping:
            left = until - time.monotonic()
            if left <= 0:
                return
            # Not counted as idle: each request would wake the thread up.
            self._gathering += 1
            self._ready.wait(left)
            self._gathering -= 1

    def _plan(self) -> None:
        """Moves what waits, or the oldest of it, from the queue into batches."""
        jobs: list[Job] = []
        rows, most = 0, self._max_rows * _WINDOW
        while self._queue and (not jobs or rows + len(self._queue[0].inputs) <= most):
            job = self._queue.popleft()
            if job.answers.done():
                self._taken += len(job.inputs)
                continue
            jobs.append(job)
            rows += len(job.inputs)
        if jobs:
            self._traffic = len(jobs) > 1
        if rows > self._max_rows:
            jobs.sort(key=lambda job: job.length)
        open_batches: dict[tuple[int, str], tuple[list[Job], int]] = {}
        for job in jobs:
            key = (id(job.version.loaded), job.signature)
            batch, filled = open_batches.get(key, ([], 0))
            if not batch or filled + len(job.inputs) > self._max_rows:
                batch, filled = [], 0
                self._planned.append(batch)
            batch.append(job)
            open_batches[key] = (batch, filled + len(job.inputs))

    def _finish(self, batch: list[Job], results: Sequence[Answers | RequestError], seconds: float) -> None:
        rows = sum(len(job.inputs) for job in batch)
        self._ran(batch[0].version.model, rows, seconds)
        self._rate = rows / max(seconds, 1e-6) * len(self._threads)
        for job, result in zip(batch, results, strict=True):
            job.finish(result)
