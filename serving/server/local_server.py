"""TensorFlow Serving's gRPC and REST interfaces over exported models, on this machine."""

import contextlib
import errno
import socket
import threading
import time

from cmclrec_tf.errors import InputError
from serving import versions
from serving.contract import HOST, MODEL_NAME, PORT

GRACE_SECONDS = 5.0


class LocalServer:
    """Serves the versions under a model base path; a context manager.

    It watches the folder: a new version answers as soon as it has loaded and answered its warmup
    requests, and the old one is closed once its last request is through.

    Args:
        model_base_path: folder of integer-named versions; None with `model_config_file`.
        model_name: the name that requests must give.
        host: address to listen on.
        port: of gRPC; 0 takes a free one.
        options: fields of `serving.server.server_options.Options`.

    Attributes:
        model_name: of the first model.
        host, port: where it listens.
        rest_port: where REST and metrics are; None without them.

    Raises:
        InputError: no version to serve, none that loads and answers its warmup requests, a
            configuration that cannot be read, an address or a port that cannot be had.
    """

    def __init__(
        self, model_base_path=None, model_name=MODEL_NAME, host=HOST, port=PORT, **options
    ):
        # Whatever needs no TensorFlow fails before the seconds that it takes to import.
        from serving.server.server_options import Options

        options = Options(**options)
        if model_base_path is not None and not options.model_config_file:
            versions.latest(model_base_path)
        self.host = free_address(host, port)
        if options.rest_api_port:
            free_address(host, options.rest_api_port)
        self._stopped = threading.Event()
        self._parts = contextlib.ExitStack()
        self._ends = None
        try:
            self._build(model_base_path, model_name, port, options)
        except BaseException:
            self._parts.close()
            raise

    def _build(self, model_base_path, model_name, port, options):
        """Opens each part over the one before; `_parts` closes them the other way round."""
        from serving.server import served
        from serving.server.api import Api
        from serving.server.catalog import Catalog
        from serving.server.grpc_server import GrpcServer
        from serving.server.loading import Loader
        from serving.server.manager import Manager
        from serving.server.prometheus_metrics import Metrics

        if options.model_config_file:
            models = served.read(options.model_config_file)
        else:
            models = {model_name: served.Served(model_name, str(model_base_path))}
        self.model_name = next(iter(models))
        metrics = Metrics()
        self._catalog = Catalog(metrics.versions)
        self._parts.callback(self._catalog.close)
        manager = Manager(
            self._catalog,
            models,
            Loader(options, metrics),
            options.file_system_poll_wait_seconds,
            options.model_config_file,
        )
        self._parts.callback(manager.stop)
        manager.start()
        api = Api(self._catalog, metrics, options.limits, options.log_requests)
        self._grpc = GrpcServer(api, self.host, port, options.threads)
        self.port, self.rest_port = self._grpc.port, None
        if not self.port:
            raise _in_use(self.host, port)
        self._parts.callback(lambda: self._grpc.stop(self._left()))
        if options.rest_api_port is not None:
            from serving.server.rest import Rest

            rest = Rest(api, self.host, options)
            self.rest_port = rest.port
            self._parts.callback(lambda: rest.stop(self._left()))

    @property
    def version(self):
        """The version that answers a request which names none, of the first model."""
        return max(self._catalog.versions(self.model_name), default=None)

    def start(self):
        """Starts to answer gRPC; returns at once."""
        self._grpc.start()
        return self

    def stop(self, grace=GRACE_SECONDS) -> None:
        """Stops: new requests are refused, those under way get `grace` seconds. Repeatable."""
        self._ends = time.monotonic() + grace
        self._grpc.drain()
        self._parts.close()
        self._stopped.set()

    def _left(self):
        """Seconds of grace that are left: the parts stop one after the other, and share them."""
        return GRACE_SECONDS if self._ends is None else max(0.0, self._ends - time.monotonic())

    def wait(self) -> None:
        """Waits until another thread stops the server."""
        self._stopped.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.stop()


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
