"""Serves TensorFlow Serving's REST interface and the Prometheus metrics."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent import futures
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from aiohttp import web
from google.protobuf import json_format

from cmclrec_tf.errors import InputError
from serving.server import logs, prometheus_metrics, requests, rest_body, rest_json, rest_paths
from serving.server.api import as_request_errors
from serving.server.connections import ConnectionGate, affordable
from serving.server.memory import Share, estimate

if TYPE_CHECKING:
    from serving.server.api import Api
    from serving.server.server_options import Options

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_CODE = grpc.StatusCode
# TensorFlow Serving's mapping.
_HTTP = {
    _CODE.CANCELLED: 499,
    _CODE.INVALID_ARGUMENT: 400,
    _CODE.FAILED_PRECONDITION: 400,
    _CODE.OUT_OF_RANGE: 400,
    _CODE.NOT_FOUND: 404,
    _CODE.RESOURCE_EXHAUSTED: 429,
    _CODE.UNIMPLEMENTED: 501,
    _CODE.UNAVAILABLE: 503,
    _CODE.DEADLINE_EXCEEDED: 504,
}
# protobuf 5.26 renamed the option.
_DEFAULTS = ("always_print_fields_with_no_presence", "including_default_value_fields")
# Reading on after an early answer lets callers see it; these seconds are enough.
_LINGER_SECONDS = 2.0
_POLL_SECONDS = 0.02


class Rest:
    """An HTTP server that runs in its own thread.

    Args:
        api: answers the requests.
        host: address to listen on.
        options: ports, timeout, metrics and number of threads.

    Attributes:
        port: port that it listens on.

    Raises:
        InputError: the port is not available, or the MonitoringConfig file cannot be read.
    """

    def __init__(self, api: Api, host: str, options: Options):
        self._api, self._timeout = api, options.rest_api_timeout_in_ms / 1000
        self._metrics_path = options.metrics_path
        self._pool = futures.ThreadPoolExecutor(options.threads, thread_name_prefix="rest")
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log_failure)
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)
        self._thread.start()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            # aiohttp would decompress in the event loop.
            auto_decompress=False,
            # A caller that closes its connection cancels its request.
            handler_cancellation=True,
            # Also limits how long the head of a request may take; for that of the first, and for
            # lines that are too long, aiohttp must be 3.14.4 or newer.
            keepalive_timeout=api.limits.idle_seconds,
            lingering_time=_LINGER_SECONDS,
            shutdown_timeout=_POLL_SECONDS,
            # aiohttp's messages quote the bytes of malformed requests.
            logger=logs.without_content("http"),
        )
        try:
            self.port = self._wait(self._listen(host, options.rest_api_port))
        except OSError as error:
            self.stop(0)
            raise InputError(
                f"REST port {options.rest_api_port} of {host}",
                f"it must be possible to listen there ({error.strerror})",
                "Choose another --rest_api_port.",
            ) from error

    async def _listen(self, host: str, port: int | None) -> int:
        await self._runner.setup()
        assert self._runner.server is not None  # setup made it
        most = affordable(self._api.limits.connections)
        self._gate = ConnectionGate(self._runner.server, most)
        self._listener = await self._loop.create_server(self._gate, host, port)
        return self._listener.sockets[0].getsockname()[1]

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stop(self, grace: float) -> None:
        """Refuses new connections; requests under way get `grace` seconds. Repeatable."""
        if self._loop.is_closed():
            return
        self._wait(self._close(grace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _close(self, grace: float) -> None:
        end = time.monotonic() + grace
        if self._listener is not None:
            self._listener.close()
        if self._runner.server is not None:
            await asyncio.sleep(0)  # lets requests that have just arrived start
            self._runner.server.pre_shutdown()
            while self._gate.is_busy and time.monotonic() < end:
                await asyncio.sleep(_POLL_SECONDS)
            # It waits twice as long, and for ever if the time is 0.
            await self._runner.server.shutdown(_POLL_SECONDS)
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        """Answers a request and sends the answer, which the caller must read in time."""
        share, transport = self._api.memory.share(), request.transport
        with self._gate.busy(transport):
            try:
                response = await self._response(request, share)
                if self._listener is not None and not self._listener.is_serving():
                    response.force_close()  # so that the caller does not send another
                try:
                    await asyncio.wait_for(_send(request, response), self._timeout)
                except asyncio.TimeoutError:
                    if transport is not None:
                        transport.abort()
                except ConnectionError:
                    pass
                return response
            finally:
                share.close()

    async def _response(self, request: web.Request, share: Share) -> web.Response:
        try:
            path = rest_paths.path_of(request.raw_path)
            if path == self._metrics_path and request.method == "GET":
                return await self._metrics()
            if not rest_paths.is_served(path):
                raise requests.RequestError(_CODE.NOT_FOUND, "There is nothing here. Send /v1/...")
            target = rest_paths.parse(request.method, path)
            if target.method == rest_paths.PREDICT:
                return await self._predict(request, target, share)
            if target.method == rest_paths.METADATA:
                read = lambda _: _as_json(self._api.metadata(target.spec(), ["signature_def"]))
            elif target.method == rest_paths.STATUS:
                read = lambda _: _as_json(self._api.status(target.spec()))
            else:
                raise requests.RequestError(
                    _CODE.UNIMPLEMENTED, f"{target.method} is not served. Use :predict."
                )
            return _json(await self._run(_Work(read, time.monotonic() + self._timeout), share))
        except requests.RequestError as error:
            return _error(_status(error), error.details)

    async def _predict(
        self, request: web.Request, target: rest_paths.Target, share: Share
    ) -> web.Response:
        deadline, limits = time.monotonic() + self._timeout, self._api.limits
        encoding = rest_body.encoding_of(request)
        if encoding not in rest_body.ENCODINGS:
            return _error(415, "This Content-Encoding is not served. Use gzip, deflate or none.")
        # The thread takes the body out, so that nothing else keeps it alive.
        bodies = [await rest_body.receive(request, limits.message_bytes, deadline, share)]

        def answer(check: Callable[[], None]) -> str:
            plain = rest_body.decompress(bodies.pop(), encoding, limits.message_bytes, share, check)
            share.resize(estimate(plain, rest_json.count_values(plain, limits)))
            body = rest_json.Body(plain, limits)
            del plain
            check()
            result = self._api.predict(
                "rest",
                target.spec(body.signature_name),
                body.inputs,
                rest_json.decode_lists,
                body.output_filter,
                check,
            )
            return json.dumps(rest_json.answer(result.outputs, body.in_rows))

        try:
            return _json(await self._run(_Work(answer, deadline), share))
        finally:
            bodies.clear()

    async def _run(self, work: _Work, share: Share) -> str:
        """Runs work in a thread; it stops early if nobody waits for it any more.

        Raises:
            RequestError: the error of the work, or DEADLINE_EXCEEDED.
        """
        future = self._pool.submit(work)
        try:
            return await asyncio.wait_for(
                asyncio.wrap_future(future), max(0.0, work.deadline - time.monotonic())
            )
        except asyncio.TimeoutError:
            raise requests.too_late() from None
        finally:
            if not future.done():
                work.is_wanted = False
                # The thread may still use the memory, until it notices.
                share.lend(future)

    async def _metrics(self) -> web.Response:
        text = await asyncio.get_running_loop().run_in_executor(self._pool, self._api.metrics.text)
        return web.Response(body=text, headers={"Content-Type": prometheus_metrics.CONTENT_TYPE})


class _Work:
    """A function that answers a request in a thread, and stops early if nobody waits for it.

    Args:
        function: returns the answer; its argument raises a `RequestError` if nobody waits for it.
        deadline: when the answer is of no use, by `time.monotonic`.

    Attributes:
        is_wanted: whether a caller waits for the answer.
    """

    def __init__(self, function: Callable[[Callable[[], None]], str], deadline: float):
        self._function, self.deadline, self.is_wanted = function, deadline, True

    def __call__(self) -> str:
        try:
            with as_request_errors("REST"):
                self.check()
                return self._function(self.check)
        except requests.RequestError as error:
            # The future keeps the error, and a traceback would keep the body.
            error.__context__ = None
            raise error.with_traceback(None) from None

    def check(self) -> None:
        """Raises a `RequestError` if nobody waits for the answer any more."""
        requests.check_wanted(self.deadline, self.is_wanted)


async def _send(request: web.Request, response: web.Response) -> None:
    await response.prepare(request)
    await response.write_eof()


def _log_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    reason = type(context.get("exception")).__name__
    logs.event(_LOG, logging.ERROR, "event loop failure", reason=reason)


def with_defaults(function: Callable[..., str]) -> Callable[..., str]:
    """Returns `json_format.MessageToJson` of any protobuf, so that it writes default values too."""
    parameters = inspect.signature(function).parameters
    options = {name: True for name in _DEFAULTS if name in parameters}
    return functools.partial(function, preserving_proto_field_name=True, **options)


_as_json = with_defaults(json_format.MessageToJson)


def _status(error: requests.RequestError) -> int:
    if isinstance(error, rest_body.TooLateError):
        return 408
    return 413 if isinstance(error, rest_body.TooLargeError) else _HTTP.get(error.code, 500)


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")


def _error(status: int, details: str) -> web.Response:
    return web.json_response({"error": details}, status=status)
