"""`cmclrec serve`."""

import os
import signal
import threading

import click

from serving import console
from serving.local_server import HOST, MODEL_NAME, PORT, LocalServer

MODEL_BASE_PATH = f"var/serving/{MODEL_NAME}"


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
@click.option(
    "--grpc_max_threads",
    type=click.IntRange(min=1),
    help="Requests answered at once; by default 4 a processor.",
)
@click.option(
    "--tensorflow_intra_op_parallelism",
    type=click.IntRange(min=0),
    default=0,
    help="Threads of one operation; 0 lets TensorFlow choose.",
)
@click.option(
    "--tensorflow_inter_op_parallelism",
    type=click.IntRange(min=0),
    default=0,
    help="Operations at once; 0 lets TensorFlow choose.",
)
def serve(model_name, model_base_path, host, port, **threads):
    """Serve the newest pushed version over gRPC on this machine.

    Speaks TensorFlow Serving's Predict, GetModelMetadata and GetModelStatus; flags are named as
    tensorflow_model_server's. Ctrl-C or SIGTERM stops it.
    """
    # TensorFlow's warnings quote the tensors of a failed request.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    console.quiet_imports()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with LocalServer(model_base_path, model_name, host, port, **threads) as server:
        where = f"[{server.host}]" if ":" in server.host else server.host
        click.echo(
            f"Serving {model_name} version {server.version} on {where}:{server.port} "
            "(gRPC; Ctrl-C stops)"
        )
        stop.wait()
