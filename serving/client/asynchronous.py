"""Implements `AsyncClient`, the client of a served model for asyncio."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import grpc
import grpc.aio

from cmclrec_tf.errors import InputError
from serving.client import channels
from serving.client.answers import Recommendations, ServingError, SimulatedHistory
from serving.client.base import BaseClient, Conversation
from serving.client.inputs import ItemLists, Kinds
from serving.client.messages import Call
from serving.client.protos import AnyMessage

_T = TypeVar("_T")


class AsyncClient(BaseClient):
    """`Client` for asyncio: the same options, and the same methods as coroutines.

    An asynchronous context manager; the tasks of one event loop may share it. More than `ROWS`
    users are sent in several requests, some of them at once.

    Args:
        concurrency: how many requests of one call may run at once.
        args, options: the options of `Client`.

    Raises:
        InputError: as `Client`, or `concurrency` is below 1.

    Example:
        >>> import asyncio
        >>> from serving.client import AsyncClient
        >>> async def main():
        ...     async with AsyncClient("127.0.0.1:8500", concurrency=2) as client:
        ...         return await client.recommend_many([{"history": ["d"]}, {"gender": "c"}], k=2)
        >>> [answer.item_ids for answer in asyncio.run(main())]
        [('e', 'a'), ('c', 'a')]
    """

    def __init__(self, *args: Any, concurrency: int = 4, **options: Any) -> None:
        super().__init__(*args, **options)
        if concurrency < 1:
            raise InputError(
                f"concurrency={concurrency}", "it must be at least 1", "Pass a positive number."
            )
        self.concurrency = concurrency
        self._channel: grpc.aio.Channel | None = None

    async def recommend(self, user: Mapping[str, Any], k: int | None = None) -> Recommendations:
        """Returns the list of one user; see `Client.recommend_many`."""
        return await self._run(self._recommend(user, k))

    async def recommend_many(
        self, users: Iterable[Mapping[str, Any]], k: int | None = None, first: int = 0
    ) -> list[Recommendations]:
        """Returns a list for each user; see `Client.recommend_many`."""
        return await self._run(self._recommend_many(users, k, first))

    async def recommend_each(
        self, users: Iterable[Mapping[str, Any] | InputError], k: int | None = None, first: int = 0
    ) -> list[Recommendations | InputError | ServingError]:
        """Returns a list or an error for each user; see `Client.recommend_each`."""
        return await self._run(self._recommend_each(users, k, first))

    async def warm(
        self, histories: ItemLists, exclude: ItemLists | None = None, k: int | None = None
    ) -> list[Recommendations]:
        """Returns a list for each user with a history; see `Client.warm`."""
        return await self._run(self._warm(histories, exclude, k))

    async def cold(
        self,
        users: Iterable[Mapping[str, Any]],
        exclude: ItemLists | None = None,
        k: int | None = None,
    ) -> list[Recommendations]:
        """Returns a list for each user without a history; see `Client.cold`."""
        return await self._run(self._cold(users, exclude, k))

    async def simulated_history(self, user: Mapping[str, Any]) -> SimulatedHistory:
        """Returns the history that the model simulates; see `Client.simulated_history`."""
        return await self._run(self._simulated_history(user))

    async def features(self) -> Kinds:
        """Returns the kind of each user feature of the served model; see `Client.features`."""
        return await self._run(self._features())

    async def status(self) -> dict[int, str]:
        """Returns the state of each version of the model; see `Client.status`."""
        return await self._run(self._status())

    async def metadata(self) -> dict[str, AnyMessage]:
        """Returns the `SignatureDef` of each signature of the model."""
        return await self._run(self._metadata())

    async def close(self) -> None:
        """Closes the connection."""
        if self._channel is not None:
            await self._channel.close(None)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _run(self, conversation: Conversation[_T]) -> _T:
        # A channel belongs to the event loop that runs when it is opened.
        if self._channel is None:
            self._channel = channels.open_channel(grpc.aio, self.target, self._credentials)
            self._methods = channels.methods(self._channel)
            self._probe = channels.probe(self._channel)
        try:
            calls = next(conversation)
            while True:
                try:
                    responses = await self._send_all(calls)
                except ServingError as error:
                    calls = conversation.throw(error)
                else:
                    calls = conversation.send(responses)
        except StopIteration as stop:
            result: _T = stop.value
            return result

    async def _send_all(self, calls: list[Call]) -> list[AnyMessage]:
        slots = asyncio.Semaphore(self.concurrency)

        async def send(call: Call) -> AnyMessage:
            async with slots:
                return await self._send(call)

        tasks = [asyncio.ensure_future(send(call)) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        finally:
            # After a failure nothing reads the responses of the others.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, call: Call) -> AnyMessage:
        seconds = channels.request_seconds(self.timeout)
        try:
            return await self._methods[call.method](
                call.request, timeout=seconds, wait_for_ready=self.wait_for_ready
            )
        except grpc.RpcError as error:
            cause = await self._connection_error() if channels.is_late(error) else None
            raise channels.failure(self.target, call.name, cause or error) from error

    async def _connection_error(self) -> grpc.RpcError | None:
        """Returns why the server cannot be reached; None if there is a connection."""
        try:
            await self._probe()
        except grpc.RpcError as error:
            return error if channels.is_unreachable(error) else None
        return None
