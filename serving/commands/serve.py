"""Defines `cmclrec serve`, which runs a local server until it is interrupted."""

import os
from collections.abc import Callable
from typing import Any

import click

from serving.commands import console
from serving.contract import HOST, MODEL_BASE_PATH, MODEL_NAME, PORT
from serving.server import connections, logs
from serving.server.limits import Limits
from serving.server.local_server import GRACE_SECONDS, LocalServer
from serving.server.until_signal import Run, until_signal

_LIMITS = {
    "message_bytes": "Largest gRPC message or JSON body, also after decompression.",
    "rows": "Most users in one request.",
    "list_length": "Most strings in one history or other list.",
    "string_bytes": "Largest item id or feature value.",
    "record_bytes": "Largest serialized user record.",
    "json_values": "Most lists, objects and other values in one JSON body.",
    "waiting_bytes": "Most memory that all requests take together, by an estimate.",
    "connections": "Most open connections, of REST and of gRPC each.",
    "idle_seconds": "Longest wait of a REST connection for the head of its next request.",
}


def _limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds one option --max_... for each limit of a request."""
    for name, text in reversed(_LIMITS.items()):
        option = click.option(
            f"--max_{name}",
            name,
            type=click.IntRange(min=1),
            default=getattr(Limits, name),
            show_default=True,
            help=text,
        )
        command = option(command)
    return command


@click.command()
@click.option(
    "--port", type=int, default=PORT, show_default=True, help="gRPC port; 0 takes a free one."
)
@click.option(
    "--model_name", default=MODEL_NAME, show_default=True, help="Name of the model in requests."
)
@click.option(
    "--model_base_path",
    type=click.Path(),
    default=MODEL_BASE_PATH,
    show_default=True,
    help="Folder of the model's versions.",
)
@click.option(
    "--host",
    default=HOST,
    show_default=True,
    help="Address to listen on. There is no authentication: on any address but loopback, other "
    "machines can send requests.",
)
@click.option(
    "--rest_api_port",
    type=int,
    help="Port of REST and Prometheus metrics; 0 takes a free one. Without it there is neither.",
)
@click.option(
    "--rest_api_timeout_in_ms",
    type=click.IntRange(min=1),
    default=30_000,
    show_default=True,
    help="Time that a REST request may take, in milliseconds.",
)
@click.option(
    "--model_config_file",
    type=click.Path(),
    help="ModelServerConfig file with models, version policies and labels. It replaces "
    "--model_name and --model_base_path.",
)
@click.option(
    "--file_system_poll_wait_seconds",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Seconds between two checks for new versions; 0 checks only once.",
)
@click.option(
    "--monitoring_config_file",
    type=click.Path(),
    help="MonitoringConfig file that moves or switches off the Prometheus metrics.",
)
@click.option(
    "--enable_model_warmup",
    type=bool,
    default=True,
    show_default=True,
    help="Whether a version answers its warmup requests before it takes traffic.",
)
@click.option(
    "--grpc_max_threads",
    type=click.IntRange(min=1),
    help="Requests answered at the same time; by default 16 per processor.",
)
@click.option(
    "--tensorflow_intra_op_parallelism",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Threads of one operation; 0 lets TensorFlow choose.",
)
@click.option(
    "--tensorflow_inter_op_parallelism",
    type=click.IntRange(min=-1),
    default=0,
    show_default=True,
    help="Operations that run at the same time; 0 lets TensorFlow choose, -1 runs all operations "
    "of a request in the thread of that request.",
)
@_limit_options
@click.option("--log_requests", is_flag=True, help="Log every request, without its content.")
def serve(model_name: str, model_base_path: str, host: str, port: int, **options: Any) -> None:
    """Serve the pushed versions of a model on this machine.

    The server answers TensorFlow Serving's gRPC and REST interfaces, and its flags are named like
    those of tensorflow_model_server. A new version takes over as soon as it is pushed and loaded.
    Ctrl-C or SIGTERM stops the server: new requests are refused, those under way get 5 s, and the
    process ends within 7 s. A second signal ends it at once. Logs are JSON lines on standard error.
    """
    # gRPC's messages may quote the bytes of malformed requests.
    os.environ["GRPC_VERBOSITY"] = "NONE"
    console.quiet_imports()
    limits = Limits(**{name: options.pop(name) for name in _LIMITS})
    logs.to_stderr()
    connections.raise_descriptors()

    def answer(run: Run) -> None:
        console.import_tensorflow()
        with LocalServer(
            model_base_path, model_name, host, port, run.serving.set, limits=limits, **options
        ) as server:
            where = f"[{server.host}]" if ":" in server.host else server.host
            rest = "" if server.rest_port is None else f", {where}:{server.rest_port} (REST)"
            click.echo(
                f"Serving {server.model_name} version {server.version} on "
                f"{where}:{server.port} (gRPC){rest}; Ctrl-C stops"
            )
            run.stop.wait()

    until_signal(answer, GRACE_SECONDS)
