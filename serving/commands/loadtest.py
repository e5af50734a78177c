"""`cmclrec loadtest`."""

import os
import types

import click

from serving.commands import console
from serving.contract import MODEL_BASE_PATH, MODEL_NAME

# Users a request: requests a second, one step after the other.
_RATES = {1: (50, 100, 200, 400, 600, 800), 32: (10, 20, 40, 80, 160)}


@click.command()
@click.option(
    "--model_base_path",
    type=click.Path(),
    default=MODEL_BASE_PATH,
    show_default=True,
    help="Folder that holds the versions; the newest one makes the requests.",
)
@click.option("--model_name", default=MODEL_NAME, show_default=True)
@click.option("--target", help="host:port of a running gRPC server, in the place of own ones.")
@click.option("--rest", is_flag=True, help="Ask own servers by REST rather than by gRPC.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=2.0, show_default=True)
@click.option(
    "--p99_ms",
    type=click.FloatRange(min=0.1),
    default=20.0,
    show_default=True,
    help="Rates rise until the 99th percentile exceeds it.",
)
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(), default="var/loadtest", show_default=True)
def loadtest(model_base_path, model_name, target, rest, seconds, p99_ms, seed, out) -> None:
    """Measure latency by signature, batch size and rate, with and without batching and warmup.

    An open loop on loopback: requests leave at random moments, whether or not earlier ones are
    answered, and a latency counts from the moment at which its request should have left. The
    generator shares the processors with the server.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    console.quiet_imports()
    from serving.load import load_report, made_up, measure

    if target and rest:
        raise click.UsageError("--rest goes with own servers; leave --target out.")
    requests = made_up.Requests.of_warmup(model_base_path, model_name, seed)
    plan = measure.Plan(_RATES, seconds, p99_ms, "rest" if rest else "grpc", seed)
    if target:
        found, first = (
            measure.steps(types.SimpleNamespace(target=target), requests, plan, None, _tell),
            {},
        )
    else:
        found = measure.batched_and_not(model_base_path, requests, plan, _tell)
        first = measure.first_answers(model_base_path, requests)
    click.echo("\n" + load_report.write(out, found, first, p99_ms))
    click.echo(f"Table, figures and plot: {out}")


def _tell(step):
    result, batching = step.result, {None: "", False: " unbatched", True: " batched"}[step.batching]
    click.echo(
        f"{step.signature} x {step.rows}{batching}: {result.offered:.0f}/s offered, "
        f"{result.achieved:.0f}/s answered, p50 {result.p50:.1f} p90 {result.p90:.1f} "
        f"p99 {result.p99:.1f} ms" + (f", errors {result.errors}" if result.errors else "")
    )
