"""What the service counts, for Prometheus.

In a registry of its own, so that two services in one process do not mix their figures. Label
values come from short lists, never from a client.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what ``Metrics.render`` gives: Prometheus' text format."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one service; safe to use from any thread."""

    def __init__(self) -> None:
        """Start every counter at nought."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = Counter(
            "fashionclip_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "fashionclip_request_seconds",
            "From a request's first byte to its answer's last.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._in_flight = Gauge(
            "fashionclip_requests_in_flight", "Requests being answered.", registry=self._registry
        )
        self._rejected = Counter(
            "fashionclip_rejected",
            "Requests turned away, by why.",
            ("reason",),
            registry=self._registry,
        )
        self._batches = Histogram(
            "fashionclip_batch_size",
            "Inputs that the model was given at once.",
            ("kind",),
            buckets=_SIZES,
            registry=self._registry,
        )
        self._queue = Gauge(
            "fashionclip_queue_depth",
            "Requests that wait for a thread or are worked on in one.",
            ("line",),
            registry=self._registry,
        )
        self._products = Gauge(
            "fashionclip_products", "Products that are searched.", registry=self._registry
        )
        self._stale = Gauge(
            "fashionclip_index_stale",
            "1 where the index on disk cannot be followed.",
            registry=self._registry,
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request.

        Args:
            route: the route's template, such as ``/products/{id}``.
            method: the HTTP method; an unknown one counts as ``other``.
            status: the HTTP status.
            seconds: the time it took.
        """
        known = method if method in _METHODS else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def in_flight(self, requests: int) -> None:
        """Note how many requests are being answered."""
        self._in_flight.set(requests)

    def rejected(self, reason: str) -> None:
        """Count a request that was turned away; the reason is one of this package's own words."""
        self._rejected.labels(reason).inc()

    def batch(self, kind: str, size: int) -> None:
        """Count a batch that the model was given: of ``texts`` or of ``pictures``."""
        self._batches.labels(kind).observe(size)

    def queued(self, line: str, depth: int) -> None:
        """Note how many requests are in a line: ``questions``, ``pictures`` or ``changes``."""
        self._queue.labels(line).set(depth)

    def index(self, products: int, *, is_stale: bool) -> None:
        """Note how many products there are, and whether the files can be followed."""
        self._products.set(products)
        self._stale.set(is_stale)

    def render(self) -> bytes:
        """Everything counted, as ``CONTENT_TYPE`` says."""
        return generate_latest(self._registry)
