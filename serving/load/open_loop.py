"""Sends requests on a schedule, whether or not earlier ones have been answered (an open loop).

A closed loop waits for each answer before it sends the next request, so it sends less to a slow
server and its latencies look too good ("coordinated omission"). Here a latency is measured from the
scheduled time of its request.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
import grpc
import numpy as np

from serving.client import loopback

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclasses.dataclass
class Result:
    """Measurements of one run; times are in milliseconds.

    Attributes:
        offered: scheduled requests per second.
        achieved: answered requests per second, up to the last answer.
        p50, p90, p99, most: percentiles and maximum of the latency of answered requests, measured
            from their scheduled time; NaN if none was answered.
        lag_p99: 99th percentile of how late the generator itself sent a request; latencies include
            this delay.
        sent, answered: numbers of requests.
        errors: `{status: number of requests}` for every status but OK.
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
    errors: dict[str, int]


class Sender(Protocol):
    """Sends one encoded request and waits for the answer."""

    async def send(self, message: bytes, timeout: float) -> str:
        """Returns "OK" or the name of the error."""


class GrpcSender:
    """Sends serialized PredictRequests by gRPC; an async context manager.

    Args:
        target: `host:port`.
    """

    def __init__(self, target: str):
        self._target = target

    async def __aenter__(self) -> GrpcSender:
        options = [*_UNLIMITED, *loopback.channel_options(self._target)]
        self._channel = grpc.aio.insecure_channel(self._target, options=options)
        self._call = self._channel.unary_unary(_PREDICT, None, None)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._channel.close(None)

    async def send(self, message: bytes, timeout: float) -> str:
        """Returns the name of the gRPC status."""
        try:
            await self._call(message, timeout=timeout)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


class RestSender:
    """Posts JSON bodies by HTTP; an async context manager.

    Args:
        url: URL of the model, without `:predict`.
    """

    def __init__(self, url: str):
        self._url = f"{url}:predict"

    async def __aenter__(self) -> RestSender:
        host = urlsplit(self._url).hostname or ""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            # The environment's proxies, for other machines only.
            trust_env=not loopback.is_loopback(host),
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def send(self, message: bytes, timeout: float) -> str:
        """Returns "OK", the HTTP status, or the name of the exception."""
        try:
            limit = aiohttp.ClientTimeout(total=timeout)
            async with self._session.post(self._url, data=message, timeout=limit) as answer:
                json.loads(await answer.read())
                return "OK" if answer.status == 200 else f"HTTP {answer.status}"
        except asyncio.TimeoutError:
            return "DEADLINE_EXCEEDED"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return type(error).__name__


async def offer(
    sender: Sender,
    messages: Sequence[bytes],
    rate: float,
    seconds: float,
    timeout: float = 2.0,
    seed: int = 0,
) -> Result:
    """Sends messages at a given mean rate, with the random gaps of a Poisson process.

    Args:
        sender: `GrpcSender`, `RestSender` or another `Sender`.
        messages: encoded requests, sent one after the other, from the first again after the last.
        rate: mean number of requests per second.
        seconds: how long to send; afterwards the remaining answers are awaited.
        timeout: seconds that one answer may take.
        seed: seeds the gaps.

    Returns:
        `Result`.
    """
    rng = np.random.default_rng(seed)
    count = max(1, round(rate * seconds))
    schedule = np.cumsum(rng.exponential(1 / rate, count))
    latencies: list[float] = []
    lags: list[float] = []
    statuses: collections.Counter[str] = collections.Counter()
    start = time.perf_counter()
    last = start

    async def send_one(moment: float, message: bytes) -> None:
        nonlocal last
        status = await sender.send(message, timeout)
        last = time.perf_counter()
        statuses[status] += 1
        if status == "OK":
            latencies.append(last - moment)

    running: set[asyncio.Task[None]] = set()
    for number, after in enumerate(schedule):
        moment = start + after
        wait = moment - time.perf_counter()
        # Even a late sender yields here, so that answers are received.
        await asyncio.sleep(max(wait, 0))
        lags.append(time.perf_counter() - moment)
        task = asyncio.ensure_future(send_one(moment, messages[number % len(messages)]))
        running.add(task)
        task.add_done_callback(running.discard)
    while running:
        await asyncio.wait(set(running))
    answered = statuses.pop("OK", 0)
    p50, p90, p99 = percentiles(latencies, (50, 90, 99))
    return Result(
        offered=count / schedule[-1],
        achieved=answered / max(last - start, schedule[-1]),
        p50=p50,
        p90=p90,
        p99=p99,
        most=percentiles(latencies, (100,))[0],
        lag_p99=percentiles(lags, (99,))[0],
        sent=count,
        answered=answered,
        errors=dict(sorted(statuses.items())),
    )


def percentiles(seconds: Sequence[float], percents: Sequence[float]) -> list[float]:
    """Returns percentiles in milliseconds; NaN if there are no values."""
    if not len(seconds):
        return [float("nan")] * len(percents)
    return [float(value) for value in 1e3 * np.percentile(seconds, percents)]
