"""Defines the settings of a local server."""

import dataclasses
import os

from cmclrec_tf.errors import InputError
from serving.server import text_protos
from serving.server.limits import Limits

# TensorFlow Serving's path.
METRICS = "/monitoring/prometheus/metrics"


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of a local server, named like the flags of `tensorflow_model_server`.

    Attributes:
        rest_api_port: port of the REST interface and of the Prometheus metrics; 0 takes a free one,
            None serves neither.
        rest_api_timeout_in_ms: time that a REST request may take.
        model_config_file: ModelServerConfig file with models, version policies and labels; it
            replaces the single model.
        file_system_poll_wait_seconds: pause between two checks for new versions and for changes of
            the configuration file; 0 checks once.
        monitoring_config_file: MonitoringConfig file, which can move or switch off the metrics.
        enable_model_warmup: whether a version answers its warmup requests before it takes traffic.
        grpc_max_threads: requests answered at the same time; None means 16 per processor.
        tensorflow_intra_op_parallelism: threads of one operation; 0 lets TensorFlow choose.
        tensorflow_inter_op_parallelism: operations that run at the same time; 0 lets TensorFlow
            choose, and -1 runs all operations of a request in the thread of that request.
        limits: limits of one request, of all requests together and of connections.
        log_requests: whether every request is logged, without its content.

    Raises:
        InputError: a number is out of range.
    """

    rest_api_port: int | None = None
    rest_api_timeout_in_ms: int = 30_000
    model_config_file: str | None = None
    file_system_poll_wait_seconds: float = 1.0
    monitoring_config_file: str | None = None
    enable_model_warmup: bool = True
    grpc_max_threads: int | None = None
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    limits: Limits = Limits()
    log_requests: bool = False

    def __post_init__(self):
        if not 0 <= self.file_system_poll_wait_seconds < 1e6:
            raise InputError(
                f"file_system_poll_wait_seconds={self.file_system_poll_wait_seconds}",
                "it is at least 0",
                "Give it in seconds.",
            )
        for name in ("rest_api_timeout_in_ms", "grpc_max_threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}={value}", "it is at least 1", "Give a larger number.")

    @property
    def threads(self) -> int:
        """Number of requests answered at the same time."""
        return self.grpc_max_threads or 16 * (os.cpu_count() or 1)

    @property
    def metrics_path(self) -> str | None:
        """Path of the Prometheus metrics on the REST port; None if they are switched off.

        Raises:
            InputError: the MonitoringConfig file cannot be read.
        """
        if not self.monitoring_config_file:
            return METRICS
        config = text_protos.monitoring_config(self.monitoring_config_file).prometheus_config
        return (config.path or METRICS) if config.enable else None
