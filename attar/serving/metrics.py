"""Prometheus metrics of one server, in a registry of their own."""

from collections.abc import Callable
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        own = self.registry
        self.requests = Counter("attar_requests", "Answered requests.", ["route", "status"], registry=own)
        self.request_seconds = Histogram(
            "attar_request_seconds", "Request to answer.", ["route"], registry=own, buckets=_SECONDS
        )
        self.texts = Counter("attar_texts", "Texts that a task was asked about.", ["task", "outcome"], registry=own)
        self.waited_seconds = Histogram("attar_waited_seconds", "Wait for a batch.", registry=own, buckets=_SECONDS)
        self.batch_seconds = Histogram("attar_batch_seconds", "Time of a batch.", registry=own, buckets=_SECONDS)
        self.batch_texts = Histogram("attar_batch_texts", "Texts a batch.", registry=own, buckets=_ROWS)
        self._queued = Gauge("attar_queued_texts", "Texts that wait.", registry=own)
        self._running = Gauge("attar_running_requests", "Requests that are being answered.", registry=own)

    def watch(self, queued: Callable[[], int], running: Callable[[], int]) -> None:
        """Read the gauges' values from functions whenever the metrics are asked for."""
        self._queued.set_function(queued)
        self._running.set_function(running)

    def batch(self, rows: int, seconds: float) -> None:
        """Note a batch."""
        self.batch_texts.observe(rows)
        self.batch_seconds.observe(seconds)

    def forget(self, task: str) -> None:
        """Drop the series of a task that was removed, so that their number stays bounded."""
        for outcome in ("ok", "refused", "failed"):
            with suppress(KeyError):
                self.texts.remove(task, outcome)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
