"""An open loop: requests leave when their time has come, whether or not earlier ones are answered.

A closed loop waits for a slow server and so asks it less; its latencies flatter ("coordinated
omission"). Here a latency counts from the moment at which the request should have left.
"""

import asyncio
import collections
import dataclasses
import json
import time

import aiohttp
import grpc
import numpy as np

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclasses.dataclass
class Result:
    """What one run measured; times in milliseconds.

    Attributes:
        offered: requests a second that were scheduled.
        achieved: requests a second that were answered, until the last answer.
        p50, p90, p99, most: latency of the answered requests from their scheduled time; NaN
            without an answer.
        lag_p99: how late the generator itself sent; latencies hold it.
        sent, answered: how many requests.
        errors: `{status: how many}`, all but OK.
    """

    offered: float
    achieved: float
    p50: float
    p90: float
    p99: float
    most: float
    lag_p99: float
    sent: int
    answered: int
    errors: dict


class GrpcSender:
    """Sends serialized PredictRequests; an async context manager.

    Args:
        target: `host:port`.
    """

    def __init__(self, target):
        self._target = target

    async def __aenter__(self):
        self._channel = grpc.aio.insecure_channel(self._target, options=_UNLIMITED)
        self._call = self._channel.unary_unary(_PREDICT)
        return self

    async def __aexit__(self, *exception):
        await self._channel.close()

    async def send(self, message, timeout):
        """The name of the status."""
        try:
            await self._call(message, timeout=timeout)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


class RestSender:
    """Posts JSON bodies; an async context manager.

    Args:
        url: of the model, without `:predict`.
    """

    def __init__(self, url):
        self._url = f"{url}:predict"

    async def __aenter__(self):
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(self, *exception):
        await self._session.close()

    async def send(self, message, timeout):
        """OK, or the HTTP status or the name of what went wrong."""
        try:
            limit = aiohttp.ClientTimeout(total=timeout)
            async with self._session.post(self._url, data=message, timeout=limit) as answer:
                json.loads(await answer.read())
                return "OK" if answer.status == 200 else f"HTTP {answer.status}"
        except asyncio.TimeoutError:
            return "DEADLINE_EXCEEDED"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return type(error).__name__


async def offer(sender, messages, rate, seconds, timeout=2.0, seed=0):
    """Sends messages at a rate, the gaps between them drawn as a Poisson process has them.

    Args:
        sender: has an async `send(message, timeout) -> status`.
        messages: taken in turn.
        rate: a second.
        seconds: that it goes on; answers are waited for afterwards.
        timeout: seconds that one answer may take.
        seed: of the gaps.

    Returns:
        `Result`.
    """
    rng = np.random.default_rng(seed)
    count = max(1, round(rate * seconds))
    due = np.cumsum(rng.exponential(1 / rate, count))
    latencies, lags, statuses = [], [], collections.Counter()
    start = time.perf_counter()
    last = start

    async def one(moment, message):
        nonlocal last
        status = await sender.send(message, timeout)
        last = time.perf_counter()
        statuses[status] += 1
        if status == "OK":
            latencies.append(last - moment)

    running = set()
    for number, after in enumerate(due):
        moment = start + after
        wait = moment - time.perf_counter()
        # With nothing to wait for, answers still get their turn.
        await asyncio.sleep(max(wait, 0))
        lags.append(time.perf_counter() - moment)
        task = asyncio.ensure_future(one(moment, messages[number % len(messages)]))
        running.add(task)
        task.add_done_callback(running.discard)
    while running:
        await asyncio.wait(set(running))
    answered = statuses.pop("OK", 0)
    p50, p90, p99 = percentiles(latencies, (50, 90, 99))
    return Result(
        offered=count / due[-1],
        achieved=answered / max(last - start, due[-1]),
        p50=p50,
        p90=p90,
        p99=p99,
        most=percentiles(latencies, (100,))[0],
        lag_p99=percentiles(lags, (99,))[0],
        sent=count,
        answered=answered,
        errors=dict(sorted(statuses.items())),
    )


def percentiles(seconds, which):
    """In milliseconds; NaN of nothing."""
    if not len(seconds):
        return [float("nan")] * len(which)
    return [float(value) for value in 1e3 * np.percentile(seconds, which)]
