"""Keeps callers that start a gRPC request and send no message from holding the server's threads."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from serving.server.memory import Memory, estimate_message
from serving.server.requests import RequestError

_PERIOD_SECONDS = 0.2
_MODEL_METHODS = "/tensorflow.serving."


class Arrivals(grpc.ServerInterceptor):
    """Cancels requests whose message does not arrive, and bounds those that run at once.

    gRPC gives a thread to a request before its message has arrived, and the thread waits for it
    without an end. So the server has more threads than requests that it runs at once, and a request
    that sends no message is cancelled. Conversations, which only reflection has, must end in the
    same time. Health's Watch, which has no end, is UNIMPLEMENTED; gRPC's clients then take the
    server as healthy.

    Args:
        most: requests to the models that run at the same time; others wait.
        seconds: time in which the message of a request must arrive.
        memory: holds the messages of the requests that run or wait.
    """

    def __init__(self, most: int, seconds: float, memory: Memory):
        self._running, self._seconds, self._memory = threading.Semaphore(most), seconds, memory
        self._lock, self._stopped = threading.Lock(), threading.Event()
        # In the order of their deadlines.
        self._late: dict[object, tuple[float, grpc.ServicerContext]] = {}
        threading.Thread(target=self._watch, name="arrivals", daemon=True).start()

    def stop(self) -> None:
        """Stops watching. Repeatable."""
        self._stopped.set()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Returns the handler of a method, wrapped so that the wait for its message ends in time.

        A method that answers one message with a stream has none: a caller that sends no message
        would hold a place among the requests that wait or run for as long as it likes.
        """
        handler: Any = continuation(handler_call_details)
        if handler is None or handler.unary_stream:
            return None
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(
                functools.partial(self._converse, handler.stream_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if not handler.unary_unary:
            return handler
        runs_model = handler_call_details.method.startswith(_MODEL_METHODS)
        slot = self._running if runs_model else contextlib.nullcontext()
        # On the wire, a call with one message is a stream of one message.
        return grpc.stream_unary_rpc_method_handler(
            functools.partial(self._answer, handler, slot),
            None,
            handler.response_serializer,
        )

    def _answer(
        self,
        handler: Any,
        slot: contextlib.AbstractContextManager[Any],
        messages: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> Any:
        with self._must_end(context):
            raw = next(messages, None)
        share = self._memory.share()
        try:
            share.resize(estimate_message(raw or b""))
            with slot:
                return handler.unary_unary(_decoded(handler, raw, context), context)
        except RequestError as error:
            context.abort(error.code, error.details)
        finally:
            share.close()

    def _converse(
        self,
        behavior: Callable[..., Iterator[Any]],
        messages: Iterator[Any],
        context: grpc.ServicerContext,
    ) -> Iterator[Any]:
        with self._must_end(context):
            yield from behavior(messages, context)

    @contextlib.contextmanager
    def _must_end(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Cancels a request if the block does not end in time."""
        key = object()
        with self._lock:
            self._late[key] = time.monotonic() + self._seconds, context
        try:
            yield
        finally:
            with self._lock:
                self._late.pop(key, None)

    def _watch(self) -> None:
        while not self._stopped.wait(_PERIOD_SECONDS):
            now, late = time.monotonic(), []
            with self._lock:
                for deadline, context in self._late.values():
                    if deadline > now:
                        break
                    late.append(context)
            for context in late:
                context.cancel()


def _decoded(handler: Any, raw: bytes | None, context: grpc.ServicerContext) -> Any:
    try:
        if raw is None:
            raise ValueError("there is no message")
        return handler.request_deserializer(raw)
    except Exception:
        context.abort(
            grpc.StatusCode.INTERNAL,
            "Exception deserializing request! Send one message of the method.",
        )
