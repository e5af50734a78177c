"""Collects the metrics of a local server for Prometheus."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager

import prometheus_client as prometheus

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
_PREFIX = "cmclrec_serving"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Metrics:
    """Counters and histograms of one server, in their own registry.

    Labels contain only models, signatures and statuses that the server knows. A request with an
    unknown name is counted under "", so that callers cannot create new labels.
    """

    def __init__(self):
        registry = self._registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            f"{_PREFIX}_requests",
            "Answered requests by status.",
            ["model", "version", "signature", "interface", "status"],
            registry=registry,
        )
        self._seconds = prometheus.Histogram(
            f"{_PREFIX}_request_seconds",
            "Time from a received request to its answer.",
            ["model", "signature", "interface"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = prometheus.Histogram(
            f"{_PREFIX}_request_rows",
            "Users in a request.",
            ["model", "signature"],
            buckets=_SIZES,
            registry=registry,
        )
        self._loads = prometheus.Counter(
            f"{_PREFIX}_loads",
            "Versions that loaded or failed to load.",
            ["model", "result"],
            registry=registry,
        )
        self._available = prometheus.Gauge(
            f"{_PREFIX}_version_available",
            "1 while a version answers requests.",
            ["model", "version"],
            registry=registry,
        )
        self._in_flight = prometheus.Gauge(
            f"{_PREFIX}_requests_in_flight", "Requests being answered.", registry=registry
        )

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return prometheus.generate_latest(self._registry)

    def in_flight(self) -> AbstractContextManager[None]:
        """Counts a request as in flight for the duration of a block."""
        return self._in_flight.track_inprogress()

    def request(
        self,
        interface: str,
        model: str,
        version: int,
        signature: str,
        status: str,
        seconds: float,
        rows: int | None,
    ) -> None:
        """Counts an answered request; `rows` is None if its inputs were not decoded."""
        self._requests.labels(model, str(version), signature, interface, status).inc()
        self._seconds.labels(model, signature, interface).observe(seconds)
        if rows is not None:
            self._rows.labels(model, signature).observe(rows)

    def load(self, model: str, loaded: bool) -> None:
        """Counts a version that loaded or failed to load."""
        self._loads.labels(model, "loaded" if loaded else "failed").inc()

    def versions(self, available: Mapping[str, Iterable[int]]) -> None:
        """Replaces the versions that answer requests, `{model: versions}`."""
        self._available.clear()
        for model, versions in available.items():
            for version in versions:
                self._available.labels(model, str(version)).set(1)
