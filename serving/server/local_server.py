"""Serves exported models on this machine through TensorFlow Serving's gRPC and REST interfaces."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cmclrec_tf.errors import InputError
from serving import versions
from serving.contract import HOST, MODEL_NAME, PORT

if TYPE_CHECKING:
    from serving.server.server_options import Options

GRACE_SECONDS = 5.0


class LocalServer:
    """Serves the versions under a model base path; a context manager.

    The server watches the folder. A new version takes over once it has loaded and answered its
    warmup requests; the old version is closed after its last request.

    Args:
        model_base_path: folder of integer-named versions; None with `model_config_file`.
        model_name: model name in requests.
        host: address to listen on.
        port: gRPC port; 0 takes a free one.
        on_load: called once the models are loaded, before any request can arrive.
        options: fields of `serving.server.server_options.Options`.

    Attributes:
        model_name: name of the first model.
        host, port: gRPC address.
        rest_port: port of REST and metrics; None without them.

    Raises:
        InputError: there is no version to serve, no version loads and answers its warmup requests,
            a configuration file cannot be read, or an address or port is not available.
    """

    def __init__(
        self,
        model_base_path: str | os.PathLike[str] | None = None,
        model_name: str = MODEL_NAME,
        host: str = HOST,
        port: int = PORT,
        on_load: Callable[[], None] = lambda: None,
        **options: Any,
    ):
        # Importing TensorFlow takes seconds: errors that can be found without it come first.
        from serving.server.server_options import Options

        settings = Options(**options)
        if model_base_path is not None and not settings.model_config_file:
            versions.latest(model_base_path)
        self.host = free_address(host, port)
        if settings.rest_api_port:
            free_address(host, settings.rest_api_port)
        self._stopped = threading.Event()
        self._parts = contextlib.ExitStack()
        self._stop_by: float | None = None
        try:
            self._build(model_base_path, model_name, port, on_load, settings)
        except BaseException:
            self._parts.close()
            raise

    def _build(
        self,
        model_base_path: str | os.PathLike[str] | None,
        model_name: str,
        port: int,
        on_load: Callable[[], None],
        options: Options,
    ) -> None:
        """Opens the parts in order of dependence; `_parts` closes them in reverse order."""
        from serving.server import model_config
        from serving.server.api import Api
        from serving.server.catalog import Catalog
        from serving.server.grpc_server import GrpcServer
        from serving.server.loader import Loader
        from serving.server.manager import Manager
        from serving.server.prometheus_metrics import Metrics

        if options.model_config_file:
            models = model_config.read(options.model_config_file)
        else:
            models = {model_name: model_config.ModelConfig(model_name, str(model_base_path))}
        self.model_name = next(iter(models))
        metrics = Metrics()
        self._catalog = Catalog(metrics.versions)
        self._parts.callback(lambda: self._catalog.close(self._remaining_grace()))
        self._manager = Manager(
            self._catalog,
            models,
            Loader(options, metrics),
            options.file_system_poll_wait_seconds,
            options.model_config_file,
        )
        self._parts.callback(lambda: self._manager.stop(self._remaining_grace()))
        self._manager.start()
        on_load()
        api = Api(self._catalog, metrics, options.limits, options.log_requests)
        self._grpc = GrpcServer(api, self.host, port, options.threads)
        self.port = self._grpc.port
        self.rest_port: int | None = None
        if not self.port:
            raise _in_use(self.host, port)
        self._parts.callback(lambda: self._grpc.stop(self._remaining_grace()))
        if options.rest_api_port is not None:
            from serving.server.rest import Rest

            rest = Rest(api, self.host, options)
            self.rest_port = rest.port
            self._parts.callback(lambda: rest.stop(self._remaining_grace()))

    @property
    def version(self) -> int | None:
        """Newest loaded version of the first model, which answers requests without a version."""
        return max(self._catalog.versions(self.model_name), default=None)

    def start(self) -> LocalServer:
        """Starts to answer gRPC requests and returns at once."""
        self._grpc.start()
        return self

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Refuses new requests; requests under way get `grace` seconds. Repeatable.

        It returns after that time, even if a request or the load of a version still runs. What they
        use is freed when they end.
        """
        self._stop_by = time.monotonic() + grace
        # Both interfaces refuse from here on, while the requests of both share the grace.
        self._grpc.refuse(grace)
        self._parts.close()
        self._stopped.set()

    def _remaining_grace(self) -> float:
        """Seconds that remain for what is under way."""
        return (
            GRACE_SECONDS if self._stop_by is None else max(0.0, self._stop_by - time.monotonic())
        )

    def wait(self) -> None:
        """Waits until another thread stops the server."""
        self._stopped.wait()

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()


def free_address(host: str, port: int) -> str:
    """Checks that a server can listen on a host and port, and returns the numeric address.

    Raises:
        InputError: the host is not an address of this machine, or the port is in use or forbidden.
    """
    if not 0 <= port < 2**16:
        raise InputError(f"port {port}", "a port is between 0 and 65535", "Choose another one.")
    try:
        candidates = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise InputError(
            f"host {host!r}", f"it must be an address of this machine ({error})", "Correct --host."
        ) from error
    # IPv4 is preferred.
    family, kind, protocol, _, address = min(
        candidates, key=lambda entry: entry[0] != socket.AF_INET
    )
    numeric = str(address[0])
    try:
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _in_use(numeric, port) from error
        raise InputError(
            f"{numeric}:{port}",
            f"it must be possible to listen there ({error.strerror})",
            "Choose another --host or --port.",
        ) from error
    return numeric


def _in_use(host: str, port: int) -> InputError:
    return InputError(
        f"port {port} of {host}",
        "the port is in use",
        "Stop the process that listens there or choose another --port.",
    )
