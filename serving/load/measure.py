"""Measures the latency of a server by signature, number of users per request and request rate."""

import asyncio
import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence

from tensorflow_serving.apis import predict_pb2

from serving.load import open_loop, synthetic_requests
from serving.load.process import ServerProcess

# Different requests that one rate is measured with.
_MESSAGES = 64
# A rate counts as sustained if this share of it is answered.
_SUSTAINED = 0.9


@dataclasses.dataclass(frozen=True)
class Plan:
    """Rates to measure, and when to stop raising them.

    Attributes:
        rates: `{users per request: requests per second}`, each list in rising order.
        seconds: duration of one step.
        p99_ms: a series ends with the first step whose 99th percentile is higher.
        interface: "grpc" or "rest".
        seed: seeds the gaps between requests.
    """

    rates: Mapping[int, Sequence[float]]
    seconds: float = 2.0
    p99_ms: float = 20.0
    interface: str = "grpc"
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Step:
    """The measurement of one rate; steps with equal signature and rows form a series.

    Attributes:
        signature: signature of the requests.
        rows: users per request.
        result: `open_loop.Result`.
    """

    signature: str
    rows: int
    result: open_loop.Result

    def meets(self, p99_ms: float) -> bool:
        """Whether the rate was sustained without errors and with this 99th percentile."""
        result = self.result
        sustained = result.achieved >= _SUSTAINED * result.offered
        return not result.errors and result.p99 <= p99_ms and sustained


def measure(
    address: str,
    requests: synthetic_requests.RequestMaker,
    plan: Plan,
    report: Callable[[Step], None] = lambda step: None,
) -> list[Step]:
    """Runs every series of a plan against one server, of this project or TensorFlow Serving.

    Args:
        address: `host:port` for gRPC, `http://host:port` for REST.
        requests: makes the requests.
        plan: `Plan`.
        report: called with every `Step` as soon as it ends.

    Returns:
        The steps, in the order of the plan.
    """
    steps = []
    for rows, rates in plan.rates.items():
        for signature in requests.signatures:
            messages = [
                _encode(requests.make(signature, rows), plan.interface) for _ in range(_MESSAGES)
            ]
            for rate in rates:
                sender = _sender(address, requests.model_name, plan.interface)
                result = asyncio.run(_offer(sender, messages, rate, plan))
                step = Step(signature, rows, result)
                steps.append(step)
                report(step)
                if not step.meets(plan.p99_ms):
                    break
    return steps


def _sender(
    address: str, model_name: str, interface: str
) -> open_loop.GrpcSender | open_loop.RestSender:
    if interface == "rest":
        return open_loop.RestSender(f"{address}/v1/models/{model_name}")
    return open_loop.GrpcSender(address)


def _encode(request: predict_pb2.PredictRequest, interface: str) -> bytes:
    if interface == "rest":
        return synthetic_requests.as_json(request)
    return request.SerializeToString()


async def _offer(
    connection: open_loop.GrpcSender | open_loop.RestSender,
    messages: list[bytes],
    rate: float,
    plan: Plan,
) -> open_loop.Result:
    async with connection as sender:
        # This request opens the connection, which is not part of the measurement.
        await sender.send(messages[0], 10.0)
        return await open_loop.offer(sender, messages, rate, plan.seconds, seed=plan.seed)


def first_answers(
    model_base_path: str | os.PathLike[str], requests: synthetic_requests.RequestMaker
) -> dict[bool, dict[str, float]]:
    """Times the first answer of each signature by new local servers without and with warmup.

    Returns:
        `{warmup: {signature: milliseconds}}`.
    """
    return {
        warmup: asyncio.run(_first(model_base_path, requests, warmup)) for warmup in (False, True)
    }


async def _first(
    model_base_path: str | os.PathLike[str],
    requests: synthetic_requests.RequestMaker,
    warmup: bool,
) -> dict[str, float]:
    milliseconds = {}
    with ServerProcess(model_base_path, [f"--enable_model_warmup={warmup}"]) as server:
        async with open_loop.GrpcSender(server.target) as sender:
            # An empty request names no model: it opens the connection and runs nothing.
            await sender.send(b"", 10.0)
            for signature in requests.signatures:
                message = _encode(requests.make(signature, 1), "grpc")
                start = time.perf_counter()
                await sender.send(message, 60.0)
                milliseconds[signature] = 1e3 * (time.perf_counter() - start)
    return milliseconds
