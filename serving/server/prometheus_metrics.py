"""What Prometheus reads of a local server."""

import prometheus_client as prometheus

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
_PREFIX = "cmclrec_serving"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Metrics:
    """Counters and histograms of one server, in a registry of its own.

    Labels hold names of models, signatures and statuses that the server knows; what a request
    makes up is counted under "".
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
            "From a read request to its answer.",
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
            "Versions that loaded or failed to.",
            ["model", "result"],
            registry=registry,
        )
        self._available = prometheus.Gauge(
            f"{_PREFIX}_version_available",
            "1 while a version answers.",
            ["model", "version"],
            registry=registry,
        )
        self._in_flight = prometheus.Gauge(
            f"{_PREFIX}_requests_in_flight", "Requests being answered.", registry=registry
        )

    def text(self):
        """All of them in Prometheus' text format, as bytes."""
        return prometheus.generate_latest(self._registry)

    def in_flight(self):
        """Counts a request while the block lasts."""
        return self._in_flight.track_inprogress()

    def request(self, interface, model, version, signature, status, seconds, rows) -> None:
        """Counts an answered request; `rows` is None where it was never read."""
        self._requests.labels(model, str(version), signature, interface, status).inc()
        self._seconds.labels(model, signature, interface).observe(seconds)
        if rows is not None:
            self._rows.labels(model, signature).observe(rows)

    def load(self, model, loaded) -> None:
        """Counts a version that loaded, or failed to."""
        self._loads.labels(model, "loaded" if loaded else "failed").inc()

    def versions(self, available) -> None:
        """Sets which versions answer, `{model: versions}`."""
        self._available.clear()
        for model, versions in available.items():
            for version in versions:
                self._available.labels(model, str(version)).set(1)
