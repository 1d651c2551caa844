"""Dynamic batching: rows of many requests run through the models together, on a thread of their own.

The thread takes what waits as soon as it is free, and waits itself only while it has nothing to do and the batch is not
full, at most the stated time. Requests take turns, so that a large one does not hold up the small ones behind it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from attar.inference.predictor import Prediction

#: The task's name, the text (or its words), and the second text of a pair.
Row = tuple[str, Any, str | None]
#: What came of a row: a prediction, or why there is none.
Outcome = Prediction | Exception

_LOG = logging.getLogger("attar.serving")


class QueueFull(Exception):
    """No room for more rows; ``retry_after`` says in how many seconds there should be."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True)
class Answer:
    """The outcomes of a request's rows in order, and the seconds they waited and ran."""

    outcomes: list[Outcome]
    waited: float
    computed: float


@dataclass
class _Job:
    rows: Sequence[Row]
    future: "Future[Answer]"
    arrived: float
    outcomes: list[Outcome | None] = field(default_factory=list)
    taken: int = 0
    missing: int = 0
    waited: float = 0.0
    computed: float = 0.0


class Batcher:
    """A bounded queue of rows and the one thread that runs them.

    One thread, because the models use all cores by themselves and tokenizers must not be used by two threads at once.

    Args:
        score: called on the thread with the rows of a batch; returns an outcome for each.
        batch: rows a batch.
        wait: seconds that a row may wait for others while the thread is idle.
        queue: rows that may wait.
        observe: called on the thread after every batch with (rows, seconds).
    """

    def __init__(
        self,
        score: Callable[[Sequence[Row]], Sequence[Outcome]],
        *,
        batch: int,
        wait: float,
        queue: int,
        observe: Callable[[int, float], None] | None = None,
    ) -> None:
        self._score, self._batch, self._wait, self._limit = score, batch, wait, queue
        self._observe = observe or (lambda rows, seconds: None)
        self._jobs: deque[_Job] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._queued = 0
        self._closing = False
        self._rate = 0.0  # rows a second, smoothed over batches
        self._thread = threading.Thread(target=self._work, name="attar-models", daemon=True)

    @property
    def queued(self) -> int:
        """Rows that wait."""
        return self._queued

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Take no more rows, finish those that wait, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def submit(self, rows: Sequence[Row]) -> "Future[Answer]":
        """Queue the rows of one request. Cancelling the future takes out those that do not run yet.

        Raises:
            QueueFull: where they do not all fit.
        """
        job = _Job(rows, Future(), time.monotonic(), [None] * len(rows), missing=len(rows))
        with self._changed:
            if self._closing or self._queued + len(rows) > self._limit:
                raise QueueFull(self._retry_after())
            self._jobs.append(job)
            self._queued += len(rows)
            self._changed.notify()
        job.future.add_done_callback(lambda future: self._forget(job) if future.cancelled() else None)
        return job.future

    def call(self, function: Callable[[], Any]) -> "Future[Any]":
        """Run a function on the thread, between two batches: what changes models must not meet one that runs."""
        future: Future[Any] = Future()
        with self._changed:
            if self._closing:
                raise QueueFull(self._retry_after())
            self._calls.append((function, future))
            self._changed.notify()
        return future

    def _retry_after(self) -> int:
        return min(60, max(1, round(self._queued / self._rate))) if self._rate else 1

    def _forget(self, job: _Job) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                self._queued -= len(job.rows) - job.taken

    def _work(self) -> None:
        while (work := self._next()) is not None:
            if callable(work):
                work()
            else:
                self._run(work)

    def _next(self) -> "Callable[[], None] | list[tuple[_Job, int]] | None":
        """Wait for work: a call, or the places (job, row number) of a batch. None: closed, and nothing is left."""
        with self._changed:
            while True:
                if self._calls:
                    function, future = self._calls.popleft()
                    return lambda: _settle(function, future)
                if self._jobs:
                    patience = self._jobs[0].arrived + self._wait - time.monotonic()
                    if self._queued >= self._batch or patience <= 0 or self._closing:
                        return self._take()
                    self._changed.wait(patience)
                elif self._closing:
                    return None
                else:
                    self._changed.wait()

    def _take(self) -> "list[tuple[_Job, int]]":
        share = max(1, self._batch // len(self._jobs))
        taken: list[tuple[_Job, int]] = []
        now = time.monotonic()
        while self._jobs and len(taken) < self._batch:
            job = self._jobs.popleft()
            if job.taken == 0:
                job.waited = now - job.arrived
            end = min(len(job.rows), job.taken + min(share, self._batch - len(taken)))
            taken += [(job, row) for row in range(job.taken, end)]
            job.taken = end
            if end < len(job.rows):
                self._jobs.append(job)
        self._queued -= len(taken)
        return taken

    def _run(self, places: "list[tuple[_Job, int]]") -> None:
        started = time.monotonic()
        rows = [job.rows[row] for job, row in places]
        outcomes: Sequence[Outcome]
        try:
            outcomes = self._score(rows)
        except Exception as error:  # the thread must outlive whatever a model does
            outcomes = [error] * len(rows)
        seconds = time.monotonic() - started
        speed = len(rows) / max(seconds, 1e-6)
        self._rate = 0.8 * self._rate + 0.2 * speed if self._rate else speed
        for (job, row), outcome in zip(places, outcomes, strict=True):
            job.outcomes[row] = outcome
            job.missing -= 1
        for job in {id(job): job for job, _ in places}.values():
            job.computed += seconds
            if not job.missing:
                _give(job.future, Answer([o for o in job.outcomes if o is not None], job.waited, job.computed))
        self._observe(len(rows), seconds)


def _settle(function: Callable[[], Any], future: "Future[Any]") -> None:
    try:
        result = function()
    except Exception as error:
        if not future.cancelled():
            future.set_exception(error)
        return
    _give(future, result)


def _give(future: "Future[Any]", result: Any) -> None:
    try:
        future.set_result(result)
    except InvalidStateError:  # cancelled: nobody waits any more
        _LOG.debug("dropped the answer of a request that was given up")
