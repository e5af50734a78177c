"""How a local server is set up."""

import dataclasses
import os

from cmclrec_tf.errors import InputError
from serving.server import text_protos
from serving.server.limits import Limits

# TensorFlow Serving's own.
METRICS = "/monitoring/prometheus/metrics"


@dataclasses.dataclass(frozen=True)
class Options:
    """Everything but what is served and where; names are `tensorflow_model_server`'s flags.

    Attributes:
        rest_api_port: of the REST interface and Prometheus' metrics; 0 takes a free one, None
            serves neither.
        rest_api_timeout_in_ms: that a REST request may take.
        model_config_file: ModelServerConfig with models, policies and labels, in the place of one
            model.
        file_system_poll_wait_seconds: between two looks for versions and at the configuration
            file; 0 looks once.
        monitoring_config_file: MonitoringConfig, which may move or switch off the metrics.
        enable_model_warmup: whether a version answers its warmup requests before it is used.
        grpc_max_threads: requests answered at once; 16 a processor when None.
        tensorflow_intra_op_parallelism, tensorflow_inter_op_parallelism: TensorFlow's thread
            pools; 0 lets it choose, and -1 of the latter runs a request in its own thread.
        limits: of a request.
        log_requests: whether every request is logged, without its content.

    Raises:
        InputError: a number out of bounds.
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
    def threads(self):
        """Requests answered at once."""
        return self.grpc_max_threads or 16 * (os.cpu_count() or 1)

    @property
    def metrics_path(self):
        """Of Prometheus' metrics on the REST port; None where they are switched off.

        Raises:
            InputError: a MonitoringConfig that cannot be read.
        """
        if not self.monitoring_config_file:
            return METRICS
        found = text_protos.monitoring_config(self.monitoring_config_file).prometheus_config
        return (found.path or METRICS) if found.enable else None
