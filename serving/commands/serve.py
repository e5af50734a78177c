"""`cmclrec serve`."""

import logging
import os
import signal
import threading

import click

from serving.commands import console
from serving.contract import HOST, MODEL_BASE_PATH, MODEL_NAME, PORT
from serving.server import logs
from serving.server.limits import Limits
from serving.server.local_server import LocalServer

_LOG = logging.getLogger(__name__)
_LIMITS = {
    "message_bytes": "Of a gRPC message or a JSON body.",
    "rows": "Users in one request.",
    "list_length": "Strings in one history or other list.",
    "string_bytes": "Of one item id or feature value.",
    "record_bytes": "Of one serialized user record.",
}


def _limits(command):
    """An option --max_... a limit of a request."""
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
@click.option("--port", type=int, default=PORT, show_default=True, help="0 takes a free one.")
@click.option("--model_name", default=MODEL_NAME, show_default=True, help="Name in requests.")
@click.option(
    "--model_base_path",
    type=click.Path(),
    default=MODEL_BASE_PATH,
    show_default=True,
    help="Folder that holds the versions.",
)
@click.option(
    "--host",
    default=HOST,
    show_default=True,
    help="Address to listen on. There is no authentication: other machines reach what is not "
    "loopback.",
)
@click.option("--rest_api_port", type=int, help="Of REST and metrics; 0 takes a free one.")
@click.option("--rest_api_timeout_in_ms", type=click.IntRange(min=1), default=30_000)
@click.option(
    "--model_config_file",
    type=click.Path(),
    help="Models, version policies and labels, in the place of one model.",
)
@click.option(
    "--file_system_poll_wait_seconds",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Between two looks for new versions; 0 looks once.",
)
@click.option("--monitoring_config_file", type=click.Path(), help="Moves or stops the metrics.")
@click.option("--enable_model_warmup", type=bool, default=True, show_default=True)
@click.option(
    "--grpc_max_threads",
    type=click.IntRange(min=1),
    help="Requests answered at once; by default 16 a processor.",
)
@click.option(
    "--tensorflow_intra_op_parallelism",
    type=click.IntRange(min=0),
    default=0,
    help="Threads of one operation; 0 lets TensorFlow choose.",
)
@click.option(
    "--tensorflow_inter_op_parallelism",
    type=click.IntRange(min=-1),
    default=0,
    help="Operations at once; 0 lets TensorFlow choose, -1 runs a request's in its own thread.",
)
@_limits
@click.option("--log_requests", is_flag=True, help="Every request, without its content.")
def serve(model_name, model_base_path, host, port, **options) -> None:
    """Serve the pushed versions on this machine; new ones are swapped in.

    Speaks TensorFlow Serving's gRPC and REST; flags are named as
    tensorflow_model_server's. Ctrl-C or SIGTERM stops it once the requests under way are answered.
    Logs are JSON lines on standard error.
    """
    # TensorFlow's warnings quote the tensors of a failed request.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    console.quiet_imports()
    limits = Limits(**{name: options.pop(name) for name in _LIMITS})
    logs.to_stderr()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with LocalServer(model_base_path, model_name, host, port, limits=limits, **options) as server:
        where = f"[{server.host}]" if ":" in server.host else server.host
        rest = "" if server.rest_port is None else f", {where}:{server.rest_port} (REST)"
        click.echo(
            f"Serving {server.model_name} version {server.version} on "
            f"{where}:{server.port} (gRPC){rest}; Ctrl-C stops"
        )
        stop.wait()
