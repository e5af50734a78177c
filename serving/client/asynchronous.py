"""The client for asyncio."""

import asyncio

import grpc
import grpc.aio

from cmclrec_tf.errors import InputError
from serving.client import channels
from serving.client.answers import ServingError
from serving.client.base import Asking


class AsyncClient(Asking):
    """`client.Client` for asyncio: every method that asks is to be awaited.

    An asynchronous context manager; any number of tasks of one event loop may share it. More than
    ROWS users go in several requests, some of them at once.

    Args:
        concurrency: requests of one call that may be under way at once.

    Raises:
        InputError: as `Asking`, or a concurrency below 1.
    """

    def __init__(self, *args, concurrency=4, **options):
        super().__init__(*args, **options)
        if concurrency < 1:
            raise InputError(
                f"concurrency={concurrency}", "it must be at least 1", "Give a positive one."
            )
        self.concurrency = concurrency
        self._channel = None

    async def close(self) -> None:
        """Closes the connection."""
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        await self.close()

    async def _run(self, steps):
        # A channel belongs to the event loop that runs when it is opened.
        if self._channel is None:
            self._channel = channels.open_channel(grpc.aio, self.target, self._credentials)
            self._methods = channels.methods(self._channel)
            self._probe = channels.probe(self._channel)
        try:
            asked = next(steps)
            while True:
                try:
                    responses = await self._send_all(asked)
                except ServingError as error:
                    asked = steps.throw(error)
                else:
                    asked = steps.send(responses)
        except StopIteration as done:
            return done.value

    async def _send_all(self, asked):
        free = asyncio.Semaphore(self.concurrency)

        async def send(call):
            async with free:
                return await self._send(call)

        tasks = [asyncio.ensure_future(send(call)) for call in asked]
        try:
            return await asyncio.gather(*tasks)
        finally:
            # After a failure the others have nobody to answer.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, call):
        seconds = channels.request_seconds(self.timeout)
        try:
            return await self._methods[call.method](
                call.request, timeout=seconds, wait_for_ready=self.wait_for_ready
            )
        except grpc.RpcError as error:
            cause = await self._unreachable() if channels.is_late(error) else None
            raise channels.failure(self.target, call.what, cause or error) from error

    async def _unreachable(self):
        try:
            await self._probe()
        except grpc.RpcError as error:
            return error if channels.is_unreachable(error) else None
