"""Defines `cmclrec loadtest`, which measures the latency of a server under rising load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from serving import contract
from serving.commands import console

if TYPE_CHECKING:
    from serving.load.measure import Step

# Users per request: requests per second, one step after the other.
_RATES = {1: (50, 100, 200, 400, 600, 800), 32: (10, 20, 40, 80, 160)}


@click.command()
@click.option(
    "--model-base-path",
    type=click.Path(),
    default=contract.MODEL_BASE_PATH,
    show_default=True,
    help="Folder of the model's versions. The requests are made from the warmup requests of the "
    "newest version.",
)
@click.option(
    "--model-name",
    default=contract.MODEL_NAME,
    show_default=True,
    help="Name of the model in requests.",
)
@click.option(
    "--target",
    help="host:port of a running gRPC server, for example TensorFlow Serving. Without it the "
    "command starts a local server.",
)
@click.option("--rest", is_flag=True, help="Load the local server by REST instead of gRPC.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="Duration of one step.",
)
@click.option(
    "--p99-ms",
    type=click.FloatRange(min=0.1),
    default=20.0,
    show_default=True,
    help="Rates rise until the 99th percentile of the latency exceeds this many milliseconds.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Seed of the random requests and of the gaps between them.",
)
@click.option(
    "--out",
    type=click.Path(),
    default="var/loadtest",
    show_default=True,
    help="Folder for the table, the JSON file and the plot.",
)
def loadtest(
    model_base_path: str,
    model_name: str,
    target: str | None,
    rest: bool,
    seconds: float,
    p99_ms: float,
    seed: int,
    out: str,
) -> None:
    """Measure latency by signature, users per request and request rate.

    The load is an open loop: requests are sent at random moments, whether or not earlier ones have
    been answered, and a latency is measured from the scheduled time of its request. The generator
    shares the processors with a server on the same machine.
    """
    console.quiet_imports()
    console.import_tensorflow()
    from serving.load import load_report, measure, synthetic_requests
    from serving.load.process import ServerProcess

    if target and rest:
        raise click.UsageError("--rest is for the local server; leave --rest or --target out.")
    requests = synthetic_requests.RequestMaker.from_warmup(model_base_path, model_name, seed)
    plan = measure.Plan(_RATES, seconds, p99_ms, "rest" if rest else "grpc", seed)
    first: dict[bool, dict[str, float]] = {}
    if target:
        steps = measure.measure(target, requests, plan, _print_step)
    else:
        with ServerProcess(model_base_path) as server:
            address = server.url if rest else server.target
            steps = measure.measure(address, requests, plan, _print_step)
        first = measure.first_answers(model_base_path, requests)
    click.echo("\n" + load_report.write(out, steps, first, p99_ms))
    click.echo(f"Table, figures and plot: {out}")


def _print_step(step: Step) -> None:
    result = step.result
    click.echo(
        f"{step.signature} x {step.rows}: {result.offered:.0f}/s offered, "
        f"{result.achieved:.0f}/s answered, p50 {result.p50:.1f} p90 {result.p90:.1f} "
        f"p99 {result.p99:.1f} ms" + (f", errors {result.errors}" if result.errors else "")
    )
