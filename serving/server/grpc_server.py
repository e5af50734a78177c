"""The gRPC server: predictions, models, health and reflection."""

from concurrent import futures

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

# Beyond them requests are refused rather than kept waiting.
_MOST_REQUESTS = 4096
# Reflection tells only of services whose descriptions have been imported.
_SERVICES = [
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (prediction_service_pb2, "PredictionService"),
        (model_service_pb2, "ModelService"),
    )
]


class GrpcServer:
    """Answers from an `Api` once it is started.

    Args:
        api: `Api`.
        host, port: where to listen; port 0 takes a free one.
        threads: requests answered at once.

    Attributes:
        port: where it listens; 0 when the port cannot be had.
    """

    def __init__(self, api, host, port, threads):
        self._server = server = grpc.server(
            futures.ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
            maximum_concurrent_rpcs=_MOST_REQUESTS,
            options=[
                ("grpc.max_receive_message_length", api.limits.message_bytes),
                ("grpc.max_send_message_length", api.limits.message_bytes),
                # Two servers would share a port silently, each answering some of the requests.
                ("grpc.so_reuseport", 0),
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
        """Starts to answer, and to be healthy."""
        self._server.start()
        for service in ("", *_SERVICES):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def drain(self) -> None:
        """Tells health checks that no more requests are wanted."""
        self._health.enter_graceful_shutdown()

    def stop(self, grace) -> None:
        """Refuses new requests; those under way get `grace` seconds. Repeatable."""
        self.drain()
        self._server.stop(grace).wait()
