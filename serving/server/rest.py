"""Serves TensorFlow Serving's REST interface and the Prometheus metrics."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent import futures
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow_serving.apis import model_pb2

from cmclrec_tf.errors import InputError
from serving.server import prometheus_metrics, requests, rest_json
from serving.server.api import as_request_errors

if TYPE_CHECKING:
    from serving.server.api import Api
    from serving.server.server_options import Options

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
_MODEL = r"/v1/models/{model:[^/:]+}"
_VERSIONS = ("", r"/versions/{version:\d{1,18}}", r"/labels/{label:[^/:]+}")


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
        metrics_path = options.metrics_path
        self._pool = futures.ThreadPoolExecutor(options.threads, thread_name_prefix="rest")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)
        self._thread.start()
        app = web.Application(client_max_size=api.limits.message_bytes)
        for version in _VERSIONS:
            app.router.add_post(f"{_MODEL}{version}:predict", self._predict)
            app.router.add_post(f"{_MODEL}{version}:{{method:classify|regress}}", self._other)
            app.router.add_get(f"{_MODEL}{version}/metadata", self._metadata)
            app.router.add_get(f"{_MODEL}{version}", self._status)
        if metrics_path:
            app.router.add_get(metrics_path, self._metrics)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
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
        await web.TCPSite(self._runner, host, port).start()
        return self._runner.addresses[0][1]

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
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _close(self, grace: float) -> None:
        for site in self._runner.sites:
            await site.stop()
        if self._runner.server is not None:
            await asyncio.sleep(0)  # lets requests that have just arrived start
            self._runner.server.pre_shutdown()
            # AppRunner takes its timeout when it is made, before the grace is known.
            await self._runner.server.shutdown(grace)
        await self._runner.cleanup()

    async def _answer(self, work: Callable[[], str]) -> web.Response:
        """Runs `work` in a thread and returns its JSON or its error as a response."""
        try:
            text = await asyncio.get_running_loop().run_in_executor(self._pool, _guarded, work)
        except requests.RequestError as error:
            return _error(_HTTP.get(error.code, 500), error.details)
        return web.Response(text=text, content_type="application/json")

    async def _predict(self, request: web.Request) -> web.Response:
        deadline = time.monotonic() + self._timeout
        try:
            raw = await asyncio.wait_for(request.read(), self._timeout)
        except asyncio.TimeoutError:
            return _error(408, "The body did not arrive in time. Send it faster.")
        except web.HTTPRequestEntityTooLarge:
            return _error(
                413,
                f"At most {self._api.limits.message_bytes} bytes are served. Split the request.",
            )

        def work() -> str:
            body = rest_json.Body(raw)
            spec = _spec(request, body.signature_name)
            answer = self._api.predict(
                "rest", spec, body.inputs, rest_json.decode_lists, body.output_filter, deadline
            )
            return json.dumps(rest_json.answer(answer.outputs, body.in_rows))

        return await self._answer(work)

    async def _metadata(self, request: web.Request) -> web.Response:
        return await self._answer(
            lambda: _as_json(self._api.metadata(_spec(request), ["signature_def"]))
        )

    async def _status(self, request: web.Request) -> web.Response:
        return await self._answer(lambda: _as_json(self._api.status(_spec(request))))

    async def _other(self, request: web.Request) -> web.Response:
        return _error(501, f"{request.match_info['method']} is not served. Use :predict.")

    async def _metrics(self, request: web.Request) -> web.Response:
        text = await asyncio.get_running_loop().run_in_executor(self._pool, self._api.metrics.text)
        return web.Response(body=text, headers={"Content-Type": prometheus_metrics.CONTENT_TYPE})


def _guarded(work: Callable[[], str]) -> str:
    with as_request_errors("REST"):
        return work()


def _spec(request: web.Request, signature_name: str = "") -> model_pb2.ModelSpec:
    """Returns the ModelSpec of a URL."""
    spec = model_pb2.ModelSpec(name=request.match_info["model"], signature_name=signature_name)
    if "version" in request.match_info:
        spec.version.value = int(request.match_info["version"])
    elif "label" in request.match_info:
        spec.version_label = request.match_info["label"]
    return spec


def _as_json(message: Message) -> str:
    return json_format.MessageToJson(
        message, including_default_value_fields=True, preserving_proto_field_name=True
    )


def _error(status: int, details: str) -> web.Response:
    return web.json_response({"error": details}, status=status)
