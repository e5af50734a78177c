"""Latency of a server by signature, batch size and rate, with and without batching and warmup."""

import asyncio
import dataclasses
import time

from serving.load import made_up, open_loop
from serving.load.process import ServerProcess

_MESSAGES = 64
_ENOUGH = 0.9


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        rates: requests a second by batch size, `{rows: rates}`, each list rising.
        seconds: of a step.
        p99_ms: a step whose 99th percentile is higher is the last of its series.
        interface: "grpc" or "rest".
        seed: of the requests and of the gaps between them.
    """

    rates: dict
    seconds: float = 2.0
    p99_ms: float = 20.0
    interface: str = "grpc"
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Step:
    """One rate of one series.

    Attributes:
        signature, rows, batching: the series; batching is None for a server that was running.
        result: `open_loop.Result`.
    """

    signature: str
    rows: int
    batching: bool | None
    result: open_loop.Result

    def meets(self, p99_ms):
        """Whether every request was answered in time, as fast as they were sent."""
        result = self.result
        fast = result.achieved >= _ENOUGH * result.offered
        return not result.errors and result.p99 <= p99_ms and fast


def steps(server, requests, plan, batching=None, told=lambda _: None):
    """Every series of a plan against one server.

    Args:
        server: has `target` and `url`.
        requests: `made_up.Requests`.
        plan: `Plan`.
        batching: of the server, for the result.
        told: is given every `Step` as it ends.

    Returns:
        [`Step`].
    """
    rest = plan.interface == "rest"
    sender = lambda: (
        open_loop.RestSender(f"{server.url}/v1/models/{requests.model_name}")
        if rest
        else open_loop.GrpcSender(server.target)
    )
    encode = made_up.as_json if rest else _serialized
    found = []
    for rows, rates in plan.rates.items():
        for signature in requests.signatures:
            messages = [requests.make(signature, rows) for _ in range(_MESSAGES)]
            messages = [encode(message) for message in messages]
            for rate in rates:
                result = asyncio.run(_offer(sender(), messages, rate, plan))
                found.append(Step(signature, rows, batching, result))
                told(found[-1])
                if not found[-1].meets(plan.p99_ms):
                    break
    return found


def _serialized(message):
    return message.SerializeToString()


async def _offer(opened, messages, rate, plan):
    async with opened as sender:
        # The connection is not part of what is measured.
        await sender.send(messages[0], 10.0)
        return await open_loop.offer(sender, messages, rate, plan.seconds, seed=plan.seed)


def batched_and_not(model_base_path, requests, plan, told=lambda _: None):
    """The plan against a server of its own, without and with batching.

    Returns:
        [`Step`].
    """
    found = []
    for batching in (False, True):
        flags = ["--enable_batching"] if batching else []
        with ServerProcess(model_base_path, flags) as server:
            found += steps(server, requests, plan, batching, told)
    return found


def first_answers(model_base_path, requests):
    """Milliseconds of the first answer of each signature, without and with warmup.

    Returns:
        `{warmup: {signature: milliseconds}}`.
    """
    return {
        warmup: asyncio.run(_first(model_base_path, requests, warmup)) for warmup in (False, True)
    }


async def _first(model_base_path, requests, warmup):
    found = {}
    with ServerProcess(model_base_path, [f"--enable_model_warmup={warmup}"]) as server:
        async with open_loop.GrpcSender(server.target) as sender:
            # A request for a model that is not there opens the connection and runs nothing.
            await sender.send(b"", 10.0)
            for signature in requests.signatures:
                message = _serialized(requests.make(signature, 1))
                start = time.perf_counter()
                await sender.send(message, 60.0)
                found[signature] = 1e3 * (time.perf_counter() - start)
    return found
