"""Opens connections to a server, with retries and encryption, and explains failures.

gRPC itself retries, as the service config below says, so both clients retry alike:

- While a server cannot be reached, gRPC waits for it until the deadline (`wait_for_ready`). Trying
  to connect costs a dead server nothing, so no budget limits it.
- A request is sent again if the server answers UNAVAILABLE, if the server cancels it while it
  stops, or if its connection breaks. It is sent again at most four times, within the deadline and
  a budget of tokens. Each such failure takes one token and each answer returns a tenth of one;
  below half of the tokens nothing is sent again.
"""

import json
import pathlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import grpc

from cmclrec_tf.errors import InputError
from serving.client import loopback, protos
from serving.client.answers import ServingError
from serving.contract import MESSAGE_BYTES

Channel: TypeAlias = Any
"""A `grpc.Channel` or a `grpc.aio.Channel`; the methods of the latter return awaitables."""

# gRPC turns a longer timeout into a deadline in the past.
MAX_SECONDS = 86_400
# At the end of a deadline, used to find out whether connecting took that long.
_PROBE_SECONDS = 0.1
# Half of them can be spent at once: enough for all requests that run when a server dies.
_TOKENS = 400
_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    # A server that stops cancels the requests that it accepted and did not start. Requests that
    # the caller cancels never reach the retry policy.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
_SERVICES = sorted({service for service, _ in protos.METHODS.values()})
_FIXES = {
    grpc.StatusCode.UNAVAILABLE: "Start the server, or correct the target",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Set a longer timeout, or send fewer users at once",
    grpc.StatusCode.NOT_FOUND: "Correct the model name, or wait until the version is loaded",
    grpc.StatusCode.FAILED_PRECONDITION: "Serve a model that has the signature",
    grpc.StatusCode.UNIMPLEMENTED: "Point the target at TensorFlow Serving or at `cmclrec serve`",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Send fewer users at once, or try later",
    grpc.StatusCode.CANCELLED: "Send the request again",
    grpc.StatusCode.INTERNAL: "See the server's log",
}


def options(target: str) -> list[tuple[str, str | int]]:
    """Returns the options of a channel to a target."""
    config = {
        "methodConfig": [
            {"name": [{"service": name} for name in _SERVICES], "retryPolicy": _RETRY}
        ],
        "retryThrottling": {"maxTokens": _TOKENS, "tokenRatio": 0.1},
    }
    return [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        # gRPC does not retry a request that exceeds this buffer.
        ("grpc.per_rpc_retry_buffer_size", MESSAGE_BYTES),
        # Find a restarted server within a second; by default gRPC waits up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # This is also the time limit of one attempt to connect, TLS included.
        ("grpc.min_reconnect_backoff_ms", 5000),
        *loopback.channel_options(target),
    ]


def open_channel(
    library: ModuleType, target: str, credentials: grpc.ChannelCredentials | None
) -> Channel:
    """Opens a channel; a target on this machine never goes through a proxy.

    Args:
        library: the module `grpc` or `grpc.aio`.
        target: `host:port`.
        credentials: `grpc.ChannelCredentials`; None means no encryption.
    """
    if credentials is None:
        return library.insecure_channel(target, options=options(target))
    return library.secure_channel(target, credentials, options=options(target))


def methods(channel: Channel) -> dict[str, Callable[..., Any]]:
    """Returns `{name: callable}` of the methods that clients use."""
    return {
        name: channel.unary_unary(
            f"/{service}/{name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response.FromString,
        )
        for name, (service, response) in protos.METHODS.items()
    }


def probe(channel: Channel) -> Callable[[], Any]:
    """Returns a callable that fails with UNAVAILABLE and the reason if there is no connection.

    It calls a service without retries. Any other status means that there is a connection.
    """
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    return lambda: check(b"", timeout=_PROBE_SECONDS, wait_for_ready=False)


def request_seconds(timeout: float) -> float:
    """Returns the part of a timeout that the request may use; a probe may use the rest."""
    return timeout - min(_PROBE_SECONDS, timeout / 10)


def root_credentials(path: str | pathlib.Path) -> grpc.ChannelCredentials:
    """Returns credentials that trust only the certificates in a PEM file.

    Raises:
        InputError: the file cannot be read or holds no certificate.
    """
    try:
        roots = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            path, f"it must be a readable file ({error.strerror})", "Correct the path."
        ) from error
    if b"-----BEGIN CERTIFICATE-----" not in roots:
        raise InputError(
            path, "it must hold certificates in PEM", "Pass the file of the root certificates."
        )
    return grpc.ssl_channel_credentials(root_certificates=roots)


def checked_timeout(timeout: float) -> float:
    """Returns a timeout in seconds after checking it.

    Raises:
        InputError: it is not above 0, or it is longer than a day.
    """
    if not 0 < timeout <= MAX_SECONDS:
        raise InputError(
            f"timeout={timeout}", f"it must be in (0, {MAX_SECONDS}]", "Give it in seconds."
        )
    return timeout


def is_late(error: grpc.RpcError) -> bool:
    """Whether the deadline passed, while waiting for the server or for its answer."""
    return bool(error.code() == grpc.StatusCode.DEADLINE_EXCEEDED)


def is_unreachable(error: grpc.RpcError) -> bool:
    """Whether a probe failed because there is no connection."""
    return bool(error.code() == grpc.StatusCode.UNAVAILABLE)


def failure(target: str, name: str, error: grpc.RpcError) -> ServingError:
    """Returns the `ServingError` of a failed request.

    Args:
        target: `host:port` of the server.
        name: name of the request in the message.
        error: error of the request or of a probe.
    """
    code = error.code()
    details = " ".join((error.details() or "no details").split()).rstrip(".")
    fix = _FIXES.get(code, "Correct the request")
    return ServingError(code, f"{target}: {name} failed, {code.name}: {details}. {fix}.")
