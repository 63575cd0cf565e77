"""The service's metrics in Prometheus format.

Each service has its own registry, so that two services in one process do not mix their metrics.
Label values come from fixed lists, never from a client. Several workers keep their values in
files of one folder, so that each can answer for all; what is of one process has the label ``pid``.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of ``Metrics.render``: Prometheus' text format."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one service; safe to use from any thread."""

    def __init__(self, *, shared: Path | None = None) -> None:
        """Start every counter at 0.

        Args:
            shared: the folder that several workers share, ``PROMETHEUS_MULTIPROC_DIR``; it must be
                in the environment before this module is imported. None for one worker.
        """
        self._registry = self._shown = CollectorRegistry()
        if shared is None:
            ProcessCollector(registry=self._registry)
        else:
            self._shown = CollectorRegistry()
            MultiProcessCollector(self._shown, path=str(shared))  # type: ignore[no-untyped-call]
            self._shown.register(_WorkerProcesses(shared))
        PlatformCollector(registry=self._shown)
        self._requests = Counter(
            "fashionclip_requests",
            "Answered requests.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "fashionclip_request_seconds",
            "Time from a request's first byte to its answer's last byte.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._in_progress = Gauge(
            "fashionclip_requests_in_flight",
            "Requests in progress.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._rejected = Counter(
            "fashionclip_rejected",
            "Rejected requests by reason.",
            ("reason",),
            registry=self._registry,
        )
        self._batches = Histogram(
            "fashionclip_batch_size",
            "Items computed together, by batcher.",
            ("batcher",),
            buckets=_SIZES,
            registry=self._registry,
        )
        self._queue = Gauge(
            "fashionclip_queue_depth",
            "Pending requests by queue, including those in progress.",
            ("queue",),
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._products = Gauge(
            "fashionclip_products",
            "Products in the index.",
            registry=self._registry,
            multiprocess_mode="livemostrecent",
        )
        self._stale = Gauge(
            "fashionclip_index_stale",
            "1 while the store cannot be read and answers come from memory.",
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self._switches = Counter(
            "fashionclip_switches",
            "Times that a worker went to another store, or could not.",
            ("outcome",),
            registry=self._registry,
        )
        self._switch_failed = Gauge(
            "fashionclip_switch_failed",
            "1 while the alias names a store that cannot be opened, and the one before answers.",
            registry=self._registry,
            multiprocess_mode="livemax",
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request.

        Args:
            route: the route's template, such as ``/products/{id}``.
            method: the HTTP method; an unknown method counts as ``other``.
            status: the HTTP status.
            seconds: the time it took.
        """
        known = method if method in _METHODS else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def in_progress(self, requests: int) -> None:
        """Set the number of requests in progress."""
        self._in_progress.set(requests)

    def rejected(self, reason: str) -> None:
        """Count a rejected request; the reason is an error code of this package."""
        self._rejected.labels(reason).inc()

    def batch(self, batcher: str, size: int) -> None:
        """Count a batch of one batcher."""
        self._batches.labels(batcher).observe(size)

    def pending(self, queue: str, n: int) -> None:
        """Set the number of pending requests of a queue."""
        self._queue.labels(queue).set(n)

    def index(self, products: int, *, is_stale: bool) -> None:
        """Set the number of products, and whether the store cannot be read."""
        self._products.set(products)
        self._stale.set(is_stale)

    def switched(self, *, has_failed: bool) -> None:
        """Count a switch to another store."""
        self._switches.labels("failed" if has_failed else "done").inc()

    def switch_state(self, *, has_failed: bool) -> None:
        """Set whether the alias names a store that cannot be opened."""
        self._switch_failed.set(has_failed)

    def render(self) -> bytes:
        """All metrics, of all workers, in the format of ``CONTENT_TYPE``."""
        return generate_latest(self._shown)


class _WorkerProcesses:
    """Memory, CPU time and files of each worker that lives, with its process id as a label."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """The metrics of ``ProcessCollector``, of all workers."""
        found: dict[str, Metric] = {}
        for path in self._folder.glob("gauge_livesum_*.db"):  # removed when its worker has ended
            pid = path.stem.rpartition("_")[2]
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                family = found.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                family.samples += [one._replace(labels={"pid": pid}) for one in metric.samples]
        return found.values()
