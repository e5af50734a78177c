"""TensorFlow Serving's gRPC interface over one exported model, on this machine."""

import errno
import os
import socket
import threading
from concurrent import futures

from cmclrec_tf.errors import InputError
from serving import versions

MODEL_NAME = "cmclrec"
HOST = "127.0.0.1"
PORT = 8500
MESSAGE_BYTES = 64 * 2**20
GRACE_SECONDS = 5.0


class LocalServer:
    """Serves the highest version under a model base path; a context manager.

    The version is chosen when the server is built and served until it stops.

    Args:
        model_base_path: folder of integer-named versions.
        model_name: the name that requests must give.
        host: address to listen on.
        port: 0 takes a free one.
        grpc_max_threads: requests answered at once; 4 a processor when None.
        tensorflow_intra_op_parallelism, tensorflow_inter_op_parallelism: TensorFlow's thread
            pools; 0 lets it choose.

    Attributes:
        host, port: where it listens.
        version: the version that it serves.

    Raises:
        InputError: no version to serve, a SavedModel that does not load or that does not answer
            its warmup requests, an address or a port that cannot be had.
    """

    def __init__(
        self,
        model_base_path,
        model_name=MODEL_NAME,
        host=HOST,
        port=PORT,
        grpc_max_threads=None,
        tensorflow_intra_op_parallelism=0,
        tensorflow_inter_op_parallelism=0,
    ):
        # Whatever needs no TensorFlow fails before the seconds that it takes to import.
        self.version, folder = versions.latest(model_base_path)
        self.host = free_address(host, port)
        self._session = _load(
            folder, tensorflow_intra_op_parallelism, tensorflow_inter_op_parallelism
        )
        self._stopped = threading.Event()
        try:
            from serving import rehearsal, requests

            model = requests.Model(model_name, self.version, self._session.signatures)
            rehearsal.rehearse(folder, model, self._session)
            threads = grpc_max_threads or 4 * (os.cpu_count() or 1)
            self._server, self.port = self._build(model, port, threads)
        except BaseException:
            self._session.close()
            raise

    def _build(self, model, port, threads):
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        from serving import services

        server = grpc.server(
            futures.ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_send_message_length", MESSAGE_BYTES),
                # Two servers would share a port silently, each answering some of the requests.
                ("grpc.so_reuseport", 0),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            services.PredictionService(model, self._session), server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            services.ModelService(model), server
        )
        host = f"[{self.host}]" if ":" in self.host else self.host
        try:
            bound = server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            bound = 0
        if not bound:
            raise _in_use(self.host, port)
        return server, bound

    def start(self):
        """Starts to answer; returns at once."""
        self._server.start()
        return self

    def stop(self, grace=GRACE_SECONDS):
        """Stops: new requests are refused, those under way get `grace` seconds. Repeatable."""
        self._server.stop(grace).wait()
        self._session.close()
        self._stopped.set()

    def wait(self):
        """Waits until another thread stops the server."""
        self._stopped.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.stop()


def _load(folder, intra_op_threads, inter_op_threads):
    from serving.c_api import SavedModelError, SavedModelSession

    try:
        return SavedModelSession(folder, intra_op_threads, inter_op_threads)
    except SavedModelError as error:
        raise InputError(
            folder, f"TensorFlow must be able to load it ({error})", "Export the model again."
        ) from error


def free_address(host, port):
    """The numeric address of a host, after a trial that one can listen there.

    Raises:
        InputError: no such address here, or the port is in use or not to be had.
    """
    if not 0 <= port < 2**16:
        raise InputError(f"port {port}", "a port is between 0 and 65535", "Choose another one.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InputError(
            f"host {host!r}", f"it must be an address of this machine ({error})", "Correct --host."
        ) from error
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    try:
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _in_use(address[0], port) from error
        raise InputError(
            f"{address[0]}:{port}",
            f"it must be possible to listen there ({error.strerror})",
            "Choose another --host or --port.",
        ) from error
    return address[0]


def _in_use(host, port):
    return InputError(
        f"port {port} of {host}",
        "the port is in use",
        "Stop what listens there or choose another --port.",
    )
