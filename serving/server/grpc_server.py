"""Runs the gRPC server with predictions, model states, health checks and reflection."""

from __future__ import annotations

from concurrent import futures
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from serving.server import services
from serving.server.arrivals import Arrivals
from serving.server.connections import affordable

if TYPE_CHECKING:
    from serving.server.api import Api

# Further requests are refused rather than queued.
_MAX_REQUESTS = 4096
# Most of them wait for their message or for a turn.
_MAX_THREADS = 1024
_ARRIVAL_SECONDS = 30.0
# Further requests of one connection wait at the caller.
_MAX_STREAMS = 1024
_HANDSHAKE_MILLISECONDS = 20_000
_IDLE_MILLISECONDS = 300_000
# Time to answer requests that are cut off with a status.
_CANCEL_SECONDS = 1.0
# Reflection lists only services whose descriptors have been imported.
_SERVICES = [
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (prediction_service_pb2, "PredictionService"),
        (model_service_pb2, "ModelService"),
    )
]


class GrpcServer:
    """A gRPC server that answers from an `Api` after it is started.

    Args:
        api: answers the requests.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        threads: requests answered at the same time.
        arrival_seconds: time in which the message of a request must arrive.

    Attributes:
        port: port that it listens on; 0 if the port is not available.
    """

    def __init__(
        self,
        api: Api,
        host: str,
        port: int,
        threads: int,
        arrival_seconds: float = _ARRIVAL_SECONDS,
    ):
        self._arrivals = Arrivals(threads, arrival_seconds, api.memory)
        self._server = server = grpc.server(
            futures.ThreadPoolExecutor(max(threads, _MAX_THREADS), thread_name_prefix="grpc"),
            interceptors=[self._arrivals],
            maximum_concurrent_rpcs=_MAX_REQUESTS,
            options=[
                ("grpc.max_receive_message_length", api.limits.message_bytes),
                ("grpc.max_send_message_length", api.limits.message_bytes),
                # Otherwise two servers would silently share a port and its requests.
                ("grpc.so_reuseport", 0),
                ("grpc.max_concurrent_streams", _MAX_STREAMS),
                ("grpc.max_allowed_incoming_connections", affordable(api.limits.connections)),
                ("grpc.max_connection_idle_ms", _IDLE_MILLISECONDS),
                # A connection that does not become HTTP/2 is closed after this time.
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MILLISECONDS),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            services.PredictionService(api), server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            services.ModelService(api), server
        )
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(
            (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
        address = f"[{host}]" if ":" in host else host
        try:
            self.port = server.add_insecure_port(f"{address}:{port}")
        except RuntimeError:
            self.port = 0

    def start(self) -> None:
        """Starts to answer and reports SERVING to health checks."""
        self._server.start()
        for service in ("", *_SERVICES):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def refuse(self, grace: float) -> None:
        """Refuses new requests and returns; requests under way get `grace` seconds.

        Health checks report NOT_SERVING, so that callers turn to another server.
        """
        self._health.enter_graceful_shutdown()
        self._server.stop(grace)

    def stop(self, grace: float) -> None:
        """Refuses new requests, and waits up to `grace` seconds for those under way. Repeatable."""
        self._health.enter_graceful_shutdown()
        # The event comes late, or never, if the thread of a request does not end.
        self._server.stop(grace).wait(grace + _CANCEL_SECONDS)
        self._arrivals.stop()
